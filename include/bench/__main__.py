"""Measure, and print each number beside what it is compared with: ``python -m include.bench`` (``make bench``).

1 parsers, extraction, the gate, and how good the verdicts are; 2 every stage against the simulators; 3 a whole run
beside one of empty tasks; 4 what the questions to the reputation sources cost, and how fast they are asked; 5 what
reading the DAG file and a task's start cost, cold and warm.
Machines are noisy: compare ratios, and only within one call.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m include.bench", description=__doc__)
    parser.add_argument("--only", type=int, choices=(1, 2, 3, 4, 5), help="one of the measurements")
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it works, not how fast it is")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write what is printed, as Markdown")
    return parser.parse_args(given)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tables(only: int | None, quick: bool) -> Iterator[str]:
    """Imported one by one: the second needs its environment before Airflow is imported."""
    findings, high = (120, 8) if quick else (1000, 50)
    if only in (None, 1):
        from include.bench import decide_path, evaluation, pure
        from include.bench.response import measured as response

        tell("Measuring parsers, extraction and the gate")
        yield from pure.report(
            findings=findings, hostile_size=50_000 if quick else 5_000_000, repeats=1 if quick else 5
        )
        tell("Deciding the demo day")
        yield from evaluation.report()
        tell("Responding to attackers and to honest people")
        yield from response.report(attackers=100 if quick else 1000)
        tell("Following an address through decide")
        yield decide_path.report(findings=findings, rounds=1 if quick else 5)
    if only in (None, 2):
        from include.bench import stages

        tell("Measuring the stages against the simulators")
        yield from stages.report(findings=findings, high=high, rounds=1 if quick else 3)
        from include.bench.blocks.__main__ import report

        tell("Blocking by the thousand on three controls")
        yield from report((20, 200) if quick else (1_000, 10_000))
    if only in (None, 3):
        from include.bench import whole

        tell("Measuring whole runs under Airflow")
        yield from whole.report(findings=findings, high=high, pairs=1 if quick else 2, tell=tell)
    if only in (None, 4):
        from include.bench import enrichment

        tell("Asking the reputation sources")
        yield from enrichment.report(days=1 if quick else 7, values=100 if quick else 1000)
    if only in (None, 5):
        from include.bench import dag_import, start

        tell("Reading the DAG file")
        yield dag_import.report(repeats=1 if quick else 7)
        tell("Starting tasks, cold and warm")
        yield from start.report(repeats=1 if quick else 5)


def heading(now: datetime) -> str:
    return (
        f"{now:%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}.\n"
        "These are one machine's numbers on one day: compare the ratios, not the seconds.\n"
        "A ratio is ours by the other's: below 1 x ours is faster."
    )


def markdown(head: str, printed: list[str]) -> str:
    body = "\n".join(f"```text\n{text.rstrip()}\n```\n" for text in printed)
    return f"# Benchmarks\n\nWritten by `python -m include.bench --write docs/benchmarks.md`. {head}\n\n{body}"


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    # So that what was started is ended on SIGTERM as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started_at = time.monotonic()
    head, printed = heading(datetime.now(UTC)), []
    print(head, end="\n\n", flush=True)
    try:
        for text in tables(options.only, options.quick):
            # What else the machine was doing says how far to trust the seconds.
            printed.append(f"{text}\nLoad average when this was done: {os.getloadavg()[0]:.1f}.\n")
            print(printed[-1], flush=True)
    except Exception:
        # The stages send all logging nowhere, and with Airflow's that is the interpreter's own last word as well.
        traceback.print_exc()
        return 1
    if options.write:
        options.write.write_text(markdown(head, printed), encoding="utf-8")
    tell(f"Measured in {time.monotonic() - started_at:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
