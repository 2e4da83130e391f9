"""AbuseIPDB's requests and answers, on sample files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from vendors.abuseipdb import api

from include.soar.errors import Unavailable, Unexpected
from include.soar.model import Answer
from include.soar.wire import Response
from tests.soar.examples import NOW, address

SAMPLE = (Path(__file__).parent / "samples/check.json").read_bytes()
EVIL = address("203.0.113.7")


def parse(body: bytes, asked: str = "203.0.113.7") -> Any:
    return api.parse_check(address(asked), Response(200, {}, body), known_at=NOW)


def changed(**data: Any) -> bytes:
    document = json.loads(SAMPLE)
    for name, value in data.items():
        if value is ...:
            del document["data"][name]
        else:
            document["data"][name] = value
    return json.dumps(document).encode()


def test_the_request() -> None:
    request = api.check_request(address("2001:db8::1"), max_age_days=30)
    assert (request.method, request.path, request.writes) == ("GET", "/api/v2/check", False)
    assert request.params == (("ipAddress", "2001:db8::1"), ("maxAgeInDays", "30"))


def test_the_sample() -> None:
    reputation = parse(SAMPLE)
    assert (reputation.observable, reputation.provider) == (EVIL, "abuseipdb")
    assert (reputation.answer, reputation.score) == (Answer.LISTED, 92)
    assert reputation.summary == "311 reports by 71 users, Data Center/Web Hosting/Transit, Example Hosting, ZZ"
    assert reputation.reference == "https://www.abuseipdb.com/check/203.0.113.7"
    assert reputation.last_reported_at == datetime(2026, 11, 20, 20, 55, 14, tzinfo=UTC)
    assert reputation.known_at == NOW


@pytest.mark.parametrize(("score", "answer"), [(0, Answer.NOT_LISTED), (1, Answer.LISTED), (100, Answer.LISTED)])
def test_reports_without_a_score_do_not_list(score: int, answer: Answer) -> None:
    """Old reports, or outweighed ones: 118.25.6.39 had one report and the score 0 in a recorded answer."""
    assert parse(changed(abuseConfidenceScore=score, totalReports=1)).answer is answer


def test_what_may_be_null_is_left_out_of_the_summary() -> None:
    nulls = dict.fromkeys(["countryCode", "usageType", "isp", "lastReportedAt", "isWhitelisted", "domain"])
    reputation = parse(changed(**nulls))
    assert reputation.summary == "311 reports by 71 users"
    assert reputation.last_reported_at is None
    assert parse(changed(**dict.fromkeys(nulls, ...))) == reputation


@pytest.mark.parametrize("whitelisted", [True, False, None])
def test_the_vendors_whitelist_decides_nothing(whitelisted: bool | None) -> None:
    """As the vendor advises: act on the score."""
    assert parse(changed(isWhitelisted=whitelisted)) == parse(SAMPLE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("abuseConfidenceScore", ...),
        ("abuseConfidenceScore", None),
        ("abuseConfidenceScore", 101),
        ("abuseConfidenceScore", -1),
        ("abuseConfidenceScore", "high"),
        ("abuseConfidenceScore", True),
        ("abuseConfidenceScore", 50.5),
        ("totalReports", ...),
        ("totalReports", -1),
        ("numDistinctUsers", None),
        ("ipAddress", ...),
        ("lastReportedAt", "2026-11-20T20:55:14"),  # whose time?
    ],
)
def test_a_score_that_is_not_there_is_not_a_zero(name: str, value: Any) -> None:
    with pytest.raises(Unexpected, match=name):
        parse(changed(**{name: value}))


@pytest.mark.parametrize("other", ["203.0.113.8", "2001:db8::1", "unknown", ""])
def test_an_answer_about_another_address_is_refused(other: str) -> None:
    with pytest.raises(Unexpected, match="not the address"):
        parse(changed(ipAddress=other))


def test_the_vendor_may_spell_an_address_its_own_way() -> None:
    assert parse(changed(ipAddress="2001:0DB8:0000::0001"), "2001:db8::1").score == 92


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (SAMPLE[:100], Unavailable),
        (b"<html>spent</html>", Unexpected),
        (b'{"errors": [{"detail": "odd", "status": 200}]}', Unexpected),
        (b'{"data": []}', Unexpected),
        (b"null", Unexpected),
    ],
)
def test_other_bodies(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse(body)
