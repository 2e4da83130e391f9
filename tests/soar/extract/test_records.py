"""A page of records whatever one of them holds, and texts in pieces (faults/attack.md 1d, 1g)."""

from __future__ import annotations

from typing import Any

import pytest

from include.soar.extract.records import (
    DEEPEST,
    LONGEST_TEXT,
    TOO_DEEP,
    bounded,
    chunks,
    has_too_deep,
    load_records,
)
from include.soar.model import Mention, Role
from include.soar.vendor.errors import Unavailable, Unexpected


def load(body: bytes) -> Any:
    return load_records("vendor", "page", body)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_1g_only_what_is_nested_too_deep_is_cut_out(opening: str, closing: str) -> None:
    depth = 20_000
    deep = opening * depth + '"]}"' + closing * depth
    body = f'[{{"id": 1, "evidence": {deep}, "after": "x"}}, {{"id": 2, "evidence": [["{{["]]}}]'
    poisoned, healthy = load(body.encode())
    assert (poisoned["id"], poisoned["after"]) == (1, "x")
    assert healthy == {"id": 2, "evidence": [["{["]]}
    assert (has_too_deep(poisoned), has_too_deep(healthy)) == (True, False)
    node, levels = poisoned["evidence"], 0
    while node != TOO_DEEP:
        node, levels = (node[0] if isinstance(node, list) else node["a"]), levels + 1
    assert levels < DEEPEST


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": "x\xffy"}', {"a": "x\ufffdy"}),
        (b'{"a": "caf\xe9", "b": "\xe2\x82\xac"}', {"a": "caf\ufffd", "b": "\u20ac"}),
        (b'{"a": ' + b"7" * 5_000 + b', "b": 7}', {"a": "a number of 5000 digits", "b": 7}),
        (b'{"a": "' + b"7" * 5_000 + b'"}', {"a": "7" * 5_000}),
        ('{"a": "\u20ac"}'.encode("utf-16"), {"a": "\u20ac"}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "\\\\u0000 is spelled"}', {"a": "\\u0000 is spelled"}),
    ],
)
def test_1g_what_cannot_be_read_is_replaced(body: bytes, document: Any) -> None:
    assert load(body) == document


@pytest.mark.parametrize(
    "body", [b'{"a": "x\xff', b'{"a": [1, ', b'{"a": ' + b"[" * 5_000, b'{"a": "\xe2\x82', b'{"a": "x\\']
)
def test_what_ends_early_is_still_a_cut(body: bytes) -> None:
    with pytest.raises(Unavailable, match="ends early"):
        load(body)


@pytest.mark.timeout(300)  # as in test_text.py
def test_a_cut_within_many_quotation_marks_stalls_nothing() -> None:
    with pytest.raises(Unavailable, match="ends early"):
        load(b'{"entities": [{"id": "1", "agent": "' + b'\\"' * 400_000)


@pytest.mark.parametrize("body", [b"<html>\xff</html>", b"", b"nonsense"])
def test_what_is_no_json_is_still_unexpected(body: bytes) -> None:
    with pytest.raises(Unexpected):
        load(body)


def test_1d_a_long_text_is_parted_between_words() -> None:
    words = [f"198.51.{n // 250}.{n % 250}" for n in range(20_000)]
    parts = list(chunks(", ".join(words)))
    assert len(parts) > 1
    assert all(len(part) <= LONGEST_TEXT for part in parts)
    assert [w.strip() for part in parts for w in part.split(",") if w.strip()] == words
    assert list(chunks("short")) == ["short"]


def test_1d_the_note_says_how_much_was_left_out() -> None:
    attackers = [Mention(field="a", role=Role.ATTACKER, text=str(n)) for n in range(2_000)]
    rest = [Mention(field="e", role=Role.MENTIONED, text=str(n)) for n in range(1_200)]
    kept = bounded([*rest, *attackers])
    assert [m for m in kept if m.role is Role.ATTACKER] == attackers
    assert len(kept) == 1_000 + 2_000 + 1
    assert kept[-1].text.startswith("200 more texts")
