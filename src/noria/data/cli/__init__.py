"""``noria data``. Its commands are imported when they are called: those of files never pay for Polars."""

from __future__ import annotations

from noria.terminal import LazyGroup

_HERE = "noria.data.cli"
_COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("repositories:list_", "List the repositories."),
    "create": ("repositories:create", "Make a repository."),
    "show": ("repositories:show", "Show branches, columns and contract; with REF, one commit."),
    "commit": ("files:commit", "Commit a folder (repository of files) or a table file (CSV, Parquet, JSON lines)."),
    "status": ("files:status", "Show how a folder differs from the head."),
    "checkout": ("files:checkout", "Make a folder equal to a commit, writing only what differs."),
    "ls": ("access:ls", "List the files of a commit."),
    "cat": ("access:cat", "Write the bytes of a file to the standard output."),
    "append": ("tables:append", "Append, overwrite or delete rows of a table from a file."),
    "alter": ("columns:alter", "Add, drop, rename or widen columns of a table, or give it a key."),
    "compact": ("columns:compact", "Write the files of a table anew, in full size; its version stays."),
    "history": ("tables:history", "Show what happened to one row of a table, by its key."),
    "read": ("tables:read", "Show rows of a table, or write them to a file."),
    "log": ("history:log", "Show the history, newest first."),
    "moves": ("history:moves", "Show where branches went, newest first: who moved them, when, by what, from and to."),
    "diff": ("history:diff", "Compare two commits: files, or rows with samples."),
    "put": ("changing:put", "Commit one file, from FILE or from the standard input (-), without a folder."),
    "rm": ("changing:rm", "Delete paths, folders or patterns like 'raw/*.tmp' in one commit."),
    "cp": ("changing:cp", "Copy a path or folder inside a repository; no byte is moved."),
    "mv": ("changing:mv", "Rename a path or folder inside a repository; no byte is moved."),
    "start": ("changing:start", "Open a commit that many writers fill; it lands when it is finished."),
    "drafts": ("changing:drafts", "List the commits that are open."),
    "finish": ("changing:finish", "Land an open commit; where the branch went on meanwhile, the two are merged."),
    "abandon": ("changing:abandon", "Give an open commit up."),
    "branch": ("history:branch", "Make a branch, remove one, or list them."),
    "tag": ("history:tag", "Give a commit a name that does not move, remove one, or list them."),
    "merge": ("branches:merge", "Bring what happened on a branch, tag or commit into a branch."),
    "revert": ("branches:revert", "Take back what a commit did, in a new commit; later changes stay."),
    "cherry-pick": ("branches:cherry_pick", "Do on a branch what a commit did elsewhere."),
    "reset": ("branches:reset", "Move a branch to another commit; what it held is found by its id until it is pruned."),
    "squash": (
        "branches:squash",
        "Make one commit of all that came after SINCE; those between are gone for good.",
    ),
    "drop": ("branches:drop", "Take the newest commits of a branch away for good."),
    "prune": ("branches:prune", "Remove commits that no branch, tag or open commit leads to."),
    "collect": (
        "collecting:collect",
        "Read what is new in a source of the project, and commit it. `noria run` does it by itself.",
    ),
    "produce": ("producing:produce", "Append the records of a file in numbered batches, each exactly once."),
    "records": ("producing:records", "Show what was written to a table, in order, with offsets."),
    "watch": ("collecting:watch", "Take what comes into a folder, again and again, until Ctrl-C."),
    "clone": ("transfer:clone", "Make a repository from one of another workspace, with its whole history."),
    "push": ("transfer:push", "Send what is new here to another workspace."),
    "pull": ("transfer:pull", "Bring what is new in another workspace, and move the branches here."),
    "fetch": ("transfer:fetch", "Bring what is new in another workspace; branches here stay where they are."),
    "remote": ("transfer:remote", "Other workspaces that hold the same repository."),
    "import": ("transfer:import_", "Take over the data of another tool."),
    "contract": ("contracts:contract", "What a batch has to be before it may land."),
    "gc": ("care:gc", "Remove stored bytes that nothing needs; shows what would go, and does it with --run."),
    "hooks": ("hooks:hooks", "List the hooks of the project that was applied last."),
    "storage": ("care:storage", "Show what repositories, or the commits of one, need of the store."),
    "check": ("care:check", "Check that every commit has its bytes; names pack, offset, and who uses what is damaged."),
    "repair": ("care:repair", "Heal what can be healed, set damaged packs aside; never makes anything up."),
    "purge": (
        "care:purge",
        "Erase paths or rows from all history, bytes and all; shows what would go, and does it with --yes.",
    ),
    "erasures": ("care:erasures", "List what was erased, when, by whom and why; never what it held."),
    "delete": ("care:delete", "Delete a repository with its whole history; its name stays in the lineage."),
    "quarantine": ("contracts:quarantine", "Batches that a contract refused."),
}

_SECTIONS = {
    "Repositories": ["list", "create", "show", "delete"],
    "A folder of files": ["commit", "status", "checkout"],
    "Single paths": ["ls", "cat", "put", "rm", "cp", "mv"],
    "Tables": ["append", "read", "history", "alter", "compact"],
    "History": ["log", "moves", "diff", "branch", "tag", "merge", "revert", "cherry-pick", "reset"],
    "Commits of many writers": ["start", "drafts", "finish", "abandon"],
    "What comes in": ["collect", "watch", "produce", "records", "import"],
    "What may land": ["contract", "quarantine", "hooks"],
    "Other workspaces": ["clone", "push", "pull", "fetch", "remote"],
    "The store": ["storage", "check", "repair", "gc"],
    "For good": ["squash", "drop", "prune", "purge", "erasures"],
}

data = LazyGroup(
    "data",
    sections=_SECTIONS,
    lazy={name: (f"{_HERE}.{where}", text) for name, (where, text) in _COMMANDS.items()},
    help="Versioned data: files and tables, branches, merges, contracts, sources, other workspaces.",
)
