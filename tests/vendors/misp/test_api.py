"""MISP's answers on sample files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unexpected
from include.soar.vendor.wire import Response
from tests.soar.examples import NOW, address, at, domain
from threat_response.vendors.misp import api

SAMPLE = (Path(__file__).parent / "samples/search.json").read_bytes()
HASH = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
FILE = Observable(type=ObservableType.FILE, value=HASH)
EVIL, SHARED, CONTEXT, CLEAN = (
    address("203.0.113.7"),
    domain("cdn.example.org"),
    address("203.0.113.9"),
    domain("a.example"),
)
ZIP = domain("report.zip")


def response(body: Any = SAMPLE, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def answers(*observables: Observable, body: Any = SAMPLE) -> dict[Observable, Reputation]:
    found = api.reputations(
        observables,
        api.parse_page(response(body)),
        body_digest="d",
        page_of="https://misp.example/events/view/{}".format,
        known_at=NOW,
    )
    return {reputation.observable: reputation for reputation in found}


def changed(change: dict[str, Any], number: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SAMPLE)
    attribute = document["response"]["Attribute"][number]
    attribute.update(change)
    document["response"]["Attribute"] = [{k: v for k, v in attribute.items() if v != "absent"}]
    return document


def test_one_call_asks_about_all_values() -> None:
    request = api.search_request(
        [EVIL, CLEAN], page=2, page_size=50, published_only=True, warning_lists=True, last="365d"
    )
    assert (request.method, request.path, request.writes) == ("POST", "/attributes/restSearch", False)
    assert request.json == {
        "returnFormat": "json",
        "value": ["203.0.113.7", "a.example"],
        "type": ["domain", "domain|ip", "hostname", "hostname|port", "ip-dst", "ip-dst|port", "ip-src", "ip-src|port"],
        "to_ids": 1,
        "enforceWarninglist": 1,
        "includeEventTags": 1,
        "includeContext": 1,
        "limit": 50,
        "page": 2,
        "published": 1,
        "last": "365d",
    }
    lax = api.search_request([EVIL], page=1, page_size=50, published_only=False, warning_lists=False, last=None)
    assert (lax.json["enforceWarninglist"], lax.json["value"]) == (0, ["203.0.113.7"])
    assert not {"published", "last"} & set(lax.json)


def test_a_listed_address() -> None:
    assert answers(EVIL)[EVIL] == Reputation(
        observable=EVIL,
        provider="misp",
        answer=Answer.LISTED,
        score=90,
        summary="ip-src in 2 events: Credential stuffing against APIs and others",
        reference="https://misp.example/events/view/11",
        tags=(
            "tlp:amber",
            "kill-chain:Delivery",
            'misp-galaxy:mitre-attack-pattern="Credential Stuffing - T1110.004"',
        ),
        techniques=("T1110.004",),
        first_reported_at=at("2026-11-18T06:00"),
        last_reported_at=at("2026-11-21T00:00"),
        body_digest="d",
        known_at=NOW,
    )


def test_the_hash_of_a_composite_counts_and_its_file_name_does_not() -> None:
    found = answers(FILE, ZIP)
    assert (found[FILE].answer, found[FILE].score) == (Answer.LISTED, 75)
    assert found[FILE].last_reported_at == at("2026-11-22T00:00")
    assert found[ZIP].answer is Answer.NOT_LISTED


def test_what_is_not_found_or_only_context_is_not_listed() -> None:
    found = answers(CONTEXT, CLEAN)
    for observable in (CONTEXT, CLEAN):
        assert (found[observable].answer, found[observable].score) == (Answer.NOT_LISTED, 0)
        assert (found[observable].reference, found[observable].last_reported_at) == (None, None)


def test_a_likely_false_positive_is_worth_little() -> None:
    assert answers(SHARED)[SHARED].score == 10
    confirmed = changed({"Tag": [{"name": 'false-positive:confirmed="true"'}]})
    assert answers(EVIL, body=confirmed)[EVIL].answer is Answer.NOT_LISTED


@pytest.mark.parametrize(
    ("level", "tags", "score"),
    [
        ("1", [], 90),
        ("2", [], 75),
        ("3", [], 50),
        ("4", [], 60),
        (None, [], 60),
        ("9", [], 60),
        ("4", ['misp:confidence-level="completely-confident"'], 100),
        ("1", ['misp:confidence-level="rarely-confident"'], 25),
        ("1", ['misp:confidence-level="confidence-cannot-be-evaluated"'], 90),
        ("1", ['misp:confidence-level="fairly-confident"', 'misp:confidence-level="completely-confident"'], 50),
        ("1", ['false-positive:risk="medium"'], 40),
        ("1", ['false-positive:risk="low"'], 90),
    ],
)
def test_the_score(level: str | None, tags: list[str], score: int) -> None:
    body = changed({"Tag": [{"name": name} for name in tags]})
    body["response"]["Attribute"][0]["Event"]["threat_level_id"] = level
    assert answers(EVIL, body=body)[EVIL].score == score


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("ip-src", "203.0.113.7", True),
        ("ip-src|port", "203.0.113.7|443", True),
        ("domain|ip", "a.example|203.0.113.7", True),
        ("ip-src", "203.0.113.70", False),
        ("text", "203.0.113.7", False),
        ("filename", "203.0.113.7", False),
        ("ip-src", "203.0.113.7|443", False),  # no such value of that type
        ("ip-src|port", "443|203.0.113.7", True),
    ],
)
def test_which_attributes_name_an_address(kind: str, value: str, found: bool) -> None:
    assert (answers(EVIL, body=changed({"type": kind, "value": value}))[EVIL].answer is Answer.LISTED) is found


@pytest.mark.parametrize(
    ("observable", "kind", "value"),
    [
        (address("2001:db8::1"), "ip-dst", "2001:db8:0::1"),
        (Observable(type="cidr", value="203.0.113.0/24"), "ip-src", "203.0.113.0/24"),
        (domain("evil.example"), "hostname|port", "Evil.Example|443"),
        (Observable(type="url", value="https://evil.example/A|b"), "url", "https://EVIL.example/A|b"),
        (Observable(type="email-addr", value="me@evil.example"), "email-src", "me@Evil.example"),
        (
            Observable(type="file", value="c8372a6127166207f570d10e9ba99fd1"),
            "malware-sample",
            "x.exe|C8372A6127166207F570D10E9BA99FD1",
        ),
    ],
)
def test_values_are_compared_as_we_spell_them(observable: Observable, kind: str, value: str) -> None:
    assert answers(observable, body=changed({"type": kind, "value": value}))[observable].answer is Answer.LISTED


def test_a_path_that_differs_in_case_is_another_url() -> None:
    """MISP's database would find it."""
    asked = Observable(type="url", value="https://evil.example/a")
    assert answers(asked, body=changed({"type": "url", "value": "https://evil.example/A"}))[asked].score == 0


def test_the_same_attribute_of_two_pages_is_one() -> None:
    page = api.parse_page(response())
    (twice,) = api.reputations([EVIL], [*page, *page], body_digest="", page_of=str, known_at=NOW)
    assert twice.summary.startswith("ip-src in 2 events")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response": {}},
        {"response": []},
        {"response": {"Attribute": {}}},
        changed({"value": "absent"}),
        changed({"type": 5}),
    ],
)
def test_another_shape_is_not_guessed_at(body: Any) -> None:
    with pytest.raises(Unexpected):
        answers(EVIL, body=body)


@pytest.mark.parametrize(
    ("change", "score"),
    [
        ({"Event": {"id": 122, "threat_level_id": 1, "info": "x"}, "timestamp": 1795132800}, 90),  # R15: PHP 8
        ({"Event": {"id": 122, "threat_level_id": 3, "info": "x"}}, 50),
        ({"Event": {"id": "122", "threat_level_id": True, "info": None}}, 60),
        ({"Tag": None}, 90),
        ({"Tag": [None, {"name": 5}, {"name": "tlp:red"}]}, 90),
        ({"last_seen": "9999-12-31T23:59:59-12:00"}, 90),  # 1i
        ({"first_seen": "0001-01-01T00:00:00+14:00"}, 90),
        ({"first_seen": "yesterday", "last_seen": []}, 90),
        ({"type": "ip-src", "value": "203.0.113.0/24"}, 90),
    ],
)
def test_what_is_only_repeated_costs_no_answer(change: dict[str, Any], score: int) -> None:
    said = answers(EVIL, body=changed(change))[EVIL]
    assert (said.answer, said.score) == (Answer.LISTED, score)


def test_a_network_that_is_a_slip_lists_nobody() -> None:
    assert answers(EVIL, body=changed({"value": "0.0.0.0/0"}))[EVIL].answer is Answer.NOT_LISTED


@pytest.mark.parametrize(
    ("change", "others"),
    [
        ({"timestamp": "9999-12-31T23:59:59-12:00"}, Answer.NOT_LISTED),  # 1i
        ({"to_ids": None}, Answer.NOT_LISTED),
        ({"Event": None}, Answer.NOT_LISTED),
        ({"value": None}, Answer.ERROR),  # whom it names, nobody can say
        ({"to_ids": False, "Event": None}, None),
    ],
)
def test_an_attribute_that_cannot_be_read_costs_what_it_names(change: dict[str, Any], others: Answer | None) -> None:
    body = json.loads(SAMPLE)
    attributes = body["response"]["Attribute"]
    body["response"]["Attribute"] = [{**attributes[0], **change}, attributes[2]]
    quiet = address("203.0.113.99")
    file = Observable(type=ObservableType.FILE, value=attributes[2]["value"].partition("|")[2].lower())
    said = answers(EVIL, quiet, file, body=body)
    assert said[file].answer is Answer.LISTED
    assert said[EVIL].answer is (Answer.ERROR if others else Answer.NOT_LISTED)
    assert said[quiet].answer is (others or Answer.NOT_LISTED)


@pytest.mark.parametrize(
    "body",
    [
        changed({"to_ids": "absent"}),
        changed({"to_ids": None}),
        changed({"timestamp": "yesterday"}),
        changed({"timestamp": "9999-12-31T23:59:59-12:00"}),
        changed({"Event": "absent"}),
        changed({"Event": {"id": "../1", "info": "x"}}),
    ],
)
def test_an_attribute_that_cannot_be_read_and_is_found_alone_costs_what_it_names(body: Any) -> None:
    """Whoever may publish could take its answers from a whole batch of values, and open the breaker."""
    quiet = address("203.0.113.99")
    said = answers(EVIL, quiet, body=body)
    assert (said[EVIL].answer, said[quiet].answer) == (Answer.ERROR, Answer.NOT_LISTED)


def test_what_is_hostile_in_it_stays_on_one_line() -> None:
    body = changed({"Tag": [{"name": "a\nFORGED"}]})
    body["response"]["Attribute"][0]["Event"]["info"] = "x" * 5000 + "\u202e"
    found = answers(EVIL, body=body)[EVIL]
    assert found.tags == ("a FORGED",)
    assert len(found.summary) < 200


def test_tags_are_bounded_and_what_says_who_may_see_it_stays() -> None:
    body = changed({"Tag": [{"name": f"n{i}"} for i in range(50)] + [{"name": "tlp:red"}]})
    tags = answers(EVIL, body=body)[EVIL].tags
    assert (len(tags), tags[0]) == (20, "tlp:red")


@pytest.mark.parametrize(
    ("headers", "found", "last"),
    [
        ({"x-skipped-elements-count": "0"}, 9, True),
        ({"x-skipped-elements-count": "0"}, 10, False),
        ({"x-skipped-elements-count": "10"}, 0, False),
        ({"x-skipped-elements-count": "9"}, 0, True),
        ({}, 0, True),
        ({}, 1, False),
        ({"x-skipped-elements-count": "many"}, 1, False),
    ],
)
def test_which_page_is_the_last(headers: dict[str, str], found: int, last: bool) -> None:
    assert api.is_last_page(response(**headers), found, page_size=10) is last


@pytest.mark.parametrize(
    ("value", "askable"),
    [("203.0.113.7", True), ("https://evil.example/%41", True), ("https://evil.example/100%", False)],
)
def test_a_value_that_misp_would_read_as_a_pattern_is_not_asked(value: str, askable: bool) -> None:
    assert api.is_askable(Observable(type="url", value=value)) is askable
    assert not api.is_askable(Observable(type="email-addr", value="!me@evil.example"))
