"""
Every sample answer of every vendor, with one member at a time made hostile or taken out.

What comes of it is a ``VendorError``, a record that is left out, or an answer that every store can carry. Never another
exception; and what is taken out never makes of "listed" a "not listed".

A part of the mutations is tried, by a fixed seed; ``MUTATIONS=all`` tries every one (minutes).
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, Frozen, Reputation
from include.soar.vendor.errors import VendorError
from tests.vendors.answers import Reading, all_readings

READINGS = all_readings()
#: Of each sample so many hostile values, and so many deletions, are tried.
VALUES, DELETIONS = 200, 60
SEED = 9

#: JSON that Python's own writer could not write, by the text that stands for it.
RAW = {
    "@long number": b"9" * 5000,
    "@lists": b"[" * 900 + b"]" * 900,
    "@objects": b'{"a":' * 900 + b"1" + b"}" * 900,
    "@infinite": b"1e400",
    "@half": rb'"\ud800x\udfff"',
    "@nul": rb'"a\u0000b"',
    "@spelled": rb'"\\u0000\\ud800"',
}
HOSTILE: list[Any] = [
    *(None, True, False, float("nan"), float("inf"), -1, 0, 0.5, 2**63, 10**400, -(10**400), 1e308),
    *("", " ", "x", "x" * 100_000, "9" * 5000, "-1", "1e400", "NaN", "../../etc", "203.0.113.77"),
    *("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "2026-11-24T00:00:00", 253402300800, -62135596801),
    *([], {}, [None], [[]], {"a": None}, {"": []}, ["x"] * 1000),
    *RAW,
]
#: Taken out, these say themselves that nothing is named: the object is another one.
SAY_SO = {
    "list_feed/drop_v4.json": {"cidr"},  # a line that names nothing: told, and kept aside
    "taxii/envelope.json": {"pattern", "type", "id", "objects"},
    "taxii/bundle20.json": {"pattern", "objects"},
}

Place = tuple[str | int, ...]


def _document(reading: Reading) -> Any:
    try:
        return json.loads(reading.body)
    except ValueError:
        return [json.loads(line) for line in reading.body.splitlines()]


def _body(reading: Reading, document: Any) -> bytes:
    try:
        json.loads(reading.body)
        text = json.dumps(document).encode()
    except ValueError:
        text = b"\n".join(json.dumps(line).encode() for line in document)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name).encode(), raw)
    return text


def _places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Every member of objects and every element of lists, inner ones too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name)
        yield from _places(one, (*path, name))


def _changed(document: Any, path: Place, value: Any) -> Any:
    """``...`` takes the member out."""
    made = copy.deepcopy(document)
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return made


def _some(everything: list[Any], count: int, name: str) -> list[Any]:
    if os.environ.get("MUTATIONS") == "all" or len(everything) <= count:
        return everything
    return random.Random(f"{SEED} {name}").sample(everything, count)


def _try(reading: Reading, body: bytes) -> list[Any]:
    """What comes of a body; nothing where it is an error of ours."""
    try:
        found = list(reading.read(body))
    except VendorError:
        return []
    for one in found:
        if isinstance(one, Frozen):
            text = json.dumps(one.to_json(), allow_nan=False, ensure_ascii=False)
            text.encode()  # no half of a surrogate pair
            assert "\\u0000" not in text.replace("\\\\u0000", "")
            if isinstance(one, Reputation):
                assert len(text) < 20_000
    return found


def _listed(found: list[Any]) -> set[Any]:
    return {one.observable for one in found if isinstance(one, Reputation) and one.answer is Answer.LISTED}


@pytest.fixture(scope="module")
def counted(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """How many answers were tried, told at the end."""
    tried: Counter[str] = Counter()
    yield tried
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nmutated answers of {len(READINGS)} samples tried: {dict(tried)}")


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
def test_a_hostile_member_is_an_error_of_ours_or_an_answer(reading: Reading, counted: Counter[str]) -> None:
    """1i, 1j, R16 and the GAPs of providers, for all of a kind."""
    document = _document(reading)
    everything = [(path, value) for path in _places(document) for value in range(len(HOSTILE))]
    tried = _some(everything, VALUES, reading.name)
    unhandled = []
    for path, number in tried:
        body = _body(reading, _changed(document, path, HOSTILE[number]))
        try:
            _try(reading, body)
        except Exception as error:
            unhandled.append(f"{path} = {str(HOSTILE[number])[:40]}: {type(error).__name__}: {str(error)[:120]}")
    counted["hostile"] += len(tried)
    assert unhandled == []


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
def test_what_is_taken_out_never_makes_clean_what_is_listed(reading: Reading, counted: Counter[str]) -> None:
    document = _document(reading)
    before = _listed(_try(reading, reading.body))
    # An element of a list that is not there is not named: that is the vendor's word.
    everything = [path for path in _places(document) if isinstance(path[-1], str)]
    tried = _some(everything, DELETIONS, reading.name)
    wrong = []
    for path in tried:
        if path[-1] in SAY_SO.get(reading.name, ()):
            continue
        found = _try(reading, _body(reading, _changed(document, path, ...)))
        clean = {one.observable for one in found if isinstance(one, Reputation) and one.answer is Answer.NOT_LISTED}
        if clean & before:
            wrong.append(path)
    counted["taken out"] += len(tried)
    assert wrong == []


def test_every_vendor_that_answers_is_tried() -> None:
    """A vendor whose samples are answers in JSON, and that is not here, is forgotten."""
    folders = {path.parents[1].name for path in Path(__file__).parent.glob("*/samples/*.json")}
    assert folders - {reading.name.partition("/")[0] for reading in READINGS} == set()
