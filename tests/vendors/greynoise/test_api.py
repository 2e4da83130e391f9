"""GreyNoise's requests and answers, on sample files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, Reputation
from include.soar.vendor.errors import Unauthorized, Unavailable, Unexpected
from include.soar.vendor.wire import Response
from tests.soar.examples import NOW, address
from threat_response.vendors.greynoise import api

SAMPLES = Path(__file__).parent / "samples"
RECORDED = Path(__file__).resolve().parents[3] / "../shared/data/api-samples/wtfis"
EVIL, DNS, QUIET = address("203.0.113.7"), address("203.0.113.53"), address("203.0.113.99")
SERVICE, SCANNER = "business_service_intelligence", "internet_scanner_intelligence"


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def community(body: bytes, asked: str = "203.0.113.7") -> Reputation:
    return api.parse_community(address(asked), Response(200, {}, body), known_at=NOW)


def paid(body: bytes, asked: str = "203.0.113.7", status: int = 200) -> Reputation:
    return api.parse_profile(address(asked), Response(status, {}, body), known_at=NOW)


def changed(name: str, section: str | None = None, **fields: Any) -> bytes:
    """The sample with other fields, of a section or at the top; ``...`` takes one out."""
    document = json.loads(sample(name))
    place = document[section] if section else document
    for field, value in fields.items():
        place[field] = value
        if value is ...:
            del place[field]
    return json.dumps(document).encode()


def test_the_requests() -> None:
    free = api.lookup_request(EVIL, plan="community")
    assert (free.method, free.path, free.writes) == ("GET", "/v3/community/203.0.113.7", False)
    assert api.lookup_request(EVIL, plan="paid").path == "/v3/ip/203.0.113.7"
    many = api.multi_request([EVIL, DNS])
    assert (many.method, many.path, many.json) == ("POST", "/v3/ip", {"ips": ["203.0.113.7", "203.0.113.53"]})
    assert not many.writes, "it asks, though it is a POST: plan mode may do it"


def test_the_communitys_answer() -> None:
    reputation = community(sample("community"))
    assert (reputation.observable, reputation.provider) == (EVIL, "greynoise")
    assert (reputation.answer, reputation.score) == (Answer.LISTED, 100)
    assert reputation.tags == ("malicious", "internet scanner")
    assert reputation.summary == "malicious, internet scanner"
    assert reputation.reference == "https://viz.greynoise.io/ip/203.0.113.7"
    assert reputation.last_reported_at == datetime(2026, 11, 20, tzinfo=UTC)
    assert reputation.body_digest == hashlib.sha256(sample("community")).hexdigest()
    assert reputation.known_at == NOW


def test_a_business_service_is_not_listed_and_says_what_it_is() -> None:
    reputation = community(sample("community_riot"), "203.0.113.53")
    assert (reputation.answer, reputation.score) == (Answer.NOT_LISTED, 0)
    assert reputation.summary == "benign, common business service, Example Public DNS"
    assert reputation.tags == ("benign", "common business service", "Example Public DNS")


def test_the_paid_answer() -> None:
    reputation = paid(sample("ip"))
    assert (reputation.observable, reputation.answer, reputation.score) == (EVIL, Answer.LISTED, 100)
    assert reputation.tags == ("malicious", "internet scanner", "tor", "Example Worm", "CVE-2026-0001")
    assert reputation.first_reported_at == datetime(2026, 9, 1, tzinfo=UTC)
    assert reputation.last_reported_at == datetime(2026, 11, 20, tzinfo=UTC)


def test_the_paid_answer_about_several() -> None:
    asked = [EVIL, DNS, QUIET, address("203.0.113.100")]
    answers = api.parse_multi(asked, Response(200, {}, sample("multi")), known_at=NOW)
    assert [(r.observable, r.answer, r.score) for r in answers] == [
        (EVIL, Answer.LISTED, 100),
        (DNS, Answer.NOT_LISTED, 0),
        (QUIET, Answer.NOT_LISTED, 0),
    ]
    assert answers[0].tags == paid(sample("ip")).tags
    assert answers[1].summary.startswith("benign, common business service (trust level 1), Example Public DNS")
    assert answers[2].summary == "not observed scanning the internet"


def test_a_part_that_cannot_be_read_costs_itself() -> None:
    document = json.loads(sample("multi"))
    del document["data"][0][SCANNER]["found"]
    document["data"][1][SERVICE]["trust_level"] = 1
    document["data"][1][SCANNER]["tags"] = [None, {"name": 5}, {"name": "x"}]
    answers = api.parse_multi([EVIL, DNS, QUIET], Response(200, {}, json.dumps(document).encode()), known_at=NOW)
    assert [one.observable for one in answers] == [DNS, QUIET]  # the other is an error, by Round
    document["data"] = document["data"][:1]
    document["request_metadata"]["ips_not_found"] = []
    with pytest.raises(Unexpected, match="found"):
        api.parse_multi([EVIL], Response(200, {}, json.dumps(document).encode()), known_at=NOW)


def test_an_answer_about_one_that_was_not_asked_about_is_refused() -> None:
    with pytest.raises(Unexpected, match="not an address that was asked about"):
        api.parse_multi([EVIL], Response(200, {}, sample("multi")), known_at=NOW)


@pytest.mark.parametrize(
    ("word", "doubtful", "score"),
    [
        ("malicious", False, 100),
        ("malicious", True, 50),
        ("suspicious", False, 50),
        ("suspicious", True, 50),
        ("unknown", False, 0),
        ("benign", True, 0),
    ],
)
def test_the_score(word: str, doubtful: bool, score: int) -> None:
    assert api.score(word, doubtful=doubtful) == score
    by_community = community(changed("community", classification=word, riot=doubtful))
    by_paid = paid(changed("ip", SCANNER, classification=word, spoofable=doubtful))
    assert by_community.score == by_paid.score == score
    assert by_community.answer is by_paid.answer is (Answer.LISTED if score else Answer.NOT_LISTED)


@pytest.mark.parametrize(
    ("level", "found", "score"),
    [("1", True, 50), ("2", True, 50), ("3", True, 100), ("", True, 100), ("1", False, 100)],
)
def test_a_scanner_at_a_service_that_many_share(level: str, found: bool, score: int) -> None:
    assert paid(changed("ip", SERVICE, found=found, trust_level=level)).score == score


@pytest.mark.parametrize(("level", "word"), [("1", "benign"), ("2", "benign"), ("3", "unknown"), ("", "unknown")])
def test_a_service_that_does_not_scan(level: str, word: str) -> None:
    document = json.loads(sample("multi"))["data"][1]
    document[SERVICE]["trust_level"] = level
    reputation = paid(json.dumps(document).encode(), "203.0.113.53")
    assert (reputation.answer, reputation.score, reputation.tags[0]) == (Answer.NOT_LISTED, 0, word)


def test_nothing_found_is_not_listed() -> None:
    reputation = paid(changed("ip", SCANNER, found=False, classification=""))
    assert (reputation.answer, reputation.score) == (Answer.NOT_LISTED, 0)
    assert reputation.tags == ()


@pytest.mark.parametrize("message", ["IP not observed scanning the internet.", "", None])
def test_the_communitys_404_is_an_answer_whatever_its_text(message: str | None) -> None:
    body = changed("community_not_found", message=message)
    reputation = api.parse_community_not_found(QUIET, Response(404, {}, body), known_at=NOW)
    assert (reputation.answer, reputation.score) == (Answer.NOT_LISTED, 0)
    assert reputation.summary == "not observed scanning the internet"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>not here</html>",
        b'{"message": "no route"}',
        changed("community_not_found", ip="203.0.113.100"),
        changed("community_not_found", noise=True),
        changed("community_not_found", riot=...),
        changed("community_not_found", noise="false"),
    ],
)
def test_another_404_is_silence(body: bytes) -> None:
    with pytest.raises(Unexpected):
        api.parse_community_not_found(QUIET, Response(404, {}, body), known_at=NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classification", ...),
        ("classification", None),
        ("classification", "evil"),
        ("classification", ""),
        ("noise", ...),
        ("noise", "true"),
        ("riot", None),
        ("ip", "203.0.113.8"),
        ("last_seen", "yesterday"),
    ],
)
def test_what_is_not_there_is_not_benign(field: str, value: Any) -> None:
    with pytest.raises(Unexpected, match=r"ip is not|classification|noise|riot|last_seen"):
        community(changed("community", **{field: value}))


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        (None, SCANNER, ...),
        (None, SERVICE, None),
        (SCANNER, "found", ...),
        (SCANNER, "found", "true"),
        (SCANNER, "classification", ...),
        (SCANNER, "classification", "evil"),
        (SERVICE, "found", 1),
    ],
)
def test_what_a_plan_leaves_out_is_not_benign(section: str | None, field: str, value: Any) -> None:
    body = changed("ip", section, **{field: value})
    with pytest.raises(Unexpected, match=f"{SCANNER}|{SERVICE}|classification"):
        paid(body)
    # The vendor says itself that the plan is why: a person must look at it.
    with pytest.raises(Unauthorized, match="plan leaves out"):
        paid(body, status=206)


def test_a_partial_answer_that_has_what_we_need_is_an_answer() -> None:
    body = changed("ip", SCANNER, metadata=..., raw_data=..., cves=..., tags=None)
    assert paid(body, status=206).score == 100


def test_the_published_schema_has_one_tag_where_the_answers_have_a_list() -> None:
    assert "Mirai" in paid(changed("ip", SCANNER, tags={"name": "Mirai", "slug": "mirai"})).tags


def test_hostile_names_stay_on_one_line_and_are_bounded() -> None:
    tags = [{"name": f"t{n}\nlisted" + "x" * 500} for n in range(500)]
    reputation = paid(changed("ip", SCANNER, tags=tags, actor="a\nb"))
    assert "\n" not in reputation.summary
    assert len(reputation.tags) == 20
    assert all("\n" not in tag and len(tag) <= 60 for tag in reputation.tags)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (sample("ip")[:100], Unavailable),
        (b"<html>spent</html>", Unexpected),
        (b"[]", Unexpected),
        (b"null", Unexpected),
    ],
)
def test_other_bodies(body: bytes, kind: type[Exception]) -> None:
    for parse in (community, paid):
        with pytest.raises(kind):
            parse(body)


def test_the_ping() -> None:
    assert api.parse_ping(Response(200, {}, sample("ping"))).plan == "Elite"
    with pytest.raises(Unexpected, match="not pong"):
        api.parse_ping(Response(200, {}, b'{"message": "hello"}'))


@pytest.mark.parametrize(
    ("name", "answer", "score"),
    [
        ("greynoise_1.1.1.1", Answer.NOT_LISTED, 0),
        ("greynoise_1.1.1.1_unknown", Answer.NOT_LISTED, 0),
        ("greynoise_1.1.1.1_malicious", Answer.LISTED, 100),
    ],
)
def test_recorded_answers_are_read(name: str, answer: Answer, score: int) -> None:
    path = RECORDED / f"{name}.json"
    if not path.is_file():
        pytest.skip("needs ../shared/data/api-samples, not present")
    ((asked, document),) = json.loads(path.read_bytes()).items()
    reputation = community(json.dumps(document).encode(), asked)
    assert (reputation.answer, reputation.score) == (answer, score)
    assert document["name"] in reputation.tags
