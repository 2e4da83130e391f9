"""ThreatFox's requests and answers, on sample files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Rejected, Unauthorized, Unavailable, Unexpected
from include.soar.vendor.tags import MOST_TAGS
from include.soar.vendor.wire import Response
from tests.soar.examples import NOW, address, domain
from threat_response.vendors.threatfox import api

SAMPLES = Path(__file__).parent / "samples"
SAMPLE = (SAMPLES / "search_ioc.json").read_bytes()
NOTHING = (SAMPLES / "no_result.json").read_bytes()
EVIL = address("203.0.113.7")


def url(value: str) -> Observable:
    return Observable(type=ObservableType.URL, value=value)


def file(value: str) -> Observable:
    return Observable(type=ObservableType.FILE, value=value)


def parse(body: bytes, asked: Observable = EVIL) -> Reputation:
    return api.parse_search(asked, Response(200, {}, body), known_at=NOW)


def changed(**row: Any) -> bytes:
    """The sample with another first row."""
    document = json.loads(SAMPLE)
    for name, value in row.items():
        if value is ...:
            del document["data"][0][name]
        else:
            document["data"][0][name] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "row",
    [
        *({"id": 1234567}, {"id": None}, {"id": "9" * 400}),
        *({"tags": ["a", None]}, {"tags": None}, {"malware_printable": 5, "threat_type": [], "is_compromised": "?"}),
    ],
)
def test_a_cosmetic_member_costs_no_answer(row: dict[str, Any]) -> None:
    said = parse(changed(**row))
    assert said.answer is Answer.LISTED
    assert said.reference is not None
    assert len(said.reference) < 100


@pytest.mark.parametrize(
    ("observable", "body"),
    [
        (EVIL, {"query": "search_ioc", "search_term": "203.0.113.7", "exact_match": False}),
        (domain("evil.example"), {"query": "search_ioc", "search_term": "evil.example", "exact_match": True}),
        (url("http://e.example/x"), {"query": "search_ioc", "search_term": "http://e.example/x", "exact_match": True}),
        (file("ab" * 16), {"query": "search_hash", "hash": "ab" * 16}),
        (file("ab" * 32), {"query": "search_hash", "hash": "ab" * 32}),
    ],
)
def test_the_request(observable: Observable, body: dict[str, Any]) -> None:
    request = api.search_request(observable)
    assert (request.method, request.path, request.json, request.operation) == (
        "POST",
        "/api/v1/",
        body,
        body["query"],
    )
    assert not request.writes  # a question, so it is asked in plan mode as well


def test_the_sample() -> None:
    """Two of its four rows are ports of the address; the others only contain it."""
    reputation = parse(SAMPLE)
    assert (reputation.provider, reputation.answer, reputation.score) == ("threatfox", Answer.LISTED, 75)
    assert reputation.summary == "2 indicators, botnet_cc, payload_delivery, Cobalt Strike, Mirai"
    assert reputation.tags == ("Cobalt Strike", "Mirai", "elf", "botnet")
    assert reputation.first_reported_at == datetime(2026, 9, 6, 9, 10, 23, tzinfo=UTC)
    assert reputation.last_reported_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert reputation.reference == "https://threatfox.abuse.ch/ioc/1400012/"
    assert reputation.body_digest == hashlib.sha256(SAMPLE).hexdigest()
    assert reputation.known_at == NOW


@pytest.mark.parametrize(
    ("asked", "ioc", "ioc_type", "answer"),
    [
        (EVIL, "203.0.113.7:443", "ip:port", Answer.LISTED),
        (EVIL, "203.0.113.77:443", "ip:port", Answer.NOT_LISTED),
        (EVIL, "1203.0.113.7:443", "ip:port", Answer.NOT_LISTED),
        (EVIL, "203.0.113.7", "domain", Answer.NOT_LISTED),
        (EVIL, "http://203.0.113.7/", "url", Answer.NOT_LISTED),
        (domain("evil.example"), "EVIL.example", "domain", Answer.LISTED),
        (domain("evil.example"), "www.evil.example", "domain", Answer.NOT_LISTED),
        (domain("evil.example"), "http://evil.example/", "url", Answer.NOT_LISTED),
        (url("http://evil.example/A"), "HTTP://evil.EXAMPLE/A", "url", Answer.LISTED),
        (url("http://evil.example/A"), "http://evil.example/a", "url", Answer.NOT_LISTED),
        (url("http://evil.example/A"), "no url", "url", Answer.NOT_LISTED),
    ],
)
def test_a_row_counts_if_it_is_the_very_value(asked: Observable, ioc: str, ioc_type: str, answer: Answer) -> None:
    document = json.loads(changed(ioc=ioc, ioc_type=ioc_type))
    document["data"] = document["data"][:1]
    assert parse(json.dumps(document).encode(), asked).answer is answer


def test_every_row_of_a_hash_counts() -> None:
    """They are the indicators of the malware that the file is a sample of."""
    reputation = parse(SAMPLE, file("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"))
    assert (reputation.score, reputation.summary[:12]) == (100, "4 indicators")


def test_no_confidence_is_listed_all_the_same() -> None:
    document = json.loads(changed(confidence_level=0))
    document["data"] = document["data"][:1]
    reputation = parse(json.dumps(document).encode())
    assert (reputation.answer, reputation.score) == (Answer.LISTED, 0)


def test_a_compromised_host_is_told_of() -> None:
    document = json.loads(changed(is_compromised=True))
    assert parse(json.dumps(document).encode()).summary.endswith("a compromised host")
    assert "compromised" not in parse(SAMPLE).summary  # one of the two is not


def test_nothing_found_comes_as_a_sentence_and_is_an_answer() -> None:
    for asked in (EVIL, domain("evil.example"), file("ab" * 16)):
        reputation = parse(NOTHING, asked)
        assert (reputation.answer, reputation.score, reputation.tags) == (Answer.NOT_LISTED, 0, ())
    assert parse(NOTHING).reference == "https://threatfox.abuse.ch/browse.php?search=ioc%3A203.0.113.7"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("illegal_search_term", Rejected),
        ("illegal_hash", Rejected),
        ("illegl_hash", Rejected),
        ("unknown_auth_key", Unauthorized),
        ("no_results", Unexpected),  # URLhaus's word
        ("error", Unexpected),
        ("", Unexpected),
        (None, Unexpected),
        (..., Unexpected),
    ],
)
def test_a_200_can_be_a_failure(word: Any, kind: type[Exception]) -> None:
    document = json.loads(SAMPLE) | {"query_status": word}
    if word is ...:
        del document["query_status"]
    with pytest.raises(kind) as caught:
        parse(json.dumps(document).encode())
    assert type(caught.value) is kind
    assert "query_status" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence_level", ...),
        ("confidence_level", None),
        ("confidence_level", 101),
        ("confidence_level", True),
        ("confidence_level", "75"),
        ("ioc", ...),
        ("ioc_type", None),
        ("first_seen", ...),
        ("first_seen", "2020-12-06T09:10:23"),
        ("tags", "elf"),
    ],
)
def test_a_missing_part_is_not_a_guess(name: str, value: Any) -> None:
    with pytest.raises(Unexpected, match=name) as caught:
        parse(changed(**{name: value}))
    assert not isinstance(value, str) or value not in str(caught.value)


@pytest.mark.parametrize("data", [..., None, "a sentence, though ok", {}, [None]])
def test_found_needs_rows(data: Any) -> None:
    document = json.loads(SAMPLE) | {"data": data}
    if data is ...:
        del document["data"]
    with pytest.raises(Unexpected, match="data"):
        parse(json.dumps(document).encode())


def test_labels_are_foreign_text_and_bounded() -> None:
    tags = ["two\nlines", "x" * 500, *(f"tag-{n}" for n in range(100))]
    reputation = parse(changed(tags=tags, malware_printable="a\r\nb", id="../evil"))
    assert len(reputation.tags) == MOST_TAGS
    assert all(len(tag) <= 60 and tag.isprintable() for tag in reputation.tags)
    assert reputation.summary.isprintable()
    assert reputation.reference == "https://threatfox.abuse.ch/browse.php?search=ioc%3A203.0.113.7"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (SAMPLE[:200], Unavailable),
        (b"<html>maintenance</html>", Unexpected),
        (b'{"error": "Unauthorized"}', Unexpected),
        (b"[]", Unexpected),
        (b"null", Unexpected),
    ],
)
def test_other_bodies(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse(body)
