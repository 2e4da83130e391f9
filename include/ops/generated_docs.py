"""Parts of the documents that follow from the code: ``python -m include.ops.generated_docs`` writes them anew.

A test compares each of them with what is in the document.
"""

from __future__ import annotations

import re
from pathlib import Path

from threat_response.config import CONFIG, SECTION

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENT = ROOT / "docs/deployment.md"

_OPTIONS = re.compile(r"(<!-- options:begin -->\n).*(<!-- options:end -->\n)", re.DOTALL)
_TRIES = re.compile(r"tried \d+ times")


def options_table() -> str:
    """The options of our section of Airflow's configuration, as Markdown."""
    rows = ["| Option | Default | Means |", "|---|---|---|"]
    for name, option in CONFIG[SECTION]["options"].items():
        example = f" E.g. `{option['example']}`" if option["example"] else ""
        default = f"`{option['default']}`" if option["default"] else "empty"
        rows.append(f"| `{name}` | {default} | {option['description']}{example} |")
    return "\n".join(rows) + "\n"


def with_options(text: str) -> str:
    """
    A document with the table of options between its two marks.

    :raises ValueError: the marks are not in it
    """
    made, found = _OPTIONS.subn(lambda marks: marks[1] + options_table() + marks[2], text)
    if found != 1:
        raise ValueError("the document has not the marks <!-- options:begin --> and <!-- options:end --> once")
    return made


def with_tries(text: str, retries: int) -> str:
    """
    A document whose sentence about tries has the DAG's number: the first try and its ``retries``.

    :raises ValueError: there is no such sentence, or several
    """
    made, found = _TRIES.subn(f"tried {retries + 1} times", text)
    if found != 1:
        raise ValueError(f"the document says {found} times how often a task is tried, instead of once")
    return made


if __name__ == "__main__":
    DEPLOYMENT.write_text(with_options(DEPLOYMENT.read_text("utf-8")), "utf-8")
