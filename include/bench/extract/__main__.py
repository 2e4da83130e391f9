"""
Extraction beside the libraries that do the same: ``python -m include.bench.extract`` (``make bench-extract``).

Accuracy on our own cases (``tests/soar/extract/extraction_cases``), speed on three corpora made here, and hostile
texts. Each library is installed into a throw-away environment of its own and runs in a process of its own that can be
ended.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from include.bench.__main__ import heading, tell
from include.bench.extract.compare import PEERS, SIZE, accuracy, environments, hostile, speed

#: What is written stands between these lines of the file.
BEGIN, END = "<!-- measured: written by make bench-extract -->\n", "<!-- end of what was measured -->\n"


def write(path: Path, printed: str) -> None:
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{path} has no place for what was measured")
    path.write_text(f"{before}{BEGIN}\n```text\n{printed.rstrip()}\n```\n\n{END}{after}", encoding="utf-8")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m include.bench.extract", description=__doc__)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="only these (none: ours)")
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it works, not how fast it is")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put it into this file, between its two marks")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    printed = [heading(datetime.now(UTC)).splitlines()[0]]
    print(printed[0], end="\n\n", flush=True)
    size, rounds, sizes = (20_000, 1, [SIZE]) if options.quick else (500_000, 5, [SIZE, 1_048_576, 5_242_880])
    with environments(options.peers) as workers:
        for what, measure in (
            ("accuracy", lambda: accuracy(workers)),
            ("speed", lambda: speed(workers, size, rounds)),
            ("hostile texts", lambda: hostile(workers, sizes)),
        ):
            tell(f"Measuring {what}")
            printed.append(f"{measure()}\nLoad average when this was done: {os.getloadavg()[0]:.1f}.\n")
            print(printed[-1], flush=True)
    if options.write:
        write(options.write, "\n\n".join(printed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
