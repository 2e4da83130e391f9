"""Blocks by the thousand, each number in a process of its own: ``python -m include.bench.blocks``."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.bench.blocks.minimum import minimum
from include.bench.blocks.story import CONTROLS, Measured, Story, StoryFailed, seeds
from include.bench.measure import table, times

SIZES = (1_000, 10_000)


def report(sizes: Sequence[int] = SIZES) -> Iterator[str]:
    """:param sizes: numbers of blocks, the smaller first"""
    yield render([(size, *measured(size)) for size in sizes])


def measured(size: int) -> tuple[list[Measured], float]:
    """The steps, and the peak memory in MiB, of a process that does nothing else."""
    command = [sys.executable, "-m", "include.bench.blocks", "--worker", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StoryFailed((done.stderr or done.stdout)[-2000:])
    answer = json.loads(done.stdout.splitlines()[-1])
    steps = [Measured(name, seconds, Counter(calls)) for name, seconds, calls in answer["steps"]]
    return steps, answer["peak"]


def work(size: int) -> dict[str, Any]:
    """The whole story against fresh simulators in a process of their own."""
    from include.bench.stages import settle_in, simulators

    with tempfile.TemporaryDirectory(prefix="threat-response-bench-", ignore_cleanup_errors=True) as folder:
        home, now = Path(folder), datetime.now(UTC)
        with simulators(home) as simulated:
            settle_in(home, simulated)
            os.environ["AIRFLOW__THREAT_RESPONSE__HOME"] = str(home)
            simulated.fresh(dict(seeds(now)))
            steps = Story(size, simulated.take_calls, now).run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"steps": [(s.name, s.seconds, s.calls) for s in steps], "peak": peak}


def render(runs: Sequence[tuple[int, list[Measured], float]]) -> str:
    (few, small, _), (many, large, _) = runs[0], runs[-1]
    rows = []
    total: list[float] = [0, 0, 0, 0]
    for less, more in zip(small, large, strict=True):
        calls, least = more.calls.total(), least_of(more.name, many)
        grown = more.seconds / less.seconds * few / many
        rows.append((more.name, less.seconds, more.seconds, f"{grown:.2f} x", calls, least, times(calls, least)))
        total = [a + b for a, b in zip(total, (less.seconds, more.seconds, calls, least), strict=True)]
    grown = total[1] / total[0] * few / many
    calls, least = int(total[2]), int(total[3])
    rows.append(("all", total[0], total[1], f"{grown:.2f} x", calls, least, times(calls, least)))
    return table(
        f"2b. {many:,} blocks on three controls",
        ("step", f"{few:,}: s", f"{many:,}: s", "growth by linear", "calls", "minimum", "against it"),
        rows,
        f"Peak memory of the process: {'; '.join(f'{size:,} blocks {peak:,.0f} MiB' for size, _, peak in runs)}.",
        f"Calls and minimum are those of {many:,}. The minimum looks once, writes once, reads back once, with as",
        "many values at a time as the vendor documents or its clients are known to send (blocks/minimum.py).",
        "Each step is one task of the workflow, in one process, over loopback; the simulators run in another.",
    )


def least_of(step: str, count: int) -> int:
    """The minimum of a step over the products that it asks."""
    match step.split():
        case ["plan" | "unchanged"]:
            return sum(minimum(f"{step} {product}", count) for product in CONTROLS)
        case ["ask", *_]:
            return 0
    return minimum(step, count)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.bench.blocks", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, help="two numbers of blocks")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.worker:
        try:
            print(json.dumps(work(options.worker)), flush=True)
        except Exception:
            # All logging goes nowhere, and with Airflow's that is the interpreter's own last word as well.
            traceback.print_exc()
            return 1
    else:
        print(*report(options.sizes), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
