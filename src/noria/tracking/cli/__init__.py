"""``noria runs``. Its commands are imported when they are called."""

from __future__ import annotations

from noria.terminal import LazyGroup

_HERE = "noria.tracking.cli"
_COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("looking:list_", "List runs, newest first, or search them."),
    "show": ("looking:show", "Show what a run said, read and made."),
    "compare": ("comparing:compare", "Compare runs: what differs, and which is best."),
    "metrics": ("curves:metrics", "Show the metrics of a run, or the curve of one."),
    "logs": ("curves:logs", "Show what a run printed."),
    "traces": ("traces:traces", "List traces of applications, or search them."),
    "trace": ("traces:trace", "Show a trace as the tree of its spans."),
    "export": ("exporting:export", "Write runs or their points to a file: csv, JSON lines, Parquet."),
    "experiments": ("experiments:experiments", "Experiments: list, create, rename, delete, restore."),
    "move": ("changing:move", "Put runs into another experiment."),
    "note": ("changing:note", "Write a note about a run or an experiment, or show it."),
    "tag": ("changing:tag", "Set or remove tags of a run or an experiment."),
    "delete": ("changing:delete", "Put runs into the bin."),
    "purge": ("changing:purge", "Delete runs of the bin for good."),
    "restore": ("changing:restore", "Bring runs back from the bin."),
}

runs = LazyGroup(
    "runs",
    lazy={name: (f"{_HERE}.{place}", help) for name, (place, help) in _COMMANDS.items()},
    sections={
        "Looking": ["list", "show", "compare", "metrics", "export", "logs", "traces", "trace"],
        "Order": ["experiments", "move", "note", "tag", "delete", "restore", "purge"],
    },
    help="What ran: list, show, compare, metrics, experiments, notes, bin.",
)
