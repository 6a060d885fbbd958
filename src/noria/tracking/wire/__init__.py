"""Wire shapes of the room: what HTTP sends and what `--json` prints."""
