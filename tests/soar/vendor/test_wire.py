"""Status to error, headers to waiting time, bytes to shape."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from include.soar.vendor.wire import Response, VendorShape, decode, error_text, failure, load_json, retry_after_seconds

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Score(VendorShape):
    score: int = Field(ge=0, le=100)
    note: str | None = None


# --- status -> error --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Unexpected),
        (302, Unexpected),
        (304, Unexpected),
        (400, Rejected),
        (401, Unauthorized),
        (402, Rejected),
        (403, Unauthorized),
        (404, Rejected),
        (407, Unauthorized),
        (408, Unavailable),
        (409, Rejected),
        (422, Rejected),
        (429, RateLimited),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (599, Unavailable),
        (100, Unexpected),
        (700, Unavailable),
    ],
)
def test_what_a_status_means(status: int, kind: type[VendorError]) -> None:
    error = failure("v", "op", Response(status, {}, b'{"message": "so it is"}'), NOW)
    assert type(error) is kind
    assert (error.status, error.reason) == (status, "so it is")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207, 299])
def test_2xx_is_no_error(status: int) -> None:
    assert failure("v", "op", Response(status, {}, b""), NOW) is None


def test_a_vendor_may_mean_something_else_by_a_status() -> None:
    response = Response(409, {}, b"{}")
    assert type(failure("v", "op", response, NOW, unavailable=(409,))) is Unavailable
    assert type(failure("v", "op", Response(403, {}, b"{}"), NOW, rejected=(403,))) is Rejected
    assert type(failure("v", "op", Response(503, {}, b"{}"), NOW, rejected=(503,))) is Rejected


@pytest.mark.parametrize("name", ["x-request-id", "x-trace-id", "x-cs-traceid", "x-akamai-request-id"])
def test_the_vendors_request_id_is_kept(name: str) -> None:
    error = failure("v", "op", Response(500, {name: "req-7"}, b""), NOW)
    assert error is not None
    assert error.request_id == "req-7"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "29241"}, 29241),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Tue, 24 Nov 2026 12:01:30 GMT"}, 90),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0),  # already over
        ({"x-ratelimit-retryafter": str(int(NOW.timestamp()) + 60)}, 60),
        ({"x-ratelimit-next": "2026-11-24T12:00:10Z"}, 10),
        ({"x-ratelimit-next": "2026-11-24T12:00:10.500+00:00"}, 10.5),
        ({"x-ratelimit-next": "2026-11-24T12:00:10"}, 10),
        ({"retry-after": "5", "x-ratelimit-next": "2026-11-24T12:00:10Z"}, 5),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"x-ratelimit-retryafter": "9" * 15}, None),  # beyond what a date can say
        ({"x-ratelimit-retryafter": "\u00b2"}, None),  # a digit to str.isdigit
        ({"x-ratelimit-next": "soon"}, None),
        ({"x-ratelimit-next": "0001-01-01T00:00:00+14:00"}, 0),
    ],
)
def test_how_long_a_vendor_asks_us_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == seconds
    error = failure("v", "op", Response(429, headers, b""), NOW)
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


@given(
    st.sampled_from(["retry-after", "x-ratelimit-retryafter", "x-ratelimit-next"]),
    st.text(st.characters(max_codepoint=255)),
)
def test_no_header_breaks_the_reader(name: str, value: str) -> None:
    seconds = retry_after_seconds({name: value}, NOW)
    assert seconds is None or seconds >= 0


# --- the vendor's words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"detail": "Signature does not match"}, "Signature does not match"),
        ({"errors": [{"detail": "spent", "status": 429}]}, "spent"),
        ({"errors": [{"code": 403, "message": "access denied"}, {"message": "twice"}]}, "access denied; twice"),
        (
            {"messages": [{"type": "WARN", "text": "call not properly authenticated"}]},
            "call not properly authenticated",
        ),
        ({"title": "Bad Request", "detail": "network is unknown"}, "network is unknown"),
        ({"email": ["is not valid"]}, "email: is not valid"),
        ({"message": {"deep": {"error": "below"}}}, "deep: below"),
        ({}, "no reason given"),
        ([], "no reason given"),
        (5, "no reason given"),
        ("plain", "plain"),
    ],
)
def test_a_vendors_own_words_in_whatever_shape(document: Any, words: str) -> None:
    assert error_text(json.dumps(document).encode()) == words


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"", "empty answer"), (b"<html>no</html>", "answer is not JSON"), (b"[" * 100_000, "answer is not JSON")],
)
def test_words_that_are_not_json(body: bytes, words: str) -> None:
    assert error_text(body) == words


# --- body -> shape -----------------------------------------------------------------------------------------------


def json_values() -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))  # they have a test of their own
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))


@given(st.data(), st.booleans())
def test_json_that_was_cut_anywhere_can_be_asked_for_again(data: st.DataObject, ascii_only: bool) -> None:
    document = data.draw(
        st.dictionaries(st.just("key"), json_values(), min_size=1) | st.lists(json_values(), min_size=1)
    )
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert load_json("v", "op", body) == document
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    with pytest.raises(Unavailable, match=f"ends early, after {len(cut)} bytes"):
        load_json("v", "op", cut)


@pytest.mark.parametrize(
    "end",
    [
        *("", '"', '"a', '"a"', '"a":', '"a":[', '"a":[1,', '"a":1,'),
        *('"a":tr', '"a":fals', '"a":nul', '"a":-', '"a":1.', '"a":1e', '"a":1e+'),
        *('"a":"\\', '"a":"\\u', '"a":"\\u12', '"a":"\\ud83d\\u'),
    ],
)
def test_every_place_where_json_can_be_cut(end: str) -> None:
    with pytest.raises(Unavailable):
        load_json("v", "op", ("{" + end).encode())


def test_a_character_that_was_cut() -> None:
    with pytest.raises(Unavailable):
        load_json("v", "op", '{"a": "ü'.encode()[:-1])


@pytest.mark.parametrize("body", ['{"a":"Société","b":1}', '{"a":"é"}'])
def test_a_whole_answer_that_is_not_utf8_is_not_told_as_cut(body: str) -> None:
    """R21: in Latin-1."""
    with pytest.raises(Unexpected, match="answer is not UTF-8"):
        load_json("v", "op", body.encode("latin-1"))


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (rb'{"a\u0000b": ["\u0000", {"c": "x\u0000"}]}', {"a\ufffdb": ["\ufffd", {"c": "x\ufffd"}]}),
        (rb'["\ud800", "\uDFFFx", "\ud83d\ude00"]', ["\ufffd", "\ufffdx", "\U0001f600"]),
        (b'["\xed\xa0\x80"]', ["\ufffd"]),  # half of a pair in bytes, which Python's reader lets through
        ('["\\u0000", "\\udc00", "a"]'.encode("utf-16"), ["\ufffd", "\ufffd", "a"]),
        (rb'["\\u0000", "\\ud800", "\\\\u0000"]', ["\\u0000", "\\ud800", "\\\\u0000"]),  # only spelled
        (b"[" * 900 + rb'"\u0000"' + b"]" * 900, None),
    ],
    ids=["NUL", "halves", "bytes", "UTF-16", "spelled", "deep"],
)
def test_what_no_store_can_carry_is_replaced(body: bytes, document: Any) -> None:
    """R16: Postgres takes neither U+0000 nor half of a surrogate pair."""
    read = load_json("v", "op", body)
    while document is None and isinstance(read, list):
        read = read[0]
    assert read == ("\ufffd" if document is None else document)


def test_an_error_body_that_is_nested_too_deep_gives_no_words() -> None:
    assert error_text(b'{"errors":' + b"[" * 900 + b'"x"' + b"]" * 900 + b"}") == "no reason given"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!DOCTYPE html><html><body>Just a moment...</body></html>",
        b'{"a": 1} trailing words of something else',
        b"{'a': 1, 'b': 2}",
        b"\xff\xfe\x00not text",
        b"[" * 100_000,  # nested deeper than can be read
        b'{"a": ' + b"9" * 5000 + b"}",  # a number longer than Python reads
    ],
    ids=["empty", "html", "trailing", "single quotes", "bytes", "deep", "long number"],
)
def test_what_is_not_json_is_unexpected_and_not_quoted(body: bytes) -> None:
    with pytest.raises(Unexpected, match="not JSON") as caught:
        load_json("v", "op", body)
    assert "Just a moment" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "score: Field required"),
        ({"score": None}, "score"),
        ({"score": "high"}, "score"),
        ({"score": 101}, "score"),
        ({"score": -1}, "score"),
        ({"score": 7, "note": 5}, "note"),
        ([], r"\(whole\)"),
        ({"note": 5}, r"\+1 more"),
    ],
)
def test_a_field_that_is_missing_or_of_another_kind_is_named(document: Any, problem: str) -> None:
    with pytest.raises(Unexpected, match=problem):
        decode("v", "op", Score, json.dumps(document).encode())


def test_the_foreign_value_stays_out_of_the_message() -> None:
    with pytest.raises(Unexpected) as caught:
        decode("v", "op", Score, {"score": "swordfish"})
    assert "swordfish" not in str(caught.value)


def test_fields_that_we_do_not_know_are_the_vendors_business() -> None:
    assert decode("v", "op", Score, b'{"score": 7, "new": {"x": 1}}') == Score(score=7)
