"""What the documents refer to exists: links and their anchors, paths of the project, and a reason for each package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.project.source import name

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "plugins/threat_response/vendors").glob("*/README.md"),
    ]
)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:include|plugins|dags|tests|docs)/[\w./-]+)`")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
#: They tell of what was, and its paths with it.
OF_THE_PAST = ("CHANGELOG.md", "benchmarks.md")
#: Of the examples that a reader makes by the document.
EXAMPLES = ("acme_", "notify.py")


def links(text: str) -> list[str]:
    return [first or second for first, second in _LINK.findall(_FENCE.sub("", text))]


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", _FENCE.sub("", path.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problem(document: Path, link: str) -> str | None:
    """What is wrong with a link of a document; None for a good one, and for one that leads elsewhere."""
    if re.match(r"[a-z]+:", link):
        return None
    target, _, anchor = link.partition("#")
    path = (document.parent / target).resolve() if target else document
    if not path.exists():
        return f"{link}: there is no such file"
    if anchor and path.suffix == ".md" and anchor not in anchors(path):
        return f"{link}: there is no such heading"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(document: Path) -> None:
    found = [problem(document, link) for link in links(document.read_text("utf-8"))]
    assert [one for one in found if one] == []


def test_the_check_of_links_finds_a_bad_one() -> None:
    readme = ROOT / "README.md"
    assert links("[a](b.md) ![p](c.png) [two\nlines](d.md#e)\n```\n[no](x)\n```\n") == ["b.md", "c.png", "d.md#e"]
    assert problem(readme, "docs/runbook.md#stage-by-stage") is None
    assert problem(readme, "https://vendor.example/") is None
    assert problem(readme, "docs/none.md") is not None
    assert problem(readme, "docs/runbook.md#none") is not None


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.name not in OF_THE_PAST], ids=name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    named = {path for path in _PATH.findall(document.read_text("utf-8")) if not any(one in path for one in EXAMPLES)}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("file", ["requirements.in", "requirements-dev.in", "pyproject.toml"])
def test_every_package_that_we_chose_has_its_reason(file: str) -> None:
    """CONTRIBUTING.md asks for it."""
    text = (ROOT / file).read_text("utf-8")
    if file == "pyproject.toml":
        [text] = re.findall(r"^requires = \[(.*)\]$", text, re.M)
        packages = re.findall(r'"([\w-]+)', text)
    else:
        packages = re.findall(r"^([A-Za-z][\w-]*)", text, re.M)
    reasons = (ROOT / "docs/decisions/0011-dependencies.md").read_text("utf-8").lower()
    assert packages
    assert [package for package in packages if f"`{package.lower()}`" not in reasons] == []
