"""
What a batch's memory, checks, journal and results cost, by how many jobs it has: whether they grow with it in a line.

It takes some minutes: ``python -m bench scale`` runs it alone. There is no counterpart, but the smaller batch.

Each size has a process of its own (:mod:`bench.scale_side`), and takes its turn in each round. It reads a CSV manifest
and validates its jobs; writes the journal as a worker does that fills the default of slots, a quarter of them at a
time; reads it back as the next try does; and writes the results. No request is sent. The journal is on the local disk.

Memory is the peak of the resident set, as the kernel counts it, less that of a process that does the same for one job.
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import show

SIZES = (1000, 3000, 10_000)
ROUNDS = 3
TARGET = 1.5
"""What a job costs among the most, over what it costs among the fewest. Growing with their square, it would be 10."""
STEPS = {
    "validation": "manifest read, jobs validated",
    "writing": "journal written",
    "reading": "journal read back",
    "results": "results written",
}


def measure() -> dict[int, list[dict[str, Any]]]:
    """Return what each process found, by size; the size 1 is the baseline."""
    found: dict[int, list[dict[str, Any]]] = {size: [] for size in (1, *SIZES)}
    with tempfile.TemporaryDirectory(prefix="veo-bench-scale-", ignore_cleanup_errors=True) as folder:
        for size in found:
            _write_manifest(Path(folder) / f"{size}.csv", size)
        for turn in range(ROUNDS):
            for size in reversed(found) if turn % 2 else found:
                found[size].append(_run(Path(folder), size, turn))
    return found


def report(found: dict[int, list[dict[str, Any]]]) -> None:
    """Print the table, and the verdicts."""
    table = show.table(
        f"A batch by its number of jobs: {ROUNDS} processes each, median",
        "for each job",
        *(f"{size:,} jobs" for size in SIZES),
        f"{SIZES[-1]:,} over {SIZES[0]:,}",
    )
    costs = {name: [_of_a_job(found, size, step) for size in SIZES] for step, name in STEPS.items()}
    for name, seconds in costs.items():
        table.add_row(name, *(f"{each * 1e6:.0f} µs" for each in seconds), f"{seconds[-1] / seconds[0]:.2f}")
    memory = [_memory(found, size) for size in SIZES]
    table.add_row("peak memory", *(f"{each / 1024:.1f} KiB" for each in memory), f"{memory[-1] / memory[0]:.2f}")
    kept = [_of_a_job(found, size, "bytes") for size in SIZES]
    table.add_row("journal's bytes", *(f"{each:.0f}" for each in kept), f"{kept[-1] / kept[0]:.2f}")
    files = [found[size][0]["files"] for size in SIZES]
    table.add_row("journal's files, in all", *map(str, files), f"{files[-1] / files[0]:.2f}")
    show.console.print(table)
    for name, of_a_job in {**costs, "peak memory": memory}.items():
        show.console.print(f"For each job, {name}: {show.verdict(of_a_job[-1] / of_a_job[0], TARGET)}")


def _of_a_job(found: dict[int, list[dict[str, Any]]], size: int, what: str) -> float:
    return statistics.median(run[what] for run in found[size]) / size


def _memory(found: dict[int, list[dict[str, Any]]], size: int) -> float:
    baseline = statistics.median(run["peak"] for run in found[1])
    return (statistics.median(run["peak"] for run in found[size]) - baseline) / size


def _write_manifest(path: Path, size: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "prompt", "model", "images", "aspect_ratio"])
        for n in range(size):
            prompt = f"雨夜的上海外滩，一只橘猫撑着红色油纸伞走过湿漉漉的石板路，镜头缓缓推近, take {n}"
            images = "|".join(f"https://cdn.example.com/elements/{n}/{name}.png" for name in ("cat", "umbrella"))
            rows.writerow([f"shot-{n:05}", prompt, "veo3.1-components", images, "9:16"])


def _run(folder: Path, size: int, turn: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.scale_side", str(folder / f"{size}.csv"), str(folder / f"{size}-{turn}")]
    root = Path(__file__).resolve().parent.parent
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root).stdout
    return json.loads(output.splitlines()[-1])
