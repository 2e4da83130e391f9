"""The five errors: safe to log, whatever they are made of, and whole after a trip through pickle."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.soar.vendor import errors
from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    one_line,
)

FIVE = (Unavailable, RateLimited, Unauthorized, Rejected, Unexpected)


def test_there_are_five_and_one_base_catches_them() -> None:
    defined = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, VendorError)}
    assert set(VendorError.__subclasses__()) == set(FIVE)
    # What *Test connection* tells apart is still something that a person must mend.
    assert {kind for kind in defined - {VendorError, *FIVE} if not issubclass(kind, Unauthorized)} == set()


@pytest.mark.parametrize("kind", FIVE)
def test_the_message_says_who_what_why_and_what_next(kind: type[VendorError]) -> None:
    error = kind("abuseipdb", "check", "the day is spent", status=429, request_id="req-7")
    text = str(error)
    for part in ("abuseipdb check", "the day is spent", "[HTTP 429]", "(request req-7)", kind.next_step):
        assert part in text
    assert kind.next_step


def test_facts_that_are_absent_leave_no_trace() -> None:
    assert str(Rejected("v", "op", "no")) == "v op: no; this item is left out, the others go on"


@given(st.text(), st.text())
def test_no_reason_can_forge_a_line(reason: str, request_id: str) -> None:
    text = str(Unavailable("v", "op", reason, request_id=request_id))
    assert len(text.splitlines()) == 1
    assert len(text) < 600
    text.encode("utf-8")  # half of a surrogate pair would stop the log's writer


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb", "a b"),
        ("a\r\n\tb", "a b"),
        ("\x1b[31mred", "[31mred"),
        ("a\u2028b", "a b"),
        ("user\u202egpj.exe", "user gpj.exe"),
        ("a\u200fb\u061cc\u200ed", "a b c d"),
        ("a\ud800b", "a b"),
        ("x" * 500, "x" * 299 + "…"),
        (None, "None"),
    ],
)
def test_one_line(text: object, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize("kind", FIVE)
def test_an_error_survives_pickle_and_copy(kind: type[VendorError]) -> None:
    error = kind("v", "op", "why", status=400, request_id="r")
    if isinstance(error, RateLimited):
        error.retry_after = 17.0
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
