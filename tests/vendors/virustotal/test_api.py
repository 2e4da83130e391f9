"""VirusTotal's requests and answers, on sample files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.soar.extract.values import parse_address, parse_domain, parse_hash, parse_url
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unavailable, Unexpected
from include.soar.vendor.wire import Response
from tests.soar.examples import NOW
from threat_response.vendors.virustotal import api

SAMPLES = Path(__file__).parent / "samples"
RECORDED = Path(__file__).resolve().parents[3] / "../shared/data/api-samples/wtfis"


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


FILE = json.loads(sample("file"))["data"]["attributes"]
EVIL = Observable(type=ObservableType.IPV4, value="203.0.113.7")
URL = Observable(type=ObservableType.URL, value="http://evil.example/login?id=1")
ASKED = {
    "ip_address": EVIL,
    "domain": Observable(type=ObservableType.DOMAIN, value="evil.example"),
    "url": URL,
    "file": Observable(type=ObservableType.FILE, value=FILE["sha1"]),
}


def parse(body: bytes, asked: Observable = EVIL) -> Reputation:
    return api.parse_lookup(asked, Response(200, {}, body), known_at=NOW)


def changed(name: str = "ip_address", stats: dict[str, Any] | None = None, **attributes: Any) -> bytes:
    """The sample with other statistics or attributes; ``...`` takes one out."""
    document = json.loads(sample(name))
    for place, changes in (
        (document["data"]["attributes"], attributes),
        (document["data"]["attributes"]["last_analysis_stats"], stats or {}),
    ):
        for key, value in changes.items():
            place[key] = value
            if value is ...:
                del place[key]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("observable", "path"),
    [
        (EVIL, "/api/v3/ip_addresses/203.0.113.7"),
        (parse_address("2001:db8::1"), "/api/v3/ip_addresses/2001:db8::1"),
        (parse_domain("evil.example"), "/api/v3/domains/evil.example"),
        (parse_hash("A" * 31 + "1"), f"/api/v3/files/{'a' * 31}1"),
        # base64url, without the padding that this length would have
        (parse_url("http://evil.example/?a>b~c"), "/api/v3/urls/aHR0cDovL2V2aWwuZXhhbXBsZS8_YT5ifmM"),
    ],
)
def test_the_request(observable: Observable, path: str) -> None:
    request = api.lookup_request(observable)
    assert (request.method, request.path, request.params, request.writes) == ("GET", path, (), False)


def test_a_sha512_has_no_call() -> None:
    assert api.is_known_type(Observable(type=ObservableType.FILE, value="a" * 64))
    assert not api.is_known_type(Observable(type=ObservableType.FILE, value="a" * 128))


@pytest.mark.parametrize(
    ("name", "score", "summary", "tags", "page"),
    [
        (
            "ip_address",
            85,
            "8 of 93 engines say malicious, 1 suspicious, Example Hosting, ZZ",
            ("ssh",),
            "ip-address/203.0.113.7",
        ),
        (
            "domain",
            50,
            "5 of 93 engines say malicious, 0 suspicious, Example Registrar",
            ("phishing", "Phishing and Fraud"),
            "domain/evil.example",
        ),
        (
            "url",
            25,
            "2 of 93 engines say malicious, 1 suspicious",
            ("trackers", "phishing"),
            f"url/{hashlib.sha256(URL.value.encode()).hexdigest()}",
        ),
        (
            "file",
            100,
            "41 of 69 engines say malicious, 0 suspicious, trojan.example/dropper, Win32 EXE, invoice.pdf.exe",
            ("trojan.example/dropper", "trojan", "dropper", "peexe"),
            f"file/{FILE['sha256']}",
        ),
    ],
)
def test_the_samples(name: str, score: int, summary: str, tags: tuple[str, ...], page: str) -> None:
    reputation = parse(sample(name), ASKED[name])
    assert (reputation.observable, reputation.provider) == (ASKED[name], "virustotal")
    assert (reputation.answer, reputation.score) == (Answer.LISTED, score)
    assert (reputation.summary, reputation.tags) == (summary, tags)
    assert reputation.reference == f"https://www.virustotal.com/gui/{page}"
    assert reputation.body_digest == hashlib.sha256(sample(name)).hexdigest()
    assert reputation.known_at == NOW


def test_when_it_was_seen() -> None:
    reputation = parse(sample("file"), ASKED["file"])
    assert reputation.first_reported_at == datetime(2026, 11, 14, 23, 46, 40, tzinfo=UTC)
    assert reputation.last_reported_at == datetime(2026, 11, 20, 15, 53, 20, tzinfo=UTC)
    never = parse(changed(last_analysis_date=...))
    assert (never.first_reported_at, never.last_reported_at) == (None, None)


@pytest.mark.parametrize("instant", [0, -5, 2**62, "soon", None])
def test_a_time_that_is_none_is_absent(instant: Any) -> None:
    assert parse(changed(last_analysis_date=instant)).last_reported_at is None


@pytest.mark.parametrize(
    ("malicious", "suspicious", "score"), [(0, 0, 0), (0, 1, 5), (1, 0, 10), (5, 0, 50), (9, 3, 100), (60, 0, 100)]
)
def test_the_score_counts_engines(malicious: int, suspicious: int, score: int) -> None:
    reputation = parse(changed(stats={"malicious": malicious, "suspicious": suspicious}))
    assert reputation.score == score
    assert reputation.answer is (Answer.LISTED if score else Answer.NOT_LISTED)


def test_no_engine_has_looked() -> None:
    nothing = dict.fromkeys(("malicious", "suspicious", "harmless", "undetected"), 0)
    reputation = parse(changed(stats=nothing))
    assert (reputation.answer, reputation.score) == (Answer.NOT_LISTED, 0)
    assert reputation.summary.startswith("known, but no engine has looked at it")


def test_votes_and_reputation_decide_nothing() -> None:
    votes = parse(changed(reputation=-900, total_votes={"harmless": 0, "malicious": 900}))
    assert votes.model_copy(update={"body_digest": ""}) == parse(sample("ip_address")).model_copy(
        update={"body_digest": ""}
    )


def test_hostile_names_stay_on_one_line_and_are_bounded() -> None:
    reputation = parse(
        changed("file", meaningful_name="a\nlisted: score 0", tags=[f"t{n}\n" + "x" * 500 for n in range(500)]),
        ASKED["file"],
    )
    assert "\n" not in reputation.summary
    assert len(reputation.tags) == 20
    assert all("\n" not in tag and len(tag) <= 60 for tag in reputation.tags)


@pytest.mark.parametrize("name", ["malicious", "suspicious", "harmless", "undetected"])
@pytest.mark.parametrize("value", [..., None, -1, "7", True, 1.5])
def test_a_count_that_is_not_there_is_not_a_zero(name: str, value: Any) -> None:
    with pytest.raises(Unexpected, match=f"last_analysis_stats.{name}"):
        parse(changed(stats={name: value}))


@pytest.mark.parametrize(
    "attributes",
    [
        {"tags": None, "categories": None},
        {"tags": ["a", None, 7], "categories": {"x": None, "y": "malware"}},
        {"popular_threat_classification": None},
        {"popular_threat_classification": {"popular_threat_category": [None, {"value": 5}]}},
        {"as_owner": 5, "country": [], "last_analysis_date": True, "first_submission_date": 10**30},
    ],
)
def test_a_cosmetic_member_costs_no_answer(attributes: dict[str, Any]) -> None:
    assert parse(changed(**attributes)).answer is Answer.LISTED


def test_statistics_that_are_not_there_are_no_zero() -> None:
    with pytest.raises(Unexpected, match="last_analysis_stats"):
        parse(changed(last_analysis_stats=...))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("ip_address", Observable(type=ObservableType.IPV4, value="203.0.113.8")),
        ("domain", Observable(type=ObservableType.DOMAIN, value="other.example")),
        ("file", Observable(type=ObservableType.FILE, value="a" * 64)),
        ("ip_address", URL),
        ("url", EVIL),
    ],
)
def test_an_answer_about_something_else_is_refused(name: str, asked: Observable) -> None:
    with pytest.raises(Unexpected, match="not what was asked about"):
        parse(sample(name), asked)


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256"])
def test_a_file_is_known_by_each_hash(name: str) -> None:
    asked = Observable(type=ObservableType.FILE, value=FILE[name])
    assert parse(sample("file"), asked).observable == asked


def test_never_seen_is_an_answer() -> None:
    reputation = api.parse_not_found(EVIL, Response(404, {}, sample("not_found")), known_at=NOW)
    assert (reputation.answer, reputation.score, reputation.summary) == (Answer.NOT_LISTED, 0, "never seen")
    assert reputation.body_digest == hashlib.sha256(sample("not_found")).hexdigest()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not here</html>",
        b'{"message": "no route"}',
        b'{"error": "NotFoundError"}',
        b'{"error": {"code": "ForbiddenError", "message": ""}}',
        b"[]",
        b"[" * 100_000,
    ],
)
def test_another_404_is_silence(body: bytes) -> None:
    with pytest.raises(Unexpected, match="404"):
        api.parse_not_found(EVIL, Response(404, {}, body), known_at=NOW)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (sample("ip_address")[:200], Unavailable),
        (b"<html>spent</html>", Unexpected),
        (sample("not_found"), Unexpected),
        (b'{"data": []}', Unexpected),
        (b"null", Unexpected),
    ],
)
def test_other_bodies(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse(body)


@pytest.mark.parametrize(
    "name", ["vt_ip_1.1.1.1", "vt_ip_142.251.220.110", "vt_domain_gist", "vt_domain_google", "vt_domain_tucows"]
)
def test_recorded_answers_are_read(name: str) -> None:
    path = RECORDED / f"{name}.json"
    if not path.is_file():
        pytest.skip("needs ../shared/data/api-samples, not present")
    data = json.loads(path.read_bytes())["data"]
    asked = parse_address(data["id"]) or parse_domain(data["id"])
    assert asked is not None
    reputation = parse(path.read_bytes(), asked)
    stats = data["attributes"]["last_analysis_stats"]
    assert reputation.score == min(100, 10 * stats["malicious"] + 5 * stats["suspicious"])
    assert f"{stats['malicious']} of {sum(stats.values()) - stats['timeout']} engines" in reputation.summary
