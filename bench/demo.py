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


def memory(folder: Path, demo: int) -> list[tuple[int, str]]:
    """(bytes that it holds now, what it is) of each of the demo's processes."""
    roots = [demo]
    note = folder / ".noria" / "demo-server.json"
    if note.exists():
        roots.append(json.loads(note.read_text(encoding="utf-8"))["pid"])
    found: list[tuple[int, str]] = []
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
                words = [w for w in process.cmdline()[1:] if not w.startswith(("-", "/", "{"))]
                found.append((process.memory_full_info().pss, " ".join(words[:4])))
            except (psutil.Error, AttributeError):
                continue
    return found


def main() -> None:
    """Runs the demo once, and prints its stages, its time and its peak of memory."""
    folder = Path(tempfile.mkdtemp(prefix="noria-demo-")) / "demo"
    command = [sys.executable, "-m", "noria", "demo", "--json", "--no-keep", "--folder", str(folder), *sys.argv[1:]]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    peak: list[tuple[int, str]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY):
            now = memory(folder, process.pid)
            if sum(size for size, _ in now) > sum(size for size, _ in peak):
                peak[:] = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    ended.set()
    watcher.join()
    found = json.loads(out)
    for stage, seconds in found["seconds"]["stages"].items():
        print(f"{seconds:8.1f} s  {stage}")
    print(f"{time.monotonic() - began:8.1f} s  in all")
    print(f"{sum(size for size, _ in peak) / (1 << 20):8.0f} MiB  at the peak, all processes:")
    for size, name in sorted(peak, reverse=True):
        print(f"{size / (1 << 20):8.0f} MiB    {name}")
    print(f"{found['predictions_served']:,} predictions, {found['lost_predictions']} lost")
    print(json.dumps({k: v for k, v in found.items() if k != "here"}), file=sys.stderr)


if __name__ == "__main__":
    main()
