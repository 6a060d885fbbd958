"""How long the demo takes and how much memory all its processes hold at the peak.

``python -m bench.demo [--quick]``: minutes, so it is not part of ``bench.run``. Memory is the proportional set size
(pages that several processes share count once), summed over the demo, its server and everything below them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

_EVERY = 3.0
"""Seconds between two looks: the kernel walks all pages of all processes for one, which is a twentieth of a core."""


def memory(folder: Path, demo: int) -> int:
    """Bytes that the demo's processes hold now."""
    roots = [demo]
    note = folder / ".noria" / "demo-server.json"
    if note.exists():
        roots.append(json.loads(note.read_text(encoding="utf-8"))["pid"])
    total = 0
    seen: set[int] = set()
    for root in roots:
        try:
            parent = psutil.Process(root)
            family = [parent, *parent.children(recursive=True)]
        except psutil.Error:
            continue
        for process in family:
            if process.pid in seen:
                continue
            seen.add(process.pid)
            try:
                total += process.memory_full_info().pss
            except (psutil.Error, AttributeError):
                continue
    return total


def main() -> None:
    """Runs the demo once, and prints its stages, its time and its peak of memory."""
    folder = Path(tempfile.mkdtemp(prefix="noria-demo-")) / "demo"
    command = [sys.executable, "-m", "noria", "demo", "--json", "--no-keep", "--folder", str(folder), *sys.argv[1:]]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    peak = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY):
            peak[0] = max(peak[0], memory(folder, process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    ended.set()
    watcher.join()
    found = json.loads(out)
    for stage, seconds in found["seconds"]["stages"].items():
        print(f"{seconds:8.1f} s  {stage}")
    print(f"{time.monotonic() - began:8.1f} s  in all")
    print(f"{peak[0] / (1 << 20):8.0f} MiB  at the peak, all processes")
    print(f"{found['predictions_served']:,} predictions, {found['lost_predictions']} lost")
    print(json.dumps({k: v for k, v in found.items() if k != "here"}), file=sys.stderr)


if __name__ == "__main__":
    main()
