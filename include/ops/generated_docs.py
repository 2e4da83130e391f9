"""Parts of the documents that follow from the code. Each stands between two markers, and a test compares it.

``python -m include.ops.generated_docs`` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from include.soar.judge.refusals import REFUSALS
from threat_response.config import CONFIG, SECTION

ROOT = Path(__file__).resolve().parents[2]

_TRIES = re.compile(r"tried \d+ times")


def refusals_table() -> str:
    """Every rule by which an indicator is refused, in the order in which the rules are asked."""
    lines = ["| # | Rule | An observable is refused when |", "|---|---|---|"]
    for number, rule in enumerate(REFUSALS, 1):
        sentence = (rule.__doc__ or "").strip().splitlines()[0].rstrip(".")
        lines.append(f"| {number} | {rule.__name__.replace('_', ' ')} | {sentence[0].lower()}{sentence[1:]} |")
    return "\n".join(lines)


def options_table() -> str:
    """The options of our section of Airflow's configuration."""
    rows = ["| Option | Default | Means |", "|---|---|---|"]
    for name, option in CONFIG[SECTION]["options"].items():
        example = f" E.g. `{option['example']}`" if option["example"] else ""
        default = f"`{option['default']}`" if option["default"] else "empty"
        rows.append(f"| `{name}` | {default} | {option['description']}{example} |")
    return "\n".join(rows)


#: Document -> name of the part between its markers -> what the part is.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/dataflow.md": {"refusals": refusals_table},
    "docs/deployment.md": {"options": options_table},
}
#: The document that says how often the DAG's tasks are tried.
RUNBOOK = "docs/runbook.md"


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


def with_tries(text: str, retries: int) -> str:
    """
    A document whose sentence about tries has the DAG's number: the first try and its ``retries``.

    :raises ValueError: there is no such sentence, or several
    """
    made, found = _TRIES.subn(f"tried {retries + 1} times", text)
    if found != 1:
        raise ValueError(f"the document says {found} times how often a task is tried, instead of once")
    return made


def main() -> int:
    from dags.api_threat_response import api_threat_response  # Airflow: where the documents are written only

    for name, parts in PARTS.items():
        path = ROOT / name
        path.write_text(with_parts(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
    runbook = ROOT / RUNBOOK
    retries = api_threat_response().default_args["retries"]
    runbook.write_text(with_tries(runbook.read_text(encoding="utf-8"), retries), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
