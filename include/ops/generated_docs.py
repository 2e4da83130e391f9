"""Parts of the documents that follow from the code. Each stands between two markers, and a test compares it.

``python -m include.ops.generated_docs`` writes them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from include.soar.judge.refusals import REFUSALS

ROOT = Path(__file__).resolve().parents[2]


def refusals_table() -> str:
    """Every rule by which an indicator is refused, in the order in which the rules are asked."""
    lines = ["| # | Rule | An observable is refused when |", "|---|---|---|"]
    for number, rule in enumerate(REFUSALS, 1):
        sentence = (rule.__doc__ or "").strip().splitlines()[0].rstrip(".")
        lines.append(f"| {number} | {rule.__name__.replace('_', ' ')} | {sentence[0].lower()}{sentence[1:]} |")
    return "\n".join(lines)


#: Document -> name of the part between its markers -> what the part is.
PARTS: dict[str, dict[str, Callable[[], str]]] = {"docs/dataflow.md": {"refusals": refusals_table}}


def with_parts(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """
    A document with its generated parts as they are now.

    :raises ValueError: a marker is missing
    """
    for name, make in parts.items():
        start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise ValueError(f"there must be one {start} and one {end}")
        before, _, rest = text.partition(start)
        after = rest.partition(end)[2]
        text = f"{before}{start}\n{make()}\n{end}{after}"
    return text


def main() -> int:
    for name, parts in PARTS.items():
        path = ROOT / name
        path.write_text(with_parts(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
