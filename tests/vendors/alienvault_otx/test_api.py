"""OTX's requests and answers, on sample files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unavailable, Unexpected
from include.soar.vendor.tags import MOST_TAGS
from include.soar.vendor.wire import Response
from tests.soar.examples import NOW, address, domain
from threat_response.vendors.alienvault_otx import api

SAMPLES = Path(__file__).parent / "samples"
SAMPLE = (SAMPLES / "general.json").read_bytes()
HARMLESS = (SAMPLES / "harmless.json").read_bytes()
EVIL = address("203.0.113.7")


def url(value: str) -> Observable:
    return Observable(type=ObservableType.URL, value=value)


def file(value: str) -> Observable:
    return Observable(type=ObservableType.FILE, value=value)


def parse(body: bytes, asked: Observable = EVIL, status: int = 200) -> Reputation:
    return api.parse_general(asked, Response(status, {}, body), known_at=NOW)


def changed(sample: bytes = SAMPLE, pulse: dict[str, Any] | None = None, **members: Any) -> bytes:
    document = json.loads(sample)
    for where, changes in ((document, members), (document["pulse_info"]["pulses"][0], pulse or {})):
        for name, value in changes.items():
            where, last = (document["pulse_info"], "count") if name == "count" else (where, name)
            if value is ...:
                del where[last]
            else:
                where[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("observable", "path"),
    [
        (EVIL, "IPv4/203.0.113.7"),
        (address("2001:db8::1"), "IPv6/2001%3Adb8%3A%3A1"),
        (domain("evil.example"), "domain/evil.example"),
        (domain("a.b.evil.example"), "hostname/a.b.evil.example"),
        (url("http://evil.example/a?b=c/#d"), "url/http%3A%2F%2Fevil.example%2Fa%3Fb%3Dc%2F%23d"),
        (file("a" * 64), f"file/{'a' * 64}"),
    ],
)
def test_the_request(observable: Observable, path: str) -> None:
    request = api.general_request(observable)
    assert (request.method, request.path, request.writes) == ("GET", f"/api/v1/indicators/{path}/general", False)
    assert request.params == ()


def test_the_sample() -> None:
    reputation = parse(SAMPLE)
    assert (reputation.observable, reputation.provider, reputation.answer) == (EVIL, "alienvault_otx", Answer.LISTED)
    assert reputation.score == 30  # three pulses, by two people
    assert reputation.summary == "3 pulses name it; the newest: Credential stuffing against APIs"
    assert reputation.tags == ("Mirai", "bruteforce", "api")
    assert reputation.techniques == ("T1110.004", "T1595")
    assert reputation.first_reported_at == datetime(2026, 9, 29, 6, 7, 5, 387000, tzinfo=UTC)
    assert reputation.last_reported_at == datetime(2026, 11, 2, 9, 0, 0, 250000, tzinfo=UTC)
    assert reputation.reference == "https://otx.alienvault.com/indicator/ip/203.0.113.7"
    assert reputation.body_digest == hashlib.sha256(SAMPLE).hexdigest()
    assert reputation.known_at == NOW


@pytest.mark.parametrize(
    ("count", "authors", "score"),
    [
        (0, [], 0),
        (1, ["a"], 20),
        (2, ["a", "b"], 30),
        (2, ["a", "a"], 20),
        (7, list("abcdefg"), 80),
        (60, list("abcdefghij"), 80),
        (5, ["a", "a", None, None], 50),  # one is not shown, and two say not by whom they are
    ],
)
def test_voices_are_counted_and_not_pulses(count: int, authors: list[str | None], score: int) -> None:
    pulses = tuple(
        api.Pulse(id="1", name="p", created=NOW, author=api.Author(username=author) if author else None)
        for author in authors
    )
    assert api.badness(api.PulseInfo(count=count, pulses=pulses)) == score


def test_what_otx_takes_for_harmless_is_not_listed_whatever_the_pulses_say() -> None:
    reputation = parse(HARMLESS, domain("cdn.example"))
    assert (reputation.answer, reputation.score, reputation.tags) == (Answer.NOT_LISTED, 0, ())
    assert reputation.summary == (
        "taken for harmless by OTX (Akamai Popular Domain, Whitelisted domain, accepted false positive); "
        "1 pulse names it"
    )


@pytest.mark.parametrize(
    ("false_positive", "answer"),
    [
        ([{"assessment": "accepted"}], Answer.NOT_LISTED),
        ([{"assessment": "pending"}, {"assessment": "rejected"}], Answer.LISTED),
        ([], Answer.LISTED),
        (None, Answer.LISTED),
        (..., Answer.LISTED),
    ],
)
def test_only_an_accepted_false_positive_speaks_for_it(false_positive: Any, answer: Answer) -> None:
    assert parse(changed(false_positive=false_positive)).answer is answer


@pytest.mark.parametrize("spelling", [["T1110", "x", "TA0001", "T1110.004"], [{"id": "T1110.004"}, {"id": "T1110"}]])
def test_techniques_are_attack_ids_and_nothing_else(spelling: list[Any]) -> None:
    assert parse(changed(pulse={"attack_ids": spelling})).techniques == ("T1110", "T1110.004", "T1595")


def test_labels_are_foreign_text_and_bounded() -> None:
    tags = ["two\nlines", "x" * 500, "", *(f"tag-{n}" for n in range(100))]
    reputation = parse(changed(pulse={"tags": tags, "malware_families": ["Gozi"], "name": "a\r\nb" + "c" * 900}))
    assert len(reputation.tags) == MOST_TAGS
    assert all(len(tag) <= 60 and tag.isprintable() for tag in reputation.tags)
    assert {"Gozi", "two lines"} <= set(reputation.tags)
    assert reputation.summary.isprintable()
    assert len(reputation.summary) < 150


@pytest.mark.parametrize(
    ("status", "body"), [(404, b'{"detail": "indicator not found"}'), (200, b"")], ids=["404", "no pulse"]
)
def test_never_seen_is_an_answer(status: int, body: bytes) -> None:
    body = body or changed(count=0, pulse_info={"count": 0, "pulses": []})
    reputation = parse(body, status=status)
    assert (reputation.answer, reputation.score) == (Answer.NOT_LISTED, 0)
    assert reputation.summary in ("OTX has never seen it", "no pulse names it")


def test_a_page_that_is_not_found_is_no_answer() -> None:
    assert not api.is_unknown(Response(404, {}, b"<html>not found</html>"))
    assert not api.is_unknown(Response(500, {}, b"{}"))


@pytest.mark.parametrize(
    "members",
    [
        {"count": ...},
        {"count": None},
        {"count": -1},
        {"count": True},
        {"count": "3"},
        {"pulse_info": ...},
        {"pulse_info": {"count": 3}},
        {"validation": "whitelist"},
        {"validation": [7]},
        {"indicator": ...},
    ],
    ids=str,
)
def test_a_missing_part_is_not_a_clean_bill(members: dict[str, Any]) -> None:
    with pytest.raises(Unexpected, match="not as documented"):
        parse(changed(**members))


@pytest.mark.parametrize(
    "members",
    [
        {"validation": ...},
        {"validation": None},
        {"pulse": {"id": ...}},
        {"pulse": {"name": None}},
        {"pulse": {"created": "yesterday"}},
        {"pulse": {"created": "9999-12-31T23:59:59-12:00", "modified": "0001-01-01T00:00:00+14:00"}},
        {"pulse": {"attack_ids": [7], "tags": ["a", None], "malware_families": None, "author": 5}},
    ],
    ids=str,
)
def test_a_cosmetic_member_costs_no_answer(members: dict[str, Any]) -> None:
    """GAP of other providers, and 1i: anybody may publish a pulse."""
    assert parse(changed(**members)).answer is Answer.LISTED


@pytest.mark.parametrize("other", ["203.0.113.8", "2001:db8::1", "unknown", ""])
def test_an_answer_about_another_value_is_refused(other: str) -> None:
    with pytest.raises(Unexpected, match="not the value"):
        parse(changed(indicator=other))


def test_the_vendor_may_spell_a_value_its_own_way() -> None:
    assert parse(changed(indicator="2001:0DB8::0001"), address("2001:db8::1")).score == 30
    assert parse(changed(indicator="EVIL.example"), domain("evil.example")).score == 30
    assert parse(changed(indicator="http://evil.example"), url("http://evil.example/")).score == 30


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (SAMPLE[:300], Unavailable),
        (b"<html>spent</html>", Unexpected),
        (b'{"detail": "odd"}', Unexpected),
        (b"[]", Unexpected),
        (b"null", Unexpected),
    ],
)
def test_other_bodies(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse(body)


def test_a_user_has_a_name() -> None:
    assert api.parse_user(Response(200, {}, b'{"username": "analyst"}')) == "analyst"
    with pytest.raises(Unexpected, match="username"):
        api.parse_user(Response(200, {}, b'{"detail": "nobody"}'))
