"""Requests and answers of Akamai API Security, on sample files."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from include.soar.extract import records
from include.soar.extract.findings import observe
from include.soar.model import Finding, Role, Severity, own_id
from include.soar.vendor.errors import Unavailable, Unexpected
from include.soar.vendor.wire import Response
from tests.soar.deciding import blocked as blocked_at_once
from tests.soar.deciding import decision_on
from tests.soar.examples import address, policy, reputation
from threat_response.vendors.akamai_api_security import api

SAMPLES = Path(__file__).parent / "samples"
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
END = datetime(2026, 1, 2, 4, 0, tzinfo=UTC)


def sample(name: str) -> Response:
    return Response(200, {}, (SAMPLES / f"{name}.json").read_bytes())


def entities(kind: str) -> list[Any]:
    return api.parse_list(kind, sample(f"{kind}s")).entities


def said(finding: Finding, role: Role) -> dict[str, str]:
    return {m.field: m.text for m in finding.mentions if m.role is role}


@pytest.fixture
def incident() -> dict[str, Any]:
    return copy.deepcopy(entities("incident")[0])


def test_a_list_request_asks_a_millisecond_wider_and_repeats_return_fields() -> None:
    request = api.list_request("finding", START, END, offset=100, limit=50)
    params = list(request.params)
    assert (request.method, request.path, request.writes) == ("GET", "/api/v4/findings", False)
    assert ("detectionStartDate", "2026-01-02T02:59:59.999Z") in params
    assert ("detectionEndDate", "2026-01-02T04:00:00.001Z") in params
    assert {("sortDesc", "true"), ("limit", "50"), ("offset", "100")} <= set(params)
    assert [value for name, value in params if name == "returnFields"] == list(api.RETURN_FIELDS["finding"])
    assert len(api.RETURN_FIELDS["finding"]) == 30


def test_return_fields_can_be_left_out() -> None:
    request = api.list_request("incident", START, END, offset=0, limit=50, fields=())
    assert "returnFields" not in dict(request.params)


def test_an_alerts_request_asks_from_the_second_before() -> None:
    request = api.alerts_request("acme/../x", START.replace(microsecond=500), offset=50)
    assert request.path == "/v4/organizations/acme%2F..%2Fx/alerts/query"
    assert request.json == {
        "alert_filters": [{"name": "triggered_at", "operator": "Gt", "value": "2026-01-02T02:59:59.000000Z"}],
        "offset": 50,
        "sort_by": "asc(triggered_at)",
        "limit": 50,
    }
    assert not request.writes


def test_an_incident_becomes_a_finding() -> None:
    finding = api.parse("incident", entities("incident")[0])
    assert finding.uid == own_id("finding", "akamai_api_security", "incident", "018c78a642ab948bf4800ce68e912465")
    assert finding.vendor_id == "018c78a642ab948bf4800ce68e912465"
    assert finding.title == "Brute force attempt on authentication endpoint"
    assert finding.category == "bruteForce"
    assert finding.severity is Severity.HIGH
    assert finding.confidence == 90
    assert finding.detected_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert finding.target == "POST api.shop.example/v1/login"
    assert finding.url == "https://tenant.api-security.example/incidents/018c78a642ab948bf4800ce68e912465"
    assert finding.tags == ("kind:incident", "status:open", "module:Runtime", "API2:2023 Broken Authentication")


def test_who_said_what_in_an_incident() -> None:
    finding = api.parse("incident", entities("incident")[0])
    attackers = [m.text for m in finding.mentions if m.role is Role.ATTACKER]
    assert attackers == ["203.0.113.7", "203.0.113.7", "2001:db8::7"]
    assert said(finding, Role.VICTIM) == {"host": "api.shop.example"}
    assert said(finding, Role.CLAIM) == {
        "evidence[0].request.headers.X-Forwarded-For": "198.51.100.9, 203.0.113.7",
        "evidence[0].request.headers.True-Client-IP": "198.51.100.10",
        "evidence[1].requestHeaders.Forwarded": "for=192.0.2.60",
    }
    mentioned = said(finding, Role.MENTIONED)
    assert mentioned["evidence[0].request.url"] == "/v1/login?next=http://evil.example/"
    assert mentioned["evidence[0].request.headers.User-Agent"] == "curl/8"
    assert mentioned["evidence[0].request.body.site"] == "http://body.example/"
    assert mentioned["evidence[0].response.headers.Server"] == "nginx"
    assert mentioned["comments[0].text"] == "seen with 198.51.100.4 too"
    assert {"path", "description", "investigate"} <= set(mentioned)


def test_credentials_in_evidence_stay_behind() -> None:
    finding = api.parse("incident", entities("incident")[0]).model_dump_json()
    alert = api.parse("alert", json.loads(sample("alerts").body)["items"][0]).model_dump_json()
    assert "should-never-leave-the-page" not in finding + alert
    assert "hunter2" not in finding


def test_a_wrapped_and_flat_incident() -> None:
    finding = api.parse("incident", entities("incident")[1])
    assert finding.vendor_id == "018c78a642ab948bf4800ce68e912466"
    assert finding.severity is Severity.INFORMATIONAL
    assert finding.confidence is None  # "Certain" is not one of the vendor's words
    assert [(m.field, m.text) for m in finding.mentions if m.role is Role.ATTACKER] == [
        ("attackerIp", "203.0.113.8"),
        ("attackerIps", "203.0.113.8"),
        ("attackerIps", "203.0.113.9"),
    ]
    assert api.name_of("incident", entities("incident")[1]) == "incident 018c78a642ab948bf4800ce68e912466"


def test_a_posture_finding_has_no_attacker_and_keeps_its_status() -> None:
    finding = api.parse("finding", entities("finding")[0])
    assert not said(finding, Role.ATTACKER)
    assert said(finding, Role.MENTIONED)["attackerIp"] == "203.0.113.50"
    assert {"status:resolved", "module:Posture", "group:shop", "PCI DSS 4.0"} <= set(finding.tags)


def test_the_same_id_of_another_kind_is_another_finding(incident: dict[str, Any]) -> None:
    assert api.parse("incident", incident).uid != api.parse("finding", incident).uid


@pytest.mark.parametrize(
    ("attacker", "expected"),
    [
        pytest.param({"identifier": "203.0.113.1", "identifierType": "ip"}, ["203.0.113.1"], id="ip"),
        pytest.param({"identifier": "203.0.113.1"}, ["203.0.113.1"], id="no type, an address"),
        pytest.param({"identifier": "alice@shop.example", "identifierType": "User"}, [], id="user"),
        pytest.param({"identifier": "alice@shop.example"}, [], id="no type, no address"),
        pytest.param("203.0.113.1", [], id="not an object"),
        pytest.param({"IP": "203.0.113.1"}, ["203.0.113.1"], id="one address, not a list"),
        pytest.param({"IP": [None, 7, {"a": 1}]}, ["7"], id="other kinds of value"),
    ],
)
def test_attackers(incident: dict[str, Any], attacker: Any, expected: list[str]) -> None:
    incident["attacker"] = attacker
    finding = api.parse("incident", incident)
    assert [m.text for m in finding.mentions if m.role is Role.ATTACKER] == expected


def test_an_alert_becomes_a_finding() -> None:
    item = json.loads(sample("alerts").body)["items"][0]
    finding = api.parse("alert", item)
    assert finding.uid == own_id("finding", "akamai_api_security", "alert", item["id"])
    assert (finding.severity, finding.confidence, finding.url) == (Severity.LOW, None, None)
    assert finding.category == "Account Takeover"
    assert finding.detected_at == datetime(2026, 1, 2, 3, 4, 9, 129000, tzinfo=UTC)
    assert finding.tags == (
        "kind:alert",
        "status:Open",
        "module:UserBehaviorAlert",
        "OWASP API2",
        "Unauthenticated EP",
    )
    assert said(finding, Role.ATTACKER) == {"caller_ips": "203.0.113.7", "entities[0].value": "203.0.113.7"}
    assert said(finding, Role.VICTIM) == {"endpoints[0].service_name": "auth.shop.example"}
    assert said(finding, Role.MENTIONED)["entities[1].value"] == "198.51.100.1"


def test_a_posture_alert_has_no_attacker() -> None:
    item = json.loads(sample("alerts").body)["items"][0] | {"alert_type": "APIAlert"}
    assert not said(api.parse("alert", item), Role.ATTACKER)


@pytest.mark.parametrize("word", ["Info", "INFORMATIONAL", "low", "Medium", " High ", "critical"])
def test_severity_words(incident: dict[str, Any], word: str) -> None:
    expected = {"info": "informational"}.get(word.strip().lower(), word.strip().lower())
    assert api.parse("incident", incident | {"severity": word}).severity.value == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"severity": "Severe"}, "severity", id="unknown severity"),
        pytest.param({"severity": None}, "severity", id="null severity"),
        pytest.param({"severity": ...}, "severity", id="no severity"),
        pytest.param({"detectionTime": ...}, "detectionTime", id="no time"),
        pytest.param({"detectionTime": "yesterday"}, "detectionTime", id="no such time"),
        pytest.param({"detectionTime": "2026-01-02T03:04:05"}, "detectionTime", id="no zone"),
        pytest.param({"id": ...}, "id", id="no id"),
        pytest.param({"id": ""}, "id", id="empty id"),
    ],
)
def test_a_record_without_meaning_is_refused_and_names_its_field(
    incident: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    record = {k: v for k, v in (incident | change).items() if v is not ...}
    with pytest.raises(ValidationError) as caught:
        api.parse("incident", record)
    assert caught.value.errors()[0]["loc"] == (field,)


@pytest.mark.parametrize("record", [None, "x", 7, [], {"data": "x"}])
def test_what_is_no_record_is_refused(record: Any) -> None:
    with pytest.raises(ValidationError):
        api.parse("incident", record)
    assert api.in_window(record, START, END)  # stays, so that it can be named


@pytest.mark.parametrize(
    ("time", "inside"),
    [
        ("2026-01-02T02:59:59.999Z", False),
        ("2026-01-02T03:00:00.000Z", True),
        ("2026-01-02T03:59:59.999999Z", True),
        ("2026-01-02T04:00:00Z", False),
        ("2026-01-02T04:30:00+01:00", True),
        ("never", True),
    ],
)
def test_the_window_is_half_open(time: str, inside: bool) -> None:
    assert api.in_window({"id": "1", "detectionTime": time}, START, END) is inside
    assert api.in_window({"id": "1", "triggered_at": time}, START, END) is inside


def test_an_empty_page_that_promises_more_is_a_short_read() -> None:
    with pytest.raises(Unexpected, match="short read"):
        api.parse_list("incident", Response(200, {}, b'{"entities": [], "moreEntities": true}'))


@pytest.mark.parametrize(
    "body", [b'{"entities": null}', b'{"moreEntities": false}', b'{"entities": {}, "moreEntities": false}']
)
def test_a_list_without_its_envelope_is_unexpected(body: bytes) -> None:
    with pytest.raises(Unexpected):
        api.parse_list("incident", Response(200, {}, body))


@pytest.mark.parametrize(
    ("items", "total", "offset"),
    [
        pytest.param(0, 60, 0, id="page missing"),
        pytest.param(49, 60, 0, id="one alert missing in the middle"),
        pytest.param(9, 60, 50, id="one alert missing at the end"),
        pytest.param(2, 1, 0, id="more than the total"),
    ],
)
def test_alerts_must_match_their_total(items: int, total: int, offset: int) -> None:
    body = json.dumps({"items": [{}] * items, "count": items, "total": total}).encode()
    with pytest.raises(Unexpected, match="short read"):
        api.parse_alerts(Response(200, {}, body), offset=offset, limit=50)


def test_a_cut_token_answer_is_tried_again() -> None:
    with pytest.raises(Unavailable):
        api.parse_token(Response(201, {}, b'{"accessToken": "abc'))
    with pytest.raises(Unexpected):
        api.parse_token(Response(200, {}, b'{"token": "abc"}'))


def test_a_hostile_header_is_cut_between_words_and_half_surrogates_are_replaced(incident: dict[str, Any]) -> None:
    addresses = ",".join(f"203.0.113.{n % 250}" for n in range(400_000))
    assert len(addresses) > 4_900_000
    incident["evidence"] = [{"headers": {"X-Forwarded-For": addresses, "User-Agent": "bad \ud800 agent"}}]
    finding = api.parse("incident", incident)
    claim = said(finding, Role.CLAIM)["evidence[0].headers.X-Forwarded-For"]
    assert len(claim) <= records.LONGEST_TEXT
    assert claim.endswith(records.CUT)
    assert set(claim.removesuffix(records.CUT).split(",")) <= set(addresses[:100_000].split(","))
    assert "bad \ufffd agent" in finding.model_dump_json()


def test_evidence_cannot_bring_a_million_texts(incident: dict[str, Any]) -> None:
    incident["evidence"] = ["x"] * 1_000_000
    mentions = api.parse("incident", incident).mentions
    assert len(mentions) == records.MOST_MENTIONS + 1
    assert mentions[0].role is Role.ATTACKER
    assert mentions[-1].field == "(cut)"


def test_deep_evidence_does_not_exhaust_the_stack(incident: dict[str, Any]) -> None:
    deep: Any = "203.0.113.44"
    for _ in range(5_000):
        deep = [deep]
    incident["evidence"] = deep
    assert api.parse("incident", incident).mentions[-1].text == "203.0.113.44"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", "data:text/html,x", "https://" + "a" * 3_000])
def test_only_a_web_link_becomes_the_findings_url(incident: dict[str, Any], url: str) -> None:
    assert api.parse("incident", incident | {"url": url}).url is None


def test_a_title_stays_on_one_line(incident: dict[str, Any]) -> None:
    assert api.parse("incident", incident | {"title": "a\nERROR forged\x1b[31m"}).title == "a ERROR forged [31m"


# --- traffic: who else is behind an address ----------------------------------------------------------------------


def test_an_alert_names_the_users_of_its_one_address_by_pseudonyms() -> None:
    alert = copy.deepcopy(json.loads(sample("alerts").body)["items"][0])
    (traffic,) = api.parse("alert", alert).traffic
    assert traffic.address == "203.0.113.7"
    assert (traffic.requests, traffic.malicious_requests, traffic.asn) == (None, None, None)
    assert len(traffic.users) == 1  # one token
    token = alert["entities"][2]
    more = [token | {"class": "user", "value": f"user{n % 2}"} for n in range(4)]
    alert["entities"] += [*more, token | {"value": "other"}]
    (traffic,) = api.parse("alert", alert).traffic
    assert len(traffic.users) == 2  # users, where there are any: a user with a token is one user
    alert["entities"] = [e | {"family": "target"} if e["class"] == "user" else e for e in alert["entities"]]
    (traffic,) = api.parse("alert", alert).traffic
    assert len(traffic.users) == 2  # the two tokens: the users are not who acted


def test_the_same_user_is_the_same_in_every_alert() -> None:
    first = copy.deepcopy(json.loads(sample("alerts").body)["items"][0])
    second = copy.deepcopy(first) | {"id": "another", "caller_ips": ["203.0.113.8"], "severity": "High"}
    second["entities"][0]["value"] = "203.0.113.8"
    assert api.parse("alert", first).traffic[0].users == api.parse("alert", second).traffic[0].users


@pytest.mark.parametrize("addresses", [["203.0.113.7", "203.0.113.8"], [], ["nonsense"]])
def test_of_several_addresses_nobody_knows_whose_the_users_are(addresses: list[str]) -> None:
    alert = json.loads(sample("alerts").body)["items"][0]
    entities = [e for e in alert["entities"] if e["class"] != "ip"]
    assert api.parse("alert", alert | {"caller_ips": addresses, "entities": entities}).traffic == ()


def test_an_alert_may_name_as_many_users_as_it_likes() -> None:
    alert = json.loads(sample("alerts").body)["items"][0]
    crowd = [{"value": f"user{n}", "class": "user", "family": "actor"} for n in range(records.MOST_MENTIONS + 5)]
    (traffic,) = api.parse("alert", alert | {"entities": crowd}).traffic
    assert len(traffic.users) == records.MOST_MENTIONS


def one_attacker(incident: dict[str, Any], **attacker: Any) -> dict[str, Any]:
    return incident | {"attacker": {"IP": ["203.0.113.7"], "confidence": "High", **attacker}}


def test_an_incident_says_nothing_of_its_traffic_unless_it_does(incident: dict[str, Any]) -> None:
    assert api.parse("incident", one_attacker(incident, identifier="203.0.113.7", identifierType="IP")).traffic == ()
    assert api.parse("incident", one_attacker(incident, requestsCount=None)).traffic == ()


def test_an_identifier_that_is_no_address_is_a_user(incident: dict[str, Any]) -> None:
    jane = one_attacker(incident, identifier="jane@mail.example", identifierType="User")
    (traffic,) = api.parse("incident", jane).traffic
    assert len(traffic.users) == 1
    assert "jane" not in traffic.model_dump_json()


@pytest.mark.parametrize(("given", "read"), [(0, 0), (90, 90), ("90", 90)])
def test_counts_are_read_where_there_are_any(incident: dict[str, Any], given: Any, read: int) -> None:
    counted = one_attacker(incident, requestsCount=100, maliciousRequestsCount=given)
    (traffic,) = api.parse("incident", counted).traffic
    assert (traffic.requests, traffic.malicious_requests) == (100, read)
    (traffic,) = api.parse("incident", one_attacker(incident, requestsCount=100)).traffic
    assert traffic.malicious_requests is None  # absent, and not zero


@pytest.mark.parametrize("count", [-1, "-1", "many", "", 1.5, True, [], {"total": 5}])
def test_a_count_that_cannot_be_read_costs_the_record(incident: dict[str, Any], count: Any) -> None:
    """It may be the good users that would have kept the address from being blocked."""
    with pytest.raises(ValidationError) as caught:
        api.parse("incident", one_attacker(incident, requestsCount=count))
    assert caught.value.errors()[0]["loc"] == ("requestsCount",)


@pytest.mark.parametrize(("users", "blocked"), [(19, True), (20, False)])
def test_a_nat_with_many_users_is_not_blocked_whatever_two_sources_say(users: int, blocked: bool) -> None:
    """By the policy as it is shipped, from the alert to the plan."""
    attack = json.loads(sample("alerts").body)["items"][0] | {"id": "attack", "severity": "Critical"}
    actor = {"class": "user", "family": "actor"}
    quiet = [
        attack | {"id": f"quiet-{n}", "severity": "Low", "entities": [actor | {"value": f"user{n}"}]}
        for n in range(users)
    ]
    findings = [api.parse("alert", alert) for alert in (attack, *quiet)]
    nat = address("203.0.113.7")
    said = [reputation(nat, provider=provider, known_at=START) for provider in ("abuseipdb", "list_feed")]
    decision = decision_on(findings, observe(findings), said, policy(), now=END)
    assert blocked_at_once(decision) == ([nat] if blocked else [])
    # The finding is critical, so a person is asked.
    assert [i.observable for i in decision.held] == ([] if blocked else [nat])
    assert all("different users" in " ".join(i.hold_reasons) for i in decision.held)
