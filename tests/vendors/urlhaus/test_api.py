"""URLhaus's requests and answers, on sample files."""

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
from threat_response.vendors.urlhaus import api

SAMPLES = {name: (Path(__file__).parent / f"samples/{name}.json").read_bytes() for name in ("host", "url", "payload")}
RECORDED = Path(__file__).resolve().parents[3] / ".." / "shared/data/api-samples/wtfis"
HOST = address("203.0.113.7")
URL = Observable(type=ObservableType.URL, value="http://203.0.113.7/linux_mips")
SHA256 = Observable(type=ObservableType.FILE, value="ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
MD5 = Observable(type=ObservableType.FILE, value="0cc175b9c0f1b6a831c399e269772661")
ASKED = {"host": HOST, "url": URL, "payload": SHA256}


def parse(body: bytes, asked: Observable = HOST) -> Reputation:
    return api.parse_lookup(asked, Response(200, {}, body), known_at=NOW)


def changed(sample: str = "host", **members: Any) -> bytes:
    document = json.loads(SAMPLES[sample])
    for name, value in members.items():
        if value is ...:
            del document[name]
        else:
            document[name] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("observable", "path", "form"),
    [
        (HOST, "/v1/host/", {"host": "203.0.113.7"}),
        (domain("evil.example"), "/v1/host/", {"host": "evil.example"}),
        (URL, "/v1/url/", {"url": URL.value}),
        (MD5, "/v1/payload/", {"md5_hash": MD5.value}),
        (SHA256, "/v1/payload/", {"sha256_hash": SHA256.value}),
    ],
)
def test_the_request(observable: Observable, path: str, form: dict[str, str]) -> None:
    request = api.lookup_request(observable)
    assert (request.method, request.path, request.form) == ("POST", path, form)
    assert not request.writes  # a question, so it is asked in plan mode as well


def test_a_host() -> None:
    reputation = parse(SAMPLES["host"])
    assert (reputation.provider, reputation.answer, reputation.score) == ("urlhaus", Answer.LISTED, api.ONLINE)
    assert reputation.summary == "12 malware URLs, 1 online, SURBL: listed"
    assert reputation.tags == ("elf", "mirai")
    assert reputation.first_reported_at == datetime(2026, 10, 9, 13, 41, 5, tzinfo=UTC)
    assert reputation.last_reported_at == datetime(2026, 11, 9, 13, 43, 18, tzinfo=UTC)
    assert reputation.reference == "https://urlhaus.abuse.ch/host/203.0.113.7/"
    assert reputation.body_digest == hashlib.sha256(SAMPLES["host"]).hexdigest()


def test_a_url() -> None:
    reputation = parse(SAMPLES["url"], URL)
    assert (reputation.answer, reputation.score) == (Answer.LISTED, api.OFFLINE)
    assert reputation.summary == "malware_download, offline"
    assert reputation.tags == ("Mirai", "elf")
    assert reputation.first_reported_at == datetime(2026, 11, 9, 13, 43, 18, tzinfo=UTC)
    assert reputation.last_reported_at == datetime(2026, 11, 12, 8, tzinfo=UTC)
    assert reputation.reference == "https://urlhaus.abuse.ch/url/2758916/"


@pytest.mark.parametrize("asked", [MD5, SHA256], ids=["md5", "sha256"])
def test_a_file(asked: Observable) -> None:
    reputation = parse(SAMPLES["payload"], asked)
    assert (reputation.answer, reputation.score, reputation.tags) == (Answer.LISTED, api.FAMILY, ("Gozi",))
    assert reputation.summary == "Gozi, exe, spread by 18 URLs, 1 online"
    assert reputation.first_reported_at == datetime(2026, 10, 10, 11, 9, 23, tzinfo=UTC)
    assert reputation.last_reported_at == datetime(2026, 11, 10, 11, 9, 23, tzinfo=UTC)


def test_a_file_without_a_family_says_less() -> None:
    reputation = parse(changed("payload", signature=None), SHA256)
    assert (reputation.score, reputation.tags) == (api.NAMELESS, ())


@pytest.mark.parametrize(
    ("statuses", "dbl", "score"),
    [
        (["online", "offline"], "not listed", 90),
        (["offline", "unknown"], "not listed", 70),
        (["offline", "offline"], "abused_redirector", 50),
        ([], None, 70),
        (["online"] * 3248, "abused_legit_malware", 40),
        (["offline"], "abused_legit_spam", 40),
        (["online"], "malware_domain", 90),
    ],
)
def test_a_good_site_that_is_abused_is_never_called_malicious(statuses: list[str], dbl: str, score: int) -> None:
    assert api.badness(statuses, api.Blacklists(spamhaus_dbl=dbl)) == score


def test_no_record_is_an_answer() -> None:
    for asked in ASKED.values():
        reputation = parse(b'{"query_status": "no_results"}', asked)
        assert (reputation.answer, reputation.score, reputation.summary) == (Answer.NOT_LISTED, 0, "no record")
        assert reputation.reference is not None
        assert reputation.reference.startswith("https://urlhaus.abuse.ch/browse.php?search=")


def test_the_vendors_misspelt_key_is_read_as_well() -> None:
    document = json.loads(SAMPLES["host"])
    document["query_staus"] = document.pop("query_status")
    assert parse(json.dumps(document).encode()).score == api.ONLINE


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("invalid_host", Rejected),
        ("invalid_url", Rejected),
        ("invalid_md5", Rejected),
        ("invalid_sha256_hash", Rejected),
        ("unknown_auth_key", Unauthorized),
        ("http_post_expected", Unexpected),
        ("no_result", Unexpected),  # ThreatFox's word
        ("OK", Unexpected),
        ("", Unexpected),
        (None, Unexpected),
        (..., Unexpected),
    ],
)
def test_a_200_can_be_a_failure(word: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        parse(changed(query_status=word))
    assert type(caught.value) is kind
    assert "query_status" in str(caught.value)


@pytest.mark.parametrize(
    ("sample", "name", "value"),
    [
        ("host", "url_count", ...),
        ("host", "url_count", None),
        ("host", "url_count", "many"),
        ("host", "url_count", "0"),
        ("host", "url_count", True),
        ("host", "urls", ...),
        ("host", "firstseen", "09.10.2026"),
        ("host", "firstseen", "2026-10-09 13:41:05 CET"),
        ("host", "firstseen", 1760000000),
        ("url", "url_status", None),
        ("url", "date_added", ...),
        ("url", "payloads", "none"),
        ("payload", "md5_hash", ...),
        ("payload", "url_count", "-1"),
    ],
)
def test_a_missing_part_is_not_a_guess(sample: str, name: str, value: Any) -> None:
    with pytest.raises(Unexpected, match=name) as caught:
        parse(changed(sample, **{name: value}), ASKED[sample])
    assert not isinstance(value, str) or len(value) < 3 or value not in str(caught.value)


@pytest.mark.parametrize("count", ["12", 12, " 12 "])
def test_numbers_come_as_text_or_not(count: Any) -> None:
    assert parse(changed(url_count=count)).summary.startswith("12 malware URLs")


@pytest.mark.parametrize(
    ("sample", "members"),
    [
        ("url", {"tags": ["a", None]}),
        ("url", {"tags": None, "threat": 5, "payloads": [None, {"signature": 7}]}),
        ("host", {"urlhaus_reference": [], "firstseen": None}),
        ("payload", {"file_type": {}}),
    ],
)
def test_a_cosmetic_member_costs_no_answer(sample: str, members: dict[str, Any]) -> None:
    assert parse(changed(sample, **members), ASKED[sample]).answer is Answer.LISTED


NULLS = {"md5_hash": None, "sha256_hash": None, "url_count": None, "urls": [], "signature": None}


def test_an_ok_about_a_file_that_nobody_has_seen() -> None:
    """TheHive-Project/Cortex-Analyzers #485: every member is null."""
    said = parse(changed("payload", **NULLS), SHA256)
    assert (said.answer, said.score, said.summary) == (Answer.NOT_LISTED, 0, "no record")


@pytest.mark.parametrize(
    "members", [{"md5_hash": ...}, {"sha256_hash": ...}, {"url_count": "3"}, {"urls": [{"url_status": "online"}]}]
)
def test_nulls_beside_something_else_are_no_answer(members: dict[str, Any]) -> None:
    with pytest.raises(Unexpected):
        parse(changed("payload", **{**NULLS, **members}), SHA256)


def test_one_url_is_not_a_plural() -> None:
    assert parse(changed(url_count="1", blacklists=None)).summary == "1 malware URL, 1 online"


@pytest.mark.parametrize(
    ("sample", "members"),
    [
        ("host", {"host": "203.0.113.8"}),
        ("host", {"host": "evil.example"}),
        ("url", {"url": "http://203.0.113.8/linux_mips"}),
        ("url", {"url": "not a url"}),
        ("payload", {"sha256_hash": "0" * 64}),
    ],
)
def test_an_answer_about_another_value_is_refused(sample: str, members: dict[str, str]) -> None:
    with pytest.raises(Unexpected, match="asked about"):
        parse(changed(sample, **members), ASKED[sample])


def test_the_vendor_may_spell_a_value_its_own_way() -> None:
    assert parse(changed(host="EVIL.example."), domain("evil.example")).score == api.ONLINE
    assert parse(changed("url", url="http://203.0.113.7/linux%5Fmips/"), URL).score == api.OFFLINE
    assert parse(changed("payload", sha256_hash=SHA256.value.upper()), SHA256).score == api.FAMILY


@pytest.mark.parametrize("link", ["https://evil.example/", "javascript:alert(1)", None, ...])
def test_only_the_vendors_own_pages_are_shown(link: Any) -> None:
    reference = parse(changed(urlhaus_reference=link)).reference
    assert reference == "https://urlhaus.abuse.ch/browse.php?search=203.0.113.7"


def test_labels_are_foreign_text_and_bounded() -> None:
    urls = json.loads(SAMPLES["host"])["urls"]
    urls[0]["tags"] = ["two\nlines", "x" * 500, *(f"tag-{n}" for n in range(100))]
    reputation = parse(changed(urls=urls, blacklists={"surbl": "a\r\nb"}))
    assert len(reputation.tags) == MOST_TAGS
    assert all(len(tag) <= 60 and tag.isprintable() for tag in reputation.tags)
    assert reputation.summary.isprintable()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (SAMPLES["host"][:200], Unavailable),
        (b"<html>maintenance</html>", Unexpected),
        (b'{"error": "Unauthorized"}', Unexpected),
        (b"[]", Unexpected),
        (b"null", Unexpected),
    ],
)
def test_other_bodies(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse(body)


@pytest.mark.parametrize(
    ("name", "asked", "score", "tags"),
    [
        ("urlhaus_1.1.1.1", address("1.1.1.1"), 90, ("elf", "mirai")),
        ("urlhaus_gist", domain("gist.github.com"), 40, ("Pikabot", "TA577", "zip", "foo")),
    ],
)
def test_recorded_answers(name: str, asked: Observable, score: int, tags: tuple[str, ...]) -> None:
    path = RECORDED / f"{name}.json"
    if not path.is_file():
        pytest.skip("needs ../shared/data/api-samples/wtfis, not present")
    recorded = json.loads(path.read_bytes())[asked.value]
    reputation = parse(json.dumps(recorded).encode(), asked)
    assert (reputation.answer, reputation.score) == (Answer.LISTED, score)
    assert set(tags) <= set(reputation.tags)
    assert reputation.summary.startswith(f"{recorded['url_count']} malware URLs")
