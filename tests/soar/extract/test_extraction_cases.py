"""Our own cases of extraction, grouped by topic in ``extraction_cases/``: what is found, and nothing else.

``expect`` is what stands there by itself. The hosts of URLs (``derived``) may be found as well, in any number.
``steps`` is what has to be decoded to see each of the expected values.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.soar.extract.text import extract_text
from include.soar.model import Observable, ObservableType

FOLDER = Path(__file__).parent / "extraction_cases"
TOPICS = sorted(FOLDER.glob("*.yaml"))
CASES: list[dict[str, Any]] = [
    case for topic in TOPICS for case in yaml.load(topic.read_text(encoding="utf-8"), yaml.CSafeLoader)
]


def wanted(case: dict[str, Any]) -> set[Observable]:
    return {Observable(type=ObservableType(kind), value=v) for kind, values in case["expect"].items() for v in values}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_extraction(case: dict[str, Any]) -> None:
    found = extract_text(case["text"])
    expected = wanted(case)
    assert expected - {item.observable for item in found} == set()
    assert {item.observable for item in found if not item.derived} - expected == set()
    if "steps" in case:
        assert {item.steps for item in found if item.observable in expected} == {tuple(case["steps"])}


def test_the_cases_are_many_and_named_once() -> None:
    assert [name for name, times in Counter(case["id"] for case in CASES).items() if times > 1] == []
    assert len(CASES) >= 350
    assert {case["id"].split("-", 1)[0] for case in CASES} == {topic.stem.split("-", 1)[0] for topic in TOPICS}
    assert {kind for case in CASES for kind in case["expect"]} == set(ObservableType)
