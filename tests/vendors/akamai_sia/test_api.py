"""Requests and answers of SIA's threat events, on a sample file and against the published OpenAPI."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from include.soar.extract import records
from include.soar.extract.findings import observe
from include.soar.model import Finding, Role, Severity
from include.soar.vendor.errors import Unexpected
from include.soar.vendor.wire import Response
from tests.soar.deciding import blocked as blocked_at_once
from tests.soar.deciding import decision_on
from tests.soar.examples import address, policy, reputation
from threat_response.vendors.akamai_sia import api

SAMPLES = Path(__file__).parent / "samples"
SPEC = Path(__file__).resolve().parents[3] / ".." / "shared" / "specs" / "akamai" / "etp-report-v3"
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
END = datetime(2026, 1, 2, 4, 0, tzinfo=UTC)


def sample() -> list[dict[str, Any]]:
    body = (SAMPLES / "threat_events.json").read_bytes()
    return api.parse_details(Response(200, {}, body), page=1, page_size=5_000)[0]


@pytest.fixture
def row() -> dict[str, Any]:
    return copy.deepcopy(sample()[0])


def roles(finding: Finding, role: Role) -> dict[str, str]:
    return {m.field: m.text for m in finding.mentions if m.role is role}


def test_the_request() -> None:
    request = api.details_request("41041", START + timedelta(seconds=0.5), END + timedelta(seconds=0.5), page=2)
    assert (request.method, request.writes, request.params) == ("POST", False, ())
    assert request.path == "/etp-report/v3/configs/41041/threat-events/details"
    assert request.json == {
        "startTimeSec": int(START.timestamp()) - 1,
        "endTimeSec": int(END.timestamp()) + 1,
        "orderBy": "ASC",
        "pageNumber": 2,
        "pageSize": 5000,
        "filters": {},
    }


def test_an_account_switch_key_is_a_query_parameter() -> None:
    request = api.details_request("1", START, END, page=1, account_switch_key="1-ABC:2-DEF")
    assert request.params == (("accountSwitchKey", "1-ABC:2-DEF"),)


def _operation() -> dict[str, Any]:
    path = SPEC / "openapi.json"
    if not path.exists():
        pytest.skip("needs ../shared/specs/akamai/etp-report-v3, not present")
    found: dict[str, Any] = json.loads(path.read_text())["paths"]["/configs/{configId}/threat-events/details"]["post"]
    return found


def test_our_request_is_valid_by_the_published_openapi() -> None:
    operation = _operation()
    content = operation["requestBody"]["content"]["application/json"]
    schema, example = content["schema"], content["example"]
    # Two slips of the published file, by which it refuses its own example: each plain property is wrapped in an
    # object that holds a property of the same name, and an empty `filters` is forbidden.
    for name, property_ in schema["properties"].items():
        if set(property_.get("properties", ())) == {name}:
            schema["properties"][name] = property_["properties"][name]
    schema["properties"]["filters"].pop("minProperties")
    jsonschema.validate(example, schema)
    ours = api.details_request("41041", START, END, page=1).json
    jsonschema.validate(ours, schema)
    assert set(ours) <= set(schema["properties"])
    for wrong in ({"orderBy": "UP"}, {"startTimeSec": "now"}, {"pageNumber": -1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(ours | wrong, schema)


def test_the_published_examples_can_be_read() -> None:
    for name in ("threat-events", "aup-events"):
        path = SPEC / "examples" / f"{name}-details-postResponse-200.json"
        if not path.exists():
            pytest.skip("needs ../shared/specs/akamai/etp-report-v3, not present")
        document = json.loads(path.read_text())
        findings = [api.parse_row(row) for row in document["dataRows"]]
        assert len({f.uid for f in findings}) == len(findings) == 5
        assert all(f.title.partition(": ")[2] for f in findings)
        blockable = {Role.ATTACKER, Role.DESTINATION, Role.PAYLOAD}
        for finding, row in zip(findings, document["dataRows"], strict=True):
            is_aup = row["event"]["threatName"] == "AUP"
            assert is_aup is not any(m.role in blockable for m in finding.mentions)


def test_a_dns_event_becomes_a_finding() -> None:
    finding = api.parse_row(sample()[0])
    assert finding.title == "Malware: c2.badware.example (Known Malware)"
    assert finding.category == "Malware"
    assert finding.severity is Severity.HIGH
    assert finding.confidence == 90
    assert finding.detected_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert finding.vendor_id == "192.0.2.72-192.0.2.48-1767323045-46281-35384"
    assert finding.url is None
    assert finding.description == ""  # "None" is the vendor's word for nothing
    assert {"config:41041", "list:Malware", "confidence:Known", "action:Monitor"} <= set(finding.tags)
    assert roles(finding, Role.DESTINATION) == {"query.domain": "c2.badware.example"}
    assert roles(finding, Role.RESOLVED) == {"query.resolved[0].response": "203.0.113.77"}
    assert roles(finding, Role.INTERNAL) == {
        "query.clientIp": "192.0.2.72",
        "query.deviceName": "LAX-USER4",
        "event.internalClientIP": "10.1.2.3",
        "event.correlatedSinkholeEvents[0].internalIP": "10.1.2.4",
        "event.correlatedSinkholeEvents[0].machineNames": "LAX-LAB2",
    }
    assert roles(finding, Role.MENTIONED)["event.correlatedSinkholeEvents[0].sinkholeIP"] == "198.51.100.200"
    assert not roles(finding, Role.ATTACKER)


def test_a_proxy_event_becomes_a_finding() -> None:
    finding = api.parse_row(sample()[2])
    assert finding.title == "C&C: payload.badware.example (Suspected C&C)"
    assert (finding.severity, finding.confidence) == (Severity.CRITICAL, 60)
    assert roles(finding, Role.DESTINATION) == {
        "request.domain": "payload.badware.example",
        "request.uri": "https://payload.badware.example:8443/get/a.bin?x=1",
    }
    assert roles(finding, Role.RESOLVED) == {"request.destinationIP": "203.0.113.90"}
    assert roles(finding, Role.PAYLOAD) == {"response.hash": "a" * 64, "event.files[0].fileHash": "b" * 64}
    assert roles(finding, Role.CLAIM) == {"request.headers.x-forwarded-for": "10.9.9.9, 198.51.100.3"}
    assert roles(finding, Role.MENTIONED)["request.headers.user-agent"] == "EtpClient/3"
    assert "should-never-leave-the-page" not in finding.model_dump_json()


@pytest.mark.parametrize("number", [1, 3])
def test_nothing_of_an_acceptable_use_event_may_become_a_block(number: int) -> None:
    finding = api.parse_row(sample()[number])
    assert finding.title.startswith("AUP: ")
    assert (finding.severity, finding.confidence) == (Severity.INFORMATIONAL, None)
    assert {m.role for m in finding.mentions} == {Role.MENTIONED, Role.INTERNAL}


@pytest.mark.parametrize(
    ("change", "threat"),
    [
        pytest.param({}, True, id="known malware"),
        pytest.param({"confidenceName": "Unknown", "confidenceId": "-1"}, True, id="by its list"),
        pytest.param(
            {"confidenceName": "Unknown", "confidenceId": 0, "listId": "9", "listName": "Mine"}, True, id="by category"
        ),
        pytest.param(
            {"confidenceName": "N/A", "confidenceId": 1, "listId": "9", "categoryId": "9", "listName": "x"},
            True,
            id="by confidence id",
        ),
        pytest.param(
            {
                "confidenceName": "Unknown",
                "confidenceId": "-1",
                "listId": "24",
                "listName": "24",
                "categoryId": 24,
                "categoryName": "24",
            },
            False,
            id="by nothing",
        ),
        pytest.param({"threatId": 2000}, False, id="aup by threat id"),
        pytest.param({"threatName": "AUP"}, False, id="aup by name"),
        pytest.param({"eventType": "avc"}, False, id="aup by event type"),
    ],
)
def test_which_events_are_threats(row: dict[str, Any], change: dict[str, Any], threat: bool) -> None:
    row["event"] |= change
    assert bool(roles(api.parse_row(row), Role.DESTINATION)) is threat


def test_the_rows_number_is_no_part_of_the_identity(row: dict[str, Any]) -> None:
    again = copy.deepcopy(row) | {"id": 17}
    again["event"] |= {"policyId": 2240, "listId": 1, "detectionTime": "2026-01-02T04:04:05+01:00"}
    again["query"]["domain"] = "c2.badware.example"
    assert api.parse_row(again).uid == api.parse_row(row).uid


@pytest.mark.parametrize(
    ("half", "change"),
    [
        ("row", {"configId": "2"}),
        ("row", {"l7Protocol": "HTTP"}),
        ("query", {"uuid": "other"}),
        ("query", {"domain": "other.example."}),
        ("event", {"detectionTime": "2026-01-02T03:04:06Z"}),
        ("event", {"policyId": "1"}),
        ("event", {"listId": "2"}),
    ],
)
def test_each_part_of_the_key_tells_events_apart(row: dict[str, Any], half: str, change: dict[str, Any]) -> None:
    other = copy.deepcopy(row)
    (other if half == "row" else other[half]).update(change)
    assert api.parse_row(other).uid != api.parse_row(row).uid


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, "informational"), ("1", "critical"), (2, "high"), ("3", "medium"), (4, "low")],
)
def test_severity_runs_the_other_way(row: dict[str, Any], given: Any, expected: str) -> None:
    row["event"]["severityId"] = given
    assert api.parse_row(row).severity.value == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"severityId": 5}, ("event", "severityId"), id="unknown severity"),
        pytest.param({"severityId": "N/A"}, ("event", "severityId"), id="severity N/A"),
        pytest.param({"severityId": True}, ("event", "severityId"), id="severity true"),
        pytest.param({"severityId": ...}, ("event", "severityId"), id="no severity"),
        pytest.param({"detectionTime": ...}, ("event", "detectionTime"), id="no time"),
        pytest.param({"detectionTime": "N/A"}, ("event", "detectionTime"), id="time N/A"),
    ],
)
def test_a_row_without_meaning_is_refused_and_names_its_field(
    row: dict[str, Any], change: dict[str, Any], field: tuple[str, ...]
) -> None:
    row["event"] = {k: v for k, v in (row["event"] | change).items() if v is not ...}
    with pytest.raises(ValidationError) as caught:
        api.parse_row(row)
    assert caught.value.errors()[0]["loc"] == field


@pytest.mark.parametrize("record", [None, 7, "x", [], {}, {"event": "x"}])
def test_what_is_no_row_is_refused_but_stays_to_be_named(record: Any) -> None:
    with pytest.raises(ValidationError):
        api.parse_row(record)
    assert api.in_window(record, START, END)
    assert api.name_of(record) is None


@pytest.mark.parametrize(
    ("time", "inside"),
    [
        ("2026-01-02T02:59:59Z", False),
        ("2026-01-02T03:00:00Z", True),
        ("2026-01-02T03:59:59Z", True),
        ("2026-01-02T04:00:00Z", False),
        ("2026-01-02T04:30:00+01:00", True),
        ("N/A", True),
    ],
)
def test_the_window_is_half_open(row: dict[str, Any], time: str, inside: bool) -> None:
    row["event"]["detectionTime"] = time
    assert api.in_window(row, START, END) is inside


@pytest.mark.parametrize("nothing", ["N/A", "None", "null", "", "Not Available", "n/a", None])
def test_words_for_nothing(row: dict[str, Any], nothing: Any) -> None:
    row["query"] |= {"clientIp": nothing, "deviceName": nothing, "resolved": [{"response": nothing}]}
    row["event"] |= {"internalClientIP": nothing, "threatName": nothing, "correlatedSinkholeEvents": nothing}
    finding = api.parse_row(row)
    assert finding.title == "Malware: c2.badware.example"
    assert {m.field for m in finding.mentions} == {"query.domain", "query.dnsIp"}


@pytest.mark.parametrize(
    ("change", "protocol", "expected"),
    [
        ({"destinationPort": 80, "uri": "/a"}, "HTTP", "http://payload.badware.example/a"),
        ({"destinationPort": 443, "uri": "/a"}, "HTTP(s)", "https://payload.badware.example/a"),
        ({"destinationPort": 80, "uri": "/a"}, "HTTP(s)", "http://payload.badware.example/a"),
        ({"destinationPort": "8080", "uri": "a"}, "HTTP", "http://payload.badware.example:8080/a"),
        ({"destinationPort": None, "uri": "/a"}, "HTTPS", "https://payload.badware.example/a"),
        ({"uri": "http://other.example/b"}, "HTTP", "http://other.example/b"),
        ({"uri": "N/A"}, "HTTP", None),
    ],
)
def test_the_url_that_was_asked_for(change: dict[str, Any], protocol: str, expected: str | None) -> None:
    row = copy.deepcopy(sample()[2]) | {"l7Protocol": protocol}
    row["request"] |= change
    assert roles(api.parse_row(row), Role.DESTINATION).get("request.uri") == expected


@pytest.mark.parametrize(
    ("rows", "total", "page", "echo"),
    [
        pytest.param(0, 12, 2, 5, id="page missing from the middle"),
        pytest.param(4, 12, 2, 5, id="row missing from the middle"),
        pytest.param(1, 12, 3, 5, id="row missing at the end"),
        pytest.param(0, 1, 1, None, id="the only row missing"),
        pytest.param(1, 0, 1, 5, id="more than promised"),
    ],
)
def test_rows_must_match_the_total(rows: int, total: int, page: int, echo: int | None) -> None:
    body = {"pageInfo": {"totalRecords": total, "pageNumber": page, "pageSize": echo}, "dataRows": [{}] * rows}
    with pytest.raises(Unexpected, match="short read"):
        api.parse_details(Response(200, {}, json.dumps(body).encode()), page=page, page_size=5)


@pytest.mark.parametrize(
    ("rows", "total", "page", "echo", "more"),
    [(5, 12, 1, 5, True), (2, 12, 3, 5, False), (2, 12, 6, 2, False), (0, 0, 1, 5, False)],
)
def test_whether_more_pages_follow(rows: int, total: int, page: int, echo: int, more: bool) -> None:
    body = {"pageInfo": {"totalRecords": total, "pageNumber": page, "pageSize": echo}, "dataRows": [{}] * rows}
    assert api.parse_details(Response(200, {}, json.dumps(body).encode()), page=page, page_size=5)[1] is more


@pytest.mark.parametrize("body", [b"[]", b'{"pageInfo": [], "dataRows": []}', b'{"dataRows": {"a": 1}}'])
def test_an_answer_without_its_envelope_is_unexpected(body: bytes) -> None:
    with pytest.raises(Unexpected):
        api.parse_details(Response(200, {}, body), page=1, page_size=5)


def test_a_hostile_header_is_cut_between_words() -> None:
    row = copy.deepcopy(sample()[2])
    addresses = ", ".join(f"203.0.113.{n % 250}" for n in range(400_000))
    assert len(addresses) > 5_000_000
    row["request"]["headers"] = [{"name": "X-Forwarded-For", "value": addresses}]
    claim = roles(api.parse_row(row), Role.CLAIM)["request.headers.x-forwarded-for"]
    assert len(claim) <= records.LONGEST_TEXT
    assert claim.endswith(records.CUT)
    assert set(claim.removesuffix(records.CUT).rstrip(",").split(", ")) <= set(addresses[:100_000].split(", "))


def test_a_row_cannot_bring_very_many_texts(row: dict[str, Any]) -> None:
    row["query"]["resolved"] = [{"response": "203.0.113.1"}] * 200_000
    mentions = api.parse_row(row).mentions
    assert len(mentions) == records.MOST_MENTIONS + 1
    assert mentions[0].role is Role.DESTINATION
    assert mentions[-1].field == "(cut)"


# --- traffic: who else is behind an address ----------------------------------------------------------------------


def harmless(row: dict[str, Any], **event: Any) -> dict[str, Any]:
    """An event of the acceptable-use policy that resolved to one address."""
    changed = copy.deepcopy(row)
    changed["event"] |= {"threatId": 2000, "threatName": "AUP", "internalClientIP": "10.1.2.3", **event}
    changed["query"]["resolved"] = [{"type": "A", "response": "203.0.113.7", "asn": "64496", "asname": "N/A"}]
    return changed


def test_a_harmless_event_names_the_client_behind_its_address(row: dict[str, Any]) -> None:
    (traffic,) = api.parse_row(harmless(row)).traffic
    assert (traffic.address, traffic.asn, len(traffic.users)) == ("203.0.113.7", 64496, 1)
    assert "10.1.2.3" not in traffic.model_dump_json()
    again = api.parse_row(harmless(row, severityId=4)).traffic[0]
    other = api.parse_row(harmless(row, internalClientIP="10.1.2.4")).traffic[0]
    assert again.users == traffic.users != other.users


def test_a_client_that_met_a_threat_is_a_victim_and_no_good_user(row: dict[str, Any]) -> None:
    threat = harmless(row, threatId=5070, threatName="Known Malware", confidenceName="Known")
    (traffic,) = api.parse_row(threat).traffic
    assert (traffic.users, traffic.asn) == ((), 64496)


@pytest.mark.parametrize(
    ("asn", "read"),
    [("64496", 64496), (64496, 64496), ("AS64496", 64496), ("N/A", None), ("", None), (None, None), (0, None)]
    + [(value, None) for value in ("-5", "many", 2**32, True, [64496])],
)
def test_the_as_of_an_address(row: dict[str, Any], asn: Any, read: int | None) -> None:
    changed = harmless(row)
    changed["query"]["resolved"][0]["asn"] = asn
    assert api.parse_row(changed).traffic[0].asn == read


def test_without_a_client_or_an_as_there_is_nothing_to_say(row: dict[str, Any]) -> None:
    threat = harmless(row, threatId=5070, threatName="Known Malware", confidenceName="Known")
    threat["query"]["resolved"][0]["asn"] = "N/A"
    assert api.parse_row(threat).traffic == ()
    nameless = harmless(row, internalClientIP="N/A")
    nameless["query"] |= {"clientIp": "N/A", "deviceName": "Not Available", "resolved": []}
    assert api.parse_row(nameless).traffic == ()


def test_the_destination_of_a_proxy_request_counts_too() -> None:
    row = next(copy.deepcopy(r) for r in sample() if r.get("request", {}).get("destinationIP"))
    row["event"] |= {"threatId": 2000, "threatName": "AUP", "internalClientIP": "10.1.2.3"}
    assert row["request"]["destinationIP"] in {t.address for t in api.parse_row(row).traffic}


@pytest.mark.parametrize(("clients", "blocked"), [(19, True), (20, False)])
def test_a_shared_host_that_many_clients_use_is_not_blocked(row: dict[str, Any], clients: int, blocked: bool) -> None:
    """By the policy as it is shipped: a malicious name stood at an address that half the office reaches all day."""
    threat = harmless(row, threatId=5070, threatName="Known Malware", confidenceName="Known", severityId=1)
    rows = [threat]
    for n in range(clients):
        rows.append(harmless(row, severityId=4, internalClientIP=f"10.1.2.{n}"))
        rows[-1]["query"] |= {"domain": "video.streaming.example.", "uuid": f"quiet-{n}"}
    findings = [api.parse_row(r) for r in rows]
    host = address("203.0.113.7")
    said = [reputation(host, provider=provider, known_at=START) for provider in ("abuseipdb", "list_feed")]
    decision = decision_on(findings, observe(findings), said, policy(), now=END)
    assert blocked_at_once(decision) == ([host] if blocked else [])
    # The finding is critical, so a person is asked.
    assert [i.observable for i in decision.held] == ([] if blocked else [host])
    assert all("different users" in " ".join(i.hold_reasons) for i in decision.held)
