"""The control server: mounts every room, guards the door, turns the loop."""

from __future__ import annotations
