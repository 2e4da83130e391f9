"""Falcon's arguments and answers, on sample files."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Observable, Outcome, Rung, Step
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, Unexpected
from include.soar.vendor.wire import Response
from tests.stages.controls import indicator
from threat_response.vendors.crowdstrike_falcon import api

SAMPLES = Path(__file__).parent / "samples"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SHA256, MD5 = "0451" + "0" * 60, "a" * 32
WANTED = api.Wanted(hash_action="prevent", severity="high", platforms=("windows", "mac", "linux"))


def combined(**changes: Any) -> Response:
    document = json.loads((SAMPLES / "combined.json").read_bytes()) | changes
    return Response(200, {}, json.dumps(document).encode())


def iocs() -> list[api.IOC]:
    return api.parse_search(combined())


def test_indicators_are_read_as_they_are() -> None:
    ours, by_hand, expired = iocs()
    assert ours.expiration == datetime(2026, 12, 14, tzinfo=UTC)
    assert [i.ours for i in (ours, by_hand, expired)] == [True, False, True]
    assert by_hand.expiration is None
    assert by_hand.tags == ()


@pytest.mark.parametrize(
    ("position", "outcome", "words"),
    [(0, "blocked", "on all hosts"), (1, "detect_only", "1 host groups"), (2, "expired", "does nothing")],
)
def test_the_outcome_is_what_the_indicator_does(position: int, outcome: str, words: str) -> None:
    said, detail = api.outcome_of(iocs()[position], WANTED)
    assert said.value == outcome
    assert words in detail


@pytest.mark.parametrize("action", ["allow", "no_action", "something new"])
def test_only_prevent_and_detect_count(action: str) -> None:
    ours, by_hand, _ = (i.model_copy(update={"action": action}) for i in iocs())
    assert api.outcome_of(ours, WANTED)[0].value == "failed"
    assert api.outcome_of(by_hand, WANTED)[0].value == "protected"
    assert "not our indicator" in api.outcome_of(by_hand, WANTED)[1]


def test_a_short_answer_is_an_error() -> None:
    with pytest.raises(Unexpected, match="2 of 3 indicators came"):
        api.parse_search(combined(resources=json.loads((SAMPLES / "combined.json").read_bytes())["resources"][:2]))


def test_an_error_within_a_200_is_an_error() -> None:
    with pytest.raises(Unexpected, match="half of it"):
        api.parse_search(combined(errors=[{"code": 500, "message": "half of it"}]))


@pytest.mark.parametrize("member", ["id", "type", "value", "action"])
def test_what_must_be_there_has_no_default(member: str) -> None:
    document = json.loads((SAMPLES / "combined.json").read_bytes())
    del document["resources"][0][member]
    with pytest.raises(Unexpected, match=member):
        api.parse_search(combined(resources=document["resources"]))


@pytest.mark.parametrize(
    ("observable", "kind"),
    [
        (Observable(type="ipv4-addr", value="198.51.100.7"), "ipv4"),
        (Observable(type="ipv6-addr", value="2001:db8::7"), "ipv6"),
        (Observable(type="domain-name", value="a-b_c.bad.example"), "domain"),
        (Observable(type="file", value=MD5), "md5"),
        (Observable(type="file", value=SHA256), "sha256"),
    ],
)
def test_types_in_the_vendors_words(observable: Observable, kind: str) -> None:
    assert api.type_of(observable) == kind


@pytest.mark.parametrize(
    ("observable", "words"),
    [
        (Observable(type="file", value="a" * 40), "not SHA-1"),
        (Observable(type="file", value="a" * 128), "not SHA-512"),
        (Observable(type="url", value="http://bad.example/"), "no url"),
        (Observable(type="email-addr", value="a@bad.example"), "no email-addr"),
        (Observable(type="domain-name", value="bad.example'+source:'x"), "ASCII domains"),
        (Observable(type="domain-name", value="bad.example\\"), "ASCII domains"),
        (Observable(type="domain-name", value="a." * 101 + "example"), "ASCII domains"),
    ],
)
def test_what_falcon_does_not_take_is_refused_before_it_gets_into_a_filter(observable: Observable, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        api.type_of(observable)
    with pytest.raises(ValueError):
        api.filters([observable])


def test_filters_ask_for_each_value_once_by_type() -> None:
    many = [Observable(type="ipv4-addr", value=f"198.51.100.{n}") for n in range(120)]
    parts = api.filters([*many, Observable(type="domain-name", value="bad.example")])
    assert parts[0] == ("type:'domain'+value:['bad.example']", ["bad.example"])
    assert [len(values) for _, values in parts] == [1, 50, 50, 20]
    assert sorted(v for _, values in parts[1:] for v in values) == sorted(o.value for o in many)


def test_a_creation_names_the_incident_and_ends() -> None:
    ends = datetime(2026, 12, 9, 1, 2, 3, 999, tzinfo=UTC)
    row = api.creation(indicator("ipv4-addr", "198.51.100.7", expires_at=ends), ["INC-1", "INC-2"], WANTED)
    assert row == {
        "type": "ipv4",
        "value": "198.51.100.7",
        "action": "detect",
        "severity": "high",
        "platforms": ["windows", "mac", "linux"],
        "expiration": "2026-12-09T01:02:03Z",
        "source": "threat-response",
        "tags": ["threat-response"],
        "description": "Threat response: INC-1, INC-2; confidence 80",
        "applied_globally": True,
    }
    crowd = api.creation(
        indicator("file", SHA256), [f"INC-{n}" for n in range(100)], replace(WANTED, host_groups=("g",))
    )
    assert crowd["action"] == "prevent"
    assert len(crowd["description"]) == 200
    assert (crowd["applied_globally"], crowd["host_groups"]) == (False, ["g"])


@pytest.mark.parametrize(
    ("ioc", "wanted", "changes"),
    [
        ({}, datetime(2026, 12, 14, 0, 0, 0, 999, tzinfo=UTC), None),
        ({}, datetime(2026, 12, 1, tzinfo=UTC), None),
        ({}, datetime(2026, 12, 20, tzinfo=UTC), {"expiration": "2026-12-20T00:00:00Z"}),
        ({"expiration": None}, datetime(2026, 12, 20, tzinfo=UTC), None),
        ({"action": "prevent_no_ui"}, datetime(2026, 12, 1, tzinfo=UTC), None),
        ({"action": "detect"}, datetime(2026, 12, 1, tzinfo=UTC), {"action": "prevent"}),
        (
            {"action": "no_action", "expired": True, "expiration": datetime(2026, 1, 1, tzinfo=UTC)},
            datetime(2026, 12, 1, tzinfo=UTC),
            {"action": "prevent", "expiration": "2026-12-01T00:00:00Z"},
        ),
    ],
)
def test_an_update_never_shortens_nor_weakens(ioc: dict[str, Any], wanted: datetime, changes: dict[str, Any]) -> None:
    ours = iocs()[0].model_copy(update=ioc)
    row = api.update_for(ours, indicator("file", SHA256, expires_at=wanted), WANTED)
    if changes is None:
        assert row is None
    else:
        whole = {
            "id": ours.id,
            "action": "prevent",
            "severity": "high",
            "platforms": ["mac", "windows", "linux"],
            "expiration": "2026-12-14T00:00:00Z",
            "source": "threat-response",
            "tags": ["threat-response"],
            "description": "Threat response: INC-1; confidence 80",
            "applied_globally": True,
        }
        assert row == whole | changes


def test_the_reason_of_a_refusal_stands_in_resources() -> None:
    assert "Duplicate type" in api.refused_because((SAMPLES / "duplicate.json").read_bytes())
    assert api.refused_because(b'{"errors": [{"code": 400, "message": "why"}], "resources": []}') == "why"


@pytest.mark.parametrize(
    "resources", [True, 7, "text", {"a": 1}, [None], ["text"], [{"message": 7}], [{"message": ""}]]
)
def test_a_refusal_of_any_shape_is_told_and_is_no_error_of_its_own(resources: Any) -> None:
    """1j: ``resources: true`` was a TypeError, by which the operator died without its batch."""
    body = json.dumps({"errors": [{"code": 400, "message": "why"}], "resources": resources}).encode()
    assert api.refused_because(body) == "why"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b"{", b'{"resources": {', b"\xff"])
def test_a_refusal_that_is_not_even_json_is_told(body: bytes) -> None:
    """1j"""
    assert api.refused_because(body)


@pytest.mark.parametrize(
    ("member", "value"),
    [("expiration", "soon"), ("expiration", "9999-12-31T23:59:59-12:00"), ("expired", "maybe"), ("tags", 7)],
)
def test_an_indicator_that_cannot_be_read_costs_itself_only(member: str, value: Any) -> None:
    """1i, 1j"""
    resources = json.loads((SAMPLES / "combined.json").read_bytes())["resources"]
    resources[0][member] = value
    odd, *others = api.parse_search(combined(resources=resources))
    assert (odd.key, odd.ours) == ((resources[0]["type"], resources[0]["value"]), False)
    outcome, detail = api.outcome_of(odd, WANTED)
    assert outcome is Outcome.FAILED
    assert member in detail
    assert not any(isinstance(ioc, api.UnreadableIOC) for ioc in others)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (Response(201, {}, b'{"access_token": "x", "expires_in": 1799}'), None),
        (Response(201, {}, b'{"access_token": "x'), Unavailable),
        (Response(201, {}, b'{"expires_in": 1799}'), Unexpected),
        (Response(200, {}, b"<html>"), Unexpected),
        (Response(308, {}, b""), Unexpected),
        (Response(403, {}, b'{"errors": [{"code": 403, "message": "access denied"}]}'), Unauthorized),
        (Response(401, {}, b"{}"), Unauthorized),
        (Response(429, {"x-ratelimit-retryafter": str(int(NOW.timestamp()) + 42)}, b"{}"), RateLimited),
        (Response(503, {}, b""), Unavailable),
    ],
)
def test_an_answer_without_a_token(response: Response, error: type | None) -> None:
    if error is None:
        api.check_token(response, NOW)
        return
    with pytest.raises(error) as caught:
        api.check_token(response, NOW)
    if error is Unauthorized:
        assert caught.value.status is None  # a 403 here is no missing grant
    if error is RateLimited:
        assert caught.value.retry_after == 42


def test_the_rung_decides_the_action() -> None:
    """A hash that is only to be detected was prevented, like one that is to be blocked."""

    def at(rung: Rung, kind: str, value: str, wanted: api.Wanted = WANTED) -> str:
        one = indicator(kind, value)
        step = Step(rung=rung, expires_at=one.expires_at)
        return wanted.action(one.model_copy(update={"steps": (step,)}))

    assert [at(rung, "file", SHA256) for rung in Rung] == ["detect", "detect", "prevent", "prevent"]
    assert [at(rung, "ipv4-addr", "198.51.100.7") for rung in Rung] == ["detect"] * 4
    firewall = replace(WANTED, address_action="block")
    assert [at(rung, "domain-name", "bad.example", firewall) for rung in Rung] == ["detect", "detect", "block", "block"]
    assert WANTED.action(indicator("file", SHA256)) == "prevent"  # of a release without rungs


def test_an_action_of_the_tenants_own_is_a_block_where_the_connection_names_it() -> None:
    ours = iocs()[1].model_copy(update={"action": "block", "source": api.OUR_SOURCE})
    assert api.outcome_of(ours, WANTED)[0] is Outcome.FAILED
    assert api.outcome_of(ours, replace(WANTED, address_action="block"))[0] is Outcome.BLOCKED


def test_a_parents_indicator_is_not_ours() -> None:
    ours = iocs()[1].model_copy(update={"source": api.OUR_SOURCE})
    assert (ours.ours, ours.model_copy(update={"from_parent": True}).ours) == (True, False)
