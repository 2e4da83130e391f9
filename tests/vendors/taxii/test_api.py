"""TAXII's answers and the STIX in them, on sample files."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, Observable, Reputation
from include.soar.vendor.errors import Unexpected
from include.soar.vendor.wire import Response
from tests.conftest import ROOT
from tests.soar.examples import NOW, address, at, domain
from threat_response.vendors.taxii import api
from threat_response.vendors.taxii.api import Collection, State
from threat_response.vendors.taxii.index import Index, doubt

SAMPLES = Path(__file__).parent / "samples"
OBJECTS: list[dict[str, Any]] = json.loads((SAMPLES / "envelope.json").read_bytes())["objects"]
BUNDLE: list[dict[str, Any]] = json.loads((SAMPLES / "bundle20.json").read_bytes())["objects"]
BOX = Collection("/intel/", "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "High value")
EVIL, NAME = address("203.0.113.7"), domain("evil.example")
URL = "https://taxii.example"


def response(body: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def sample(name: str) -> Response:
    return response((SAMPLES / name).read_bytes())


def state(objects: Any = OBJECTS) -> State:
    found: State = {}
    assert api.merge(found, objects) == 0
    return found


def changed(number: int = 0, **change: Any) -> State:
    """The sample with one object changed; a member that is ``...`` is taken out."""
    stix = {k: v for k, v in {**OBJECTS[number], **change}.items() if v is not ...}
    return state([*OBJECTS[:number], stix, *OBJECTS[number + 1 :]])


def ask(observable: Observable, found: State | None = None, doubts: tuple[str, ...] = ()) -> Reputation:
    index = Index([state() if found is None else found])
    return index.reputation(observable, body_digest="d", doubts=doubts, known_at=NOW)


# --- TAXII -------------------------------------------------------------------------------------------------------


def test_discovery_and_collections() -> None:
    found = api.parse_discovery(sample("discovery.json"))
    assert (found.title, found.default) == ("Intelligence", "https://taxii.example/intel/")
    assert api.parse_collections("/intel/", sample("collections.json")) == ([BOX], ["Closed"])
    assert api.parse_collections("/intel/", response({})) == ([], [])


def test_an_objects_request() -> None:
    request = api.objects_request(BOX, added_after="2026-11-20T00:00:00.000000Z", next_page="abc", limit=50)
    assert (request.method, request.path) == ("GET", f"/intel/collections/{BOX.id}/objects/")
    assert dict(request.params)["added_after"] == "2026-11-20T00:00:00.000000Z"
    assert (dict(request.params)["next"], dict(request.params)["limit"]) == ("abc", "50")
    assert {"indicator", "relationship", "attack-pattern"} <= set(dict(request.params)["match[type]"].split(","))
    assert request.headers == {"Accept": "application/taxii+json;version=2.1"}
    first = api.objects_request(Collection("/intel/", "a/../b", "x"), added_after=None, next_page=None, limit=50)
    assert {name for name, _ in first.params} == {"limit", "match[type]"}
    assert first.path == "/intel/collections/a%2F..%2Fb/objects/"


@pytest.mark.parametrize(
    "given",
    [
        *("application/taxii+json;version=2.1", "application/taxii+json; version=2.1", "Application/TAXII+json"),
        *("application/stix+json;version=2.1", "application/stix+json"),
    ],
)
def test_the_media_type(given: str) -> None:
    api.check_media_type("objects", response({}, **{"content-type": given}))


@pytest.mark.parametrize(
    "given",
    [
        "text/html",
        "",
        "application/json",
        "application/vnd.oasis.taxii+json; version=2.0",
        "application/taxii+json;version=2.0",
    ],
)
def test_what_is_no_taxii_21(given: str) -> None:
    with pytest.raises(Unexpected, match="not application/taxii"):
        api.check_media_type("objects", response({}, **{"content-type": given}))


@pytest.mark.parametrize(
    ("named", "url", "path"),
    [
        ("https://taxii.example/intel/", URL, "/intel/"),
        ("https://taxii.example/intel", URL, "/intel/"),
        ("/intel/", URL, "/intel/"),
        ("api1/", URL, "/taxii2/api1/"),
        ("http://inner.example:9000/intel/", URL, "/intel/"),
        ("https://taxii.example/base/intel/", f"{URL}/base", "/intel/"),
    ],
)
def test_the_path_of_an_api_root(named: str, url: str, path: str) -> None:
    assert api.root_path(named, url=url) == path


@pytest.mark.parametrize("named", ["https://taxii.example/intel/", "https://taxii.example/based/", "/x y/", "/a\r\nb/"])
def test_an_api_root_outside_of_the_connection(named: str) -> None:
    with pytest.raises(Unexpected, match="lies outside"):
        api.root_path(named, url=f"{URL}/base")


def test_another_host_is_noticed() -> None:
    assert api.is_elsewhere("http://taxii.example/intel/", url=URL)
    assert api.is_elsewhere("https://inner.example/intel/", url=URL)
    assert not api.is_elsewhere("https://taxii.example/intel/", url=URL)
    assert not api.is_elsewhere("/intel/", url=URL)


@pytest.mark.parametrize(
    ("before", "last", "expected"),
    [
        (None, "2026-11-20T00:00:00.123456Z", "2026-11-20T00:00:00.123456Z"),
        ("2026-11-20T00:00:00Z", None, "2026-11-20T00:00:00Z"),
        (None, None, None),
        # Not into the present: what comes within the same second is read again.
        (None, "2026-11-24T11:59:59Z", "2026-11-24T11:59:00.000000Z"),
        (None, "2030-01-01T00:00:00Z", "2026-11-24T11:59:00.000000Z"),
        # Nor back.
        ("2026-11-24T11:59:30Z", "2026-11-24T11:59:45Z", "2026-11-24T11:59:30Z"),
    ],
)
def test_where_the_next_reading_goes_on(before: str | None, last: str | None, expected: str | None) -> None:
    assert api.cursor(before, last, now=NOW) == expected


def test_a_time_that_is_none() -> None:
    with pytest.raises(Unexpected, match="not a time"):
        api.date_added_last(response({}, **{"x-taxii-date-added-last": "yesterday"}))
    assert api.date_added_last(response({})) is None


@pytest.mark.parametrize(
    "body", [{"objects": {}}, {"more": "perhaps"}, [], {"next": [5], "objects": []}, {"next": True}]
)
def test_another_envelope_is_not_guessed_at(body: Any) -> None:
    with pytest.raises(Unexpected):
        api.parse_envelope(response(body))


@pytest.mark.parametrize(
    "poison",
    [b'"x":' + b"[" * 2000 + b"]" * 2000, b'"x":"a\xffb"', b'"x":' + b"9" * 5000],
    ids=["too deep", "no UTF-8", "a number of 5,000 digits"],
)
def test_one_poisoned_object_costs_no_other(poison: bytes) -> None:
    first, second = (json.dumps(one).encode() for one in OBJECTS[:2])
    body = b'{"objects":[' + first + b"," + second[:-1] + b"," + poison + b"}]}"
    assert state(api.parse_envelope(response(body)).objects) == state(OBJECTS[:2])


@pytest.mark.parametrize(
    ("body", "more", "page"),
    [
        ({"more": True, "next": 2, "objects": []}, True, "2"),  # R3
        ({"more": True, "next": 10**30}, True, "1" + "0" * 30),
        ({"more": None, "next": None, "objects": None}, False, None),
        ({"more": None, "next": "b"}, True, "b"),
        ({"more": False, "next": "b"}, False, "b"),
    ],
)
def test_other_spellings_of_an_envelope(body: Any, more: bool, page: str | None) -> None:
    envelope = api.parse_envelope(response(body))
    assert (envelope.objects, envelope.more, envelope.next) == ((), more, page)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("Fri Nov 20 2026 01:00:00 GMT+0100 (Central European Standard Time)", "2026-11-20T00:00:00.000000Z"),
        ("Fri Nov 20 2026 00:00:00 GMT+0000", "2026-11-20T00:00:00.000000Z"),
        ("Fri, 20 Nov 2026 00:00:00 GMT", "2026-11-20T00:00:00.000000Z"),
        ("2026-11-20T00:00:00.123Z", "2026-11-20T00:00:00.123Z"),
    ],
)
def test_the_header_of_the_last_object(given: str, read: str) -> None:
    assert api.date_added_last(response({}, **{"x-taxii-date-added-last": given})) == read


def test_a_collection_without_a_title_is_called_by_its_id() -> None:
    ((found,), _) = api.parse_collections("/r/", response({"collections": [{"id": "a", "can_read": True}]}))
    assert found == Collection("/r/", "a", "a")


def test_an_empty_collection_answers_an_empty_object() -> None:
    envelope = api.parse_envelope(response({}))
    assert (envelope.objects, envelope.more, envelope.next) == ((), False, None)


# --- STIX --------------------------------------------------------------------------------------------------------


def test_an_indicator_in_force() -> None:
    assert ask(NAME) == Reputation(
        observable=NAME,
        provider="taxii",
        answer=Answer.LISTED,
        score=90,
        summary="1 indicator: Login attack from a host",
        tags=("tlp:amber", "malicious-activity", "campaign-7", "mitre-attack:credential-access", "GuLoader"),
        techniques=("T1078", "T1110.004"),
        first_reported_at=at("2026-11-18T00:00"),
        last_reported_at=at("2026-11-20T00:00"),
        body_digest="d",
        known_at=NOW,
    )


def test_an_address_is_named_by_itself_and_by_its_network() -> None:
    both = ask(EVIL)
    assert (both.score, both.summary) == (90, "2 indicators: Login attack from a host; A whole network")
    assert ask(address("203.0.113.14")).score == 45
    assert ask(address("203.0.113.16")).answer is Answer.NOT_LISTED
    assert ask(Observable(type="cidr", value="203.0.113.0/29")).score == 45
    assert ask(Observable(type="cidr", value="203.0.113.0/28")).score == 45
    assert ask(Observable(type="cidr", value="203.0.113.0/27")).answer is Answer.NOT_LISTED


def test_a_domain_does_not_name_what_is_below_it() -> None:
    assert ask(domain("www.evil.example")).answer is Answer.NOT_LISTED


@pytest.mark.parametrize(
    ("change", "listed", "summary"),
    [
        ({}, True, "1 indicator: Login attack from a host"),
        ({"valid_until": "2026-11-24T12:00:00Z"}, False, "no indicator in force (1 not in force now)"),
        ({"valid_until": "2026-11-24T12:00:01Z"}, True, "1 indicator: Login attack from a host"),
        ({"valid_until": ...}, True, "1 indicator: Login attack from a host"),
        ({"valid_from": "2026-11-24T12:00:01Z"}, False, "no indicator in force (1 not in force now)"),
        ({"valid_from": "2026-11-24T14:00:00+02:00"}, True, "1 indicator: Login attack from a host"),
        ({"revoked": True}, False, "no indicator"),
        ({"indicator_types": ["benign"]}, False, "1 indicator: Login attack from a host"),
        ({"confidence": 0}, False, "1 indicator: Login attack from a host"),
    ],
)
def test_what_is_in_force(change: dict[str, Any], listed: bool, summary: str) -> None:
    found = ask(NAME, changed(**change))
    assert (found.answer is Answer.LISTED, found.summary) == (listed, summary)


@pytest.mark.parametrize(
    ("types", "confidence", "score"),
    [
        (["malicious-activity"], 100, 100),
        (["malicious-activity"], None, 75),
        (["malicious-activity"], 30, 30),
        (["compromised"], 100, 90),
        (["anonymization"], 100, 40),
        (["anonymization", "malicious-activity"], 100, 100),
        (["url-watchlist"], 100, 80),
        ([], None, 60),
        (["benign"], 100, 0),
    ],
)
def test_the_score(types: list[str], confidence: int | None, score: int) -> None:
    assert api.score(types, confidence) == score
    change = {"indicator_types": types or ..., "labels": ..., "confidence": ... if confidence is None else confidence}
    assert ask(NAME, changed(**change)).score == score


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"valid_until": "9999-12-31T23:59:59-12:00"}, "indicator without a valid valid_until"),  # 1i
        ({"modified": "0001-01-01T00:00:00+14:00"}, "indicator without a valid modified"),
        ({"pattern": "[domain-name:value = 'evil.example' AND network-traffic:dst_port = 443]"}, "AND"),
        ({"valid_from": "yesterday"}, "indicator without a valid valid_from"),
        ({"modified": ...}, "indicator without a valid modified"),
        ({"confidence": 101}, "indicator without a valid confidence"),
        ({"revoked": "perhaps"}, "indicator without a valid revoked"),
    ],
)
def test_an_indicator_that_cannot_be_read_does_not_say_that_its_value_is_clean(
    change: dict[str, Any], problem: str
) -> None:
    """R2: "no indicator" was said of it."""
    found = changed(**change)
    assert api.count(found).unreadable[problem] >= 1
    said = ask(NAME, found)
    assert (said.answer, said.score) == (Answer.NOT_CHECKED, None)
    assert problem in said.summary
    assert ask(domain("other.example"), found).answer is Answer.NOT_LISTED


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pattern": ...}, "indicator without a valid pattern"),
        ({"pattern_type": "sigma"}, "pattern_type sigma"),
        ({"pattern": "[a:b = 'x']"}, "a:b"),
    ],
)
def test_an_indicator_of_which_nobody_knows_what_it_names_is_counted(change: dict[str, Any], problem: str) -> None:
    found = changed(**change)
    assert ask(NAME, found).answer is Answer.NOT_LISTED
    assert api.count(found).unreadable[problem] == 1


def test_what_is_only_repeated_costs_no_indicator() -> None:
    found = changed(
        name=None,
        labels=None,
        created="0001-01-01T00:00:00+14:00",
        external_references=[None, {"source_name": 5}],
        kill_chain_phases=None,
        object_marking_refs=[7],
    )
    assert ask(NAME, found).answer is Answer.LISTED


def test_a_collection_of_which_little_can_be_read_is_in_doubt() -> None:
    """GAP: it said "clean" of everything."""
    reference = {"title": "Box", "uri": "x", "fetched_at": NOW.isoformat(), "indicators": 9, "readable": 4}
    why = doubt(reference, now=NOW, stale_after=timedelta(days=2))
    assert why == "Box has 9 indicators, of which only 4 can be read"
    assert not doubt({**reference, "readable": 5}, now=NOW, stale_after=timedelta(days=2))


def test_the_counts() -> None:
    assert api.count(state()).model_dump() == {
        "indicators": 5,
        "readable": 3,
        "unreadable": {"AND": 1, "pattern_type yara": 1},
    }


def test_objects_that_are_none() -> None:
    assert api.merge({}, [None, 5, {}, {"id": 7}, {"id": "indicator"}, {"type": "indicator"}]) == 5


def test_of_an_object_the_newest_version_counts_whatever_comes_last() -> None:
    old, new = OBJECTS[0], {**OBJECTS[0], "modified": "2026-11-22T00:00:00Z", "confidence": 10}
    for order in ([old, new], [new, old]):
        assert ask(NAME, state(order)).score == 10
    taken_back = {**old, "modified": "2026-11-21T00:00:00.000001Z", "revoked": True}
    for order in ([old, taken_back], [taken_back, old]):
        assert ask(NAME, state(order)).answer is Answer.NOT_LISTED


def test_what_an_indicator_indicates() -> None:
    link = {**OBJECTS[8], "revoked": True}
    assert "GuLoader" not in ask(NAME, state([*OBJECTS[:8], link, *OBJECTS[9:]])).tags
    assert ask(NAME, state([*OBJECTS[:6], *OBJECTS[7:]])).tags[-1] == "mitre-attack:credential-access"
    other = {**OBJECTS[9], "relationship_type": "related-to"}
    assert ask(NAME, state([*OBJECTS[:9], other])).techniques == ("T1110.004",)


@pytest.mark.parametrize(
    "reference",
    [
        {"source_name": "capec", "external_id": "T1110"},
        {"source_name": "mitre-attack", "external_id": "T1110; drop"},
        {"source_name": "mitre-attack"},
    ],
)
def test_what_is_no_technique(reference: dict[str, str]) -> None:
    assert ask(NAME, changed(external_references=[reference])).techniques == ("T1078",)


def test_what_is_hostile_in_it_stays_on_one_line_and_bounded() -> None:
    found = ask(NAME, changed(name="x\n" * 500, labels=[f"l{i}\u202e" for i in range(60)]))
    assert "\n" not in found.summary
    assert len(found.summary) < 300
    assert len(found.tags) == 20
    assert found.tags[0] == "tlp:amber"
    assert not any("\u202e" in tag for tag in found.tags)


def test_a_dump_is_what_was_dumped_and_always_the_same() -> None:
    found = state()
    assert api.load(api.dump(found)) == found
    assert api.dump(state(reversed(OBJECTS))) == api.dump(found)
    assert api.load(b"") == {}


def test_what_ended_long_ago_is_forgotten() -> None:
    found = api.forget_lapsed(state(), now=NOW)
    assert OBJECTS[2]["id"] in found
    assert OBJECTS[2]["id"] not in api.forget_lapsed(found, now=NOW + timedelta(days=8))
    assert OBJECTS[1]["id"] in api.forget_lapsed(found, now=NOW + timedelta(days=9999))


def test_two_collections_are_one_answer() -> None:
    newer = [{**OBJECTS[0], "modified": "2026-11-22T00:00:00Z", "name": "The newer one"}]
    index = Index([state(), state(newer)])
    found = index.reputation(NAME, body_digest="", doubts=(), known_at=NOW)
    assert found.summary == "1 indicator: The newer one"


def test_the_silence_of_a_collection_in_doubt_is_no_answer() -> None:
    doubts = ("Box is stale",)
    assert ask(domain("other.example"), doubts=doubts).answer is Answer.NOT_CHECKED
    assert ask(NAME, changed(indicator_types=["benign"]), doubts).answer is Answer.NOT_CHECKED
    listed = ask(NAME, doubts=doubts)
    assert (listed.answer, listed.summary) == (Answer.LISTED, "1 indicator: Login attack from a host; Box is stale")


def test_when_a_collection_is_in_doubt() -> None:
    reference = {"title": "Box", "uri": "file:///x", "fetched_at": NOW.isoformat()}
    two_days = timedelta(days=2)
    assert doubt(reference, now=NOW + timedelta(hours=47), stale_after=two_days) == ""
    assert doubt(reference, now=NOW + two_days, stale_after=two_days).startswith("Box is stale: last read at 2026-")
    missing = {"title": "Box", "uri": None, "problem": "gone"}
    assert doubt(missing, now=NOW, stale_after=two_days) == "Box could not be read: gone"


# --- STIX 2.0 ----------------------------------------------------------------------------------------------------


def test_stix_20_is_read_the_same_way() -> None:
    found = state(BUNDLE)
    assert api.count(found).model_dump() == {
        "indicators": 2,
        "readable": 1,
        "unreadable": {"process:command_line": 1},
    }
    hash_ = Observable(type="file", value="2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")
    assert (ask(hash_, found).score, ask(hash_, found).tags) == (75, ("malicious-activity",))


def test_real_stix_20_bundles() -> None:
    folder = ROOT.parent / "shared/data/unit42-stix2"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/unit42-stix2, not present")
    found: State = {}
    files = sorted(folder.glob("*.json"))
    for file in files:
        assert api.merge(found, json.loads(file.read_bytes())["objects"]) == 0
    # 687 indicators, of which four have the id of another one (and so, by the standard, replace it: the only e-mail
    # address is lost that way). One URL has a blank in its host.
    assert (len(files), api.count(found).model_dump()) == (
        40,
        {
            "indicators": 683,
            "readable": 678,
            "unreadable": {"process:command_line": 4, "url:value with a value that is none": 1},
        },
    )
    kinds = {key.partition(":")[0] for record in found.values() for key in record.get("named", ())}
    assert kinds == {"ipv4-addr", "domain-name", "url", "file"}
