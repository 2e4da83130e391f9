"""AbuseIPDB's requests and answers, on sample files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unavailable, Unexpected
from include.soar.vendor.wire import Response
from tests.soar.examples import NOW, address
from threat_response.vendors.abuseipdb import api

SAMPLES = Path(__file__).parent / "samples"
SAMPLE = (SAMPLES / "check.json").read_bytes()
EVIL = address("203.0.113.7")
NEIGHBOUR, QUIET = address("203.0.113.8"), address("203.0.113.99")
BLOCK = Observable(type=ObservableType.CIDR, value="203.0.113.0/24")


def parse(body: bytes, asked: str = "203.0.113.7") -> Any:
    return api.parse_check(address(asked), Response(200, {}, body), known_at=NOW)


def but_for_the_body(reputation: Reputation) -> Reputation:
    return reputation.model_copy(update={"body_digest": ""})


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
    assert reputation.body_digest == hashlib.sha256(SAMPLE).hexdigest()


@pytest.mark.parametrize(("score", "answer"), [(0, Answer.NOT_LISTED), (1, Answer.LISTED), (100, Answer.LISTED)])
def test_reports_without_a_score_do_not_list(score: int, answer: Answer) -> None:
    """Old reports, or outweighed ones: 118.25.6.39 had one report and the score 0 in a recorded answer."""
    assert parse(changed(abuseConfidenceScore=score, totalReports=1)).answer is answer


def test_what_may_be_null_is_left_out_of_the_summary() -> None:
    nulls = dict.fromkeys(["countryCode", "usageType", "isp", "lastReportedAt", "isWhitelisted", "domain"])
    reputation = parse(changed(**nulls))
    assert reputation.summary == "311 reports by 71 users"
    assert reputation.last_reported_at is None
    assert but_for_the_body(parse(changed(**dict.fromkeys(nulls, ...)))) == but_for_the_body(reputation)


@pytest.mark.parametrize("whitelisted", [True, False, None])
def test_the_vendors_whitelist_decides_nothing(whitelisted: bool | None) -> None:
    """As the vendor advises: act on the score."""
    assert but_for_the_body(parse(changed(isWhitelisted=whitelisted))) == but_for_the_body(parse(SAMPLE))


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


# --- check-block -------------------------------------------------------------------------------------------------


def parse_block(body: bytes, block: Observable = BLOCK) -> dict[str, Reputation]:
    members = [EVIL, NEIGHBOUR, QUIET]
    answers = api.parse_block(block, members, Response(200, {}, body), max_age_days=30, known_at=NOW)
    return {answer.observable.value: answer for answer in answers}


EDGE = "9999-12-31T23:59:59-12:00"


def test_a_cosmetic_member_costs_no_answer() -> None:
    body = changed(isp="Ex\x00ample\ud800", usageType=5, countryCode=[])
    said = parse(body)
    assert said.answer is Answer.LISTED
    assert "Ex\ufffdample\ufffd" in said.summary  # R16
    assert len(parse(changed(isp="x" * 5000)).summary) <= 300


def test_a_time_at_the_edge_of_the_calendar_is_an_error_of_ours() -> None:
    """1i: it was an OverflowError, and the task failed for all values."""
    with pytest.raises(Unexpected, match="outside of the calendar"):
        parse(changed(lastReportedAt=EDGE))


def test_a_row_of_a_list_costs_the_list_nothing() -> None:
    rows = [{"ipAddress": "203.0.113.7", "abuseConfidenceScore": 100, "countryCode": 5, "lastReportedAt": EDGE}]
    body = json.dumps({"meta": {"generatedAt": "2026-11-24T00:00:00+00:00"}, "data": rows}).encode()
    listed = parse_blacklist(body).rows["203.0.113.7"]
    assert (listed.score, listed.country_code, listed.last_reported_at) == (100, None, None)


def test_a_reported_address_that_cannot_be_read_may_be_any_of_them() -> None:
    document = json.loads((SAMPLES / "check-block.json").read_bytes())
    document["data"]["reportedAddress"][0]["ipAddress"] = "?"
    with pytest.raises(Unexpected, match="is not an address"):
        parse_block(json.dumps(document).encode())


def test_networks_that_are_worth_a_question() -> None:
    asked = [EVIL, QUIET, address("198.51.100.7"), NEIGHBOUR, address("2001:db8::1"), address("2001:db8::2")]
    assert api.crowded_blocks(asked, at_least=2) == {BLOCK: [EVIL, QUIET, NEIGHBOUR]}
    assert api.crowded_blocks(asked, at_least=4) == {}


def test_the_request_about_a_network() -> None:
    request = api.block_request(BLOCK, max_age_days=30)
    assert (request.method, request.path, request.writes) == ("GET", "/api/v2/check-block", False)
    assert request.params == (("network", "203.0.113.0/24"), ("maxAgeInDays", "30"))


def test_the_sample_of_a_network() -> None:
    sample = (SAMPLES / "check-block.json").read_bytes()
    answers = parse_block(sample)
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        "203.0.113.7": (Answer.LISTED, 92),
        "203.0.113.8": (Answer.NOT_LISTED, 0),  # one old report that weighs nothing
        "203.0.113.99": (Answer.NOT_LISTED, 0),  # not in the answer
    }
    evil, quiet = answers["203.0.113.7"], answers["203.0.113.99"]
    assert evil.summary == "311 reports in 30 days (asked about 203.0.113.0/24), ZZ"
    assert evil.last_reported_at == datetime(2026, 11, 20, 20, 55, 14, tzinfo=UTC)
    assert quiet.summary == "no reports in 30 days (asked about 203.0.113.0/24)"
    assert evil.body_digest == quiet.body_digest == hashlib.sha256(sample).hexdigest()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"reportedAddress"', '"reported"', "data.reportedAddress"),
        ('"abuseConfidenceScore":92', '"abuseConfidenceScore":null', "abuseConfidenceScore"),
        ('"networkAddress":"203.0.113.0"', '"networkAddress":"198.51.100.0"', "not the network asked about"),
        ('"netmask":"255.255.255.0"', '"netmask":"255.255.255.128"', "not the network asked about"),
        ('"netmask":"255.255.255.0"', '"netmask":"odd"', "not the network asked about"),
    ],
)
def test_a_network_that_is_missing_something_is_not_clean(old: str, new: str, problem: str) -> None:
    sample = (SAMPLES / "check-block.json").read_text("utf-8")
    assert old in sample
    with pytest.raises(Unexpected, match=problem):
        parse_block(sample.replace(old, new).encode())


# --- blacklist ---------------------------------------------------------------------------------------------------

BLACKLIST = (SAMPLES / "blacklist.json").read_bytes()
PLAIN = (SAMPLES / "blacklist.txt").read_bytes()
GENERATED = datetime(2026, 11, 24, 6, 0, 11, tzinfo=UTC)


def parse_blacklist(body: bytes, minimum: int = 100, **headers: str) -> api.Blacklist:
    return api.parse_blacklist(Response(200, headers, body), confidence_minimum=minimum)


def parse_plain(body: bytes = PLAIN, minimum: int = 100) -> api.Blacklist:
    return parse_blacklist(body, minimum, **{"x-generated-at": GENERATED.isoformat()})


def test_the_request_for_the_blacklist() -> None:
    request = api.blacklist_request(confidence_minimum=75, limit=500, plaintext=False)
    assert (request.path, request.params) == ("/api/v2/blacklist", (("confidenceMinimum", "75"), ("limit", "500")))
    assert api.blacklist_request(confidence_minimum=100, limit=9, plaintext=True).params[-1] == ("plaintext", "")


def test_the_sample_of_a_blacklist() -> None:
    blacklist = parse_blacklist(BLACKLIST)
    assert blacklist.generated_at == GENERATED
    assert list(blacklist.rows) == ["203.0.113.7", "2001:db8::bad", "203.0.113.8"]
    answer = blacklist.answer(EVIL)
    assert answer is not None
    assert (answer.answer, answer.score, answer.known_at) == (Answer.LISTED, 100, GENERATED)
    assert answer.summary == "on the blacklist of 2026-11-24 06:00Z, ZZ"
    assert answer.last_reported_at == datetime(2026, 11, 24, 5, 17, 2, tzinfo=UTC)
    assert answer.body_digest == hashlib.sha256(BLACKLIST).hexdigest()
    assert blacklist.answer(QUIET) is None, "who is not on it is not clean, but to be asked about"


def test_the_sample_as_plain_text() -> None:
    blacklist = parse_plain(minimum=75)
    assert (blacklist.generated_at, len(blacklist.rows)) == (GENERATED, 3)
    answer = blacklist.answer(EVIL)
    assert answer is not None
    assert answer.score == 75, "it says no more than that the score is at least what was asked for"


def test_an_address_that_was_cut_is_no_other_address() -> None:
    assert PLAIN.endswith(b"203.0.113.88\n")
    whole, cut = "203.0.113.88", "203.0.113.8"
    assert whole in parse_plain().rows
    assert {whole, cut} & set(parse_plain(PLAIN[:-2]).rows) == set()


@pytest.mark.parametrize(("hours", "fresh"), [(0, True), (35, True), (36, False), (24 * 30, False)])
def test_a_blacklist_is_of_no_use_after_a_while(hours: int, fresh: bool) -> None:
    assert parse_plain().is_fresh(GENERATED + timedelta(hours=hours)) is fresh


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (BLACKLIST[:200], Unavailable),
        (b"<html>spent</html>", Unexpected),
        (BLACKLIST.replace(b'"abuseConfidenceScore":100', b'"abuseConfidenceScore":0'), Unexpected),
        (BLACKLIST.replace(b'"generatedAt"', b'"generated"'), Unexpected),
        (BLACKLIST.replace(b"203.0.113.8", b"203.0.113.x"), Unexpected),
        (b'{"meta":{"generatedAt":"2026-11-24T06:00:11+00:00"},"data":[]}', Unexpected),
        (PLAIN, Unexpected),  # without its header
    ],
    ids=["cut", "html", "score", "no time", "no address", "empty", "plain text"],
)
def test_what_is_no_blacklist(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse_blacklist(body)


@pytest.mark.parametrize("body", [b"", b"<html>\n<b>x</b>\n", PLAIN.replace(b"203.0.113.7", b"203.0.113.777")])
def test_what_is_no_blacklist_in_plain_text(body: bytes) -> None:
    with pytest.raises(Unexpected):
        parse_plain(body)
    with pytest.raises(Unexpected, match="X-Generated-At"):
        parse_blacklist(PLAIN, **{"x-generated-at": "yesterday"})


def test_what_the_plan_left_out_in_silence_is_told() -> None:
    def remarks(scores: dict[int, int], minimum: int, limit: int) -> list[str]:
        rows = [
            {"ipAddress": f"2001:db8::{n:x}", "abuseConfidenceScore": score}
            for n, score in enumerate(score for score, count in scores.items() for _ in range(count))
        ]
        body = json.dumps({"meta": {"generatedAt": GENERATED.isoformat()}, "data": rows}).encode()
        return api.blacklist_remarks(parse_blacklist(body), confidence_minimum=minimum, limit=limit)

    assert remarks({100: 3}, 100, 10_000) == []
    assert remarks({100: 3, 80: 1}, 75, 10_000) == []
    assert "given only 100" in remarks({100: 3}, 75, 10_000)[0]
    assert "asked for 20,000 rows, given 10,000" in remarks({100: 10_000}, 100, 20_000)[0]
    assert remarks({100: 10_000}, 100, 10_000) == []
