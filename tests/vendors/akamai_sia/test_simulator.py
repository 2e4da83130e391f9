"""The SIA simulator over HTTP, signed by Akamai's own signer, judged by Akamai's own specification and examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from akamai.edgegrid import EdgeGridAuth
from jsonschema import Draft202012Validator, FormatChecker

from include.simulators.edgegrid import EDGEGRID_SETTINGS
from tests.support import SimServer, start_simulators

SPEC = Path(__file__).resolve().parents[3] / ".." / "shared" / "specs" / "akamai" / "etp-report-v3"
DETAILS = "/etp-report/v3/configs/41041/threat-events/details"
T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def _server() -> Iterator[SimServer]:
    server = start_simulators(["akamai_sia"])
    yield server
    server.stop()


@pytest.fixture
def sia(_server: SimServer) -> SimServer:
    """The clock stands at T0 plus one hour; the signer goes on by real time."""
    _server.world.reset()
    _server.configure("akamai_sia", timestamp_window_seconds=None)
    set_clock(_server, T0 + timedelta(hours=1))
    return _server


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as s:
        s.auth = EdgeGridAuth(*(EDGEGRID_SETTINGS[n] for n in ("client_token", "client_secret", "access_token")))
        yield s


def set_clock(sia: SimServer, instant: datetime) -> None:
    requests.post(sia.url + "/_sim/clock", json={"now": instant.isoformat()}, timeout=10)


def row(seconds: int = 0, **event: Any) -> dict[str, Any]:
    """A DNS threat event in the shape of the vendor's examples."""
    at = (T0 + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    domain = event.pop("domain", f"c2-{seconds}.malware.example.")
    available = {"_available_at": event.pop("available_at")} if "available_at" in event else {}
    return {
        "l7Protocol": "DNS",
        "query": {
            "time": at,
            "clientIp": "192.0.2.134",
            "dnsIp": "192.0.2.131",
            "domain": domain,
            "uuid": f"uuid-{seconds}",
            "queryType": "A",
            "deviceId": "N/A",
            "deviceName": "Not Available",
            "resolved": [{"type": "A", "response": "203.0.113.7", "asn": "64496", "asname": "N/A"}],
        },
        "event": {
            "trigger": "domain",
            "detectionTime": at,
            "detectionType": "inline",
            "siteId": "-1",
            "siteName": "Unidentified IPs",
            "policyId": "2240",
            "policyName": "Default",
            "listId": "1",
            "listName": "Malware",
            "categoryId": "1",
            "categoryName": "Malware",
            "confidenceId": "2",
            "confidenceName": "Known",
            "actionId": "1",
            "actionName": "Monitor",
            "description": "None",
            "reason": "Akamai Intelligence (DNS)",
            "onRamp": "No",
            "threatId": 5070,
            "severityId": 2,
            "threatName": "Known Malware",
            "severityLevel": "High",
            "onrampType": "",
            "internalClientIP": "N/A",
            "clientRequestId": "",
            "policyEvaluationSource": "dns",
            "correlatedSinkholeEvents": [
                {
                    "sinkholeId": "sinkhole-1",
                    "eventId": "event-1",
                    "sourcePort": 48022,
                    "destinationPort": 80,
                    "l4Protocol": "TCP",
                    "hostname": "host.example",
                    "userAgent": "curl/8",
                    "l7Protocol": "HTTP",
                    "eventTime": at,
                    "url": "/",
                    "sinkholeName": "SIA_DNS",
                    "hitCount": 1,
                    "configId": 41041,
                    "internalIP": "192.0.2.168",
                    "sinkholeIP": "192.0.2.164",
                    "machineNames": ["N/A"],
                }
            ],
            **event,
        },
        **available,
    }


def seed(sia: SimServer, *rows: dict[str, Any], config: str = "41041") -> None:
    sia.seed("akamai_sia", {"configs": {config: list(rows)}})


def body(start: int = 0, end: int = 3600, **changes: Any) -> dict[str, Any]:
    """Bounds in seconds from T0."""
    base = int(T0.timestamp())
    given = {"startTimeSec": base + start, "endTimeSec": base + end, "orderBy": "ASC", **changes}
    return {k: v for k, v in given.items() if v is not ...}


def ask(sia: SimServer, session: requests.Session, *args: int, path: str = DETAILS, **changes: Any) -> Any:
    answer = session.post(sia.url + path, json=body(*args, **changes), timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def domains(page: dict[str, Any]) -> list[str]:
    return [r["query"]["domain"].split(".")[0] for r in page["dataRows"]]


def test_three_pages(sia: SimServer, session: requests.Session) -> None:
    seed(sia, *(row(s) for s in range(25)))
    pages = [ask(sia, session, pageNumber=n, pageSize=10) for n in (1, 2, 3, 4)]
    assert [len(p["dataRows"]) for p in pages] == [10, 10, 5, 0]
    assert [p["pageInfo"] for p in pages] == [
        {"totalRecords": 25, "pageNumber": n, "pageSize": 10} for n in (1, 2, 3, 4)
    ]
    assert [d for p in pages for d in domains(p)] == [f"c2-{s}" for s in range(25)]
    assert [r["id"] for r in pages[1]["dataRows"]] == [str(i) for i in range(10)], "ids restart in every answer"
    assert {r["configId"] for r in pages[0]["dataRows"]} == {"41041"}


def test_descending_order_and_default_page_size(sia: SimServer, session: requests.Session) -> None:
    seed(sia, *(row(s) for s in (5, 1, 3)))
    page = ask(sia, session, orderBy="DESC")
    assert domains(page) == ["c2-5", "c2-3", "c2-1"]
    assert page["pageInfo"] == {"totalRecords": 3, "pageNumber": 1, "pageSize": 100}


def test_the_window_takes_its_start_and_not_its_end(sia: SimServer, session: requests.Session) -> None:
    seed(sia, *(row(s) for s in (9, 10, 19, 20)))
    assert domains(ask(sia, session, 10, 20)) == ["c2-10", "c2-19"]


def test_the_last_three_minutes_are_incomplete(sia: SimServer, session: requests.Session) -> None:
    seed(sia, row(100))
    set_clock(sia, T0 + timedelta(seconds=200))
    assert ask(sia, session, 0, 200)["pageInfo"]["totalRecords"] == 0
    set_clock(sia, T0 + timedelta(seconds=285))
    assert domains(ask(sia, session, 0, 200)) == ["c2-100"]
    sia.configure("akamai_sia", complete_after_seconds=3600)
    assert sia.state("akamai_sia") == {"configs": {"41041": {"events": 1, "visible": 0}}}


def test_late_events_appear_in_a_window_that_was_read_before(sia: SimServer, session: requests.Session) -> None:
    seed(sia, row(1), row(2, available_at=(T0 + timedelta(hours=3)).isoformat()))
    assert domains(ask(sia, session)) == ["c2-1"]
    set_clock(sia, T0 + timedelta(hours=3, seconds=5))
    page = ask(sia, session)
    assert domains(page) == ["c2-1", "c2-2"]
    assert not any(k.startswith("_") for r in page["dataRows"] for k in r)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "abcd"),
        ({"severityId": {"in": [1, 2]}}, "ab"),
        ({"severityId": {"in": ["1"]}}, "a"),
        ({"severityId": {"nin": [2, 3]}}, "ad"),
        ({"category": {"in": [5]}}, "c"),
        ({"confidence": {"in": ["1"], "nin": ["2"]}}, "d"),
        ({"action": {"nin": ["1"]}}, "b"),
        ({"domain": {"in": ["C.bad.example"]}}, "c"),
        ({"severityId": {"in": [1, 2]}, "action": {"in": [4]}}, "b"),
        ({"sinkholeIP": {"in": ["192.0.2.164"]}, "severityId": {"in": [4]}}, "d"),
        ({"onRamp": {"in": ["Yes"]}}, ""),
    ],
)
def test_filters(sia: SimServer, session: requests.Session, filters: dict[str, Any], expected: str) -> None:
    seed(
        sia,
        row(1, severityId=1, domain="a.bad.example."),
        row(2, severityId=2, actionId="4", domain="b.bad.example."),
        row(3, severityId=3, categoryId="5", domain="c.bad.example."),
        row(4, severityId=4, confidenceId="1", domain="d.bad.example."),
    )
    page = ask(sia, session, filters=filters)
    assert "".join(domains(page)) == expected
    assert page["pageInfo"]["totalRecords"] == len(expected)


INVALID = "The system cannot understand your request.  Please check the syntax and correct any problems."


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"startTimeSec": ...}, "Missing field: startTimeSec"),
        ({"endTimeSec": ...}, "Missing field: endTimeSec"),
        ({"orderBy": ...}, "Missing field: orderBy"),
        ({"orderBy": "asc"}, INVALID),
        ({"startTimeSec": "1772366400"}, INVALID),
        ({"endTimeSec": 1772370000.5}, INVALID),
        ({"startTimeSec": 0}, "Start time is invalid. Code-000104"),
        ({"startTimeSec": 1772366400000, "endTimeSec": 1772370000000}, "Start time is invalid. Code-000104"),
        ({"endTimeSec": 1772366400}, "Start time is invalid. Code-000104"),
        ({"pageNumber": 0}, INVALID),
        ({"pageNumber": True}, INVALID),
        ({"pageSize": 5001}, INVALID),
        ({"pagesize": 5}, "Unrecognized field: pagesize"),
        ({"filters": []}, INVALID),
        ({"filters": {"categoryId": {"in": ["1"]}}}, INVALID),
        ({"filters": {"severityId": {"in": [5]}}}, INVALID),
        ({"filters": {"action": {"eq": ["1"]}}}, INVALID),
        ({"filters": {"action": {}}}, INVALID),
        ({"filters": {"action": ["1"]}}, INVALID),
        ({"filters": {"isAlert": {"nin": ["false"]}}}, "This simulator does not imitate the filter isAlert"),
    ],
)
def test_bad_requests(sia: SimServer, session: requests.Session, changes: dict[str, Any], detail: str) -> None:
    seed(sia, row())
    answer = session.post(sia.url + DETAILS, json=body(**changes), timeout=10)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.pop("instance")
    assert problem == {
        "type": "https://problems.omni.akamaiapis.net/http/bad-request",
        "title": "Bad Request",
        "status": 400,
        "detail": detail,
    }


def test_retention_and_page_size_are_knobs(sia: SimServer, session: requests.Session) -> None:
    seed(sia, row())
    sia.configure("akamai_sia", retention_days=1, max_page_size=10)
    assert ask(sia, session, pageSize=10)["pageInfo"]["totalRecords"] == 1
    assert session.post(sia.url + DETAILS, json=body(pageSize=11), timeout=10).status_code == 400
    set_clock(sia, T0 + timedelta(days=2))
    assert "000104" in session.post(sia.url + DETAILS, json=body(), timeout=10).json()["detail"]


def test_content_type_and_query(sia: SimServer, session: requests.Session) -> None:
    seed(sia, row())
    assert session.post(sia.url + DETAILS, data=json.dumps(body()), timeout=10).status_code == 415
    assert ask(sia, session, path=DETAILS + "?accountSwitchKey=1-5C0YLB")["pageInfo"]["totalRecords"] == 1
    assert session.post(sia.url + DETAILS + "?page=1", json=body(), timeout=10).status_code == 400


def test_configurations(sia: SimServer, session: requests.Session) -> None:
    seed(sia, row())
    answer = session.post(sia.url + DETAILS.replace("41041", "101"), json=body(), timeout=10)
    assert (answer.status_code, answer.json()["detail"]) == (404, "Invalid SIA configuration 101. Code-090209")
    sia.configure("akamai_sia", config_grant=["1"])
    answer = session.post(sia.url + DETAILS, json=body(), timeout=10)
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("Code-130009")
    sia.configure("akamai_sia", config_grant=[41041])
    assert ask(sia, session)["pageInfo"]["totalRecords"] == 1


def test_threat_meta(sia: SimServer, session: requests.Session) -> None:
    seed(sia, row(1), row(2, threatId=7420, threatName="Lazarus Group"), row(3))
    answer = session.get(sia.url + "/etp-report/v3/configs/41041/threats/threat-meta", timeout=10)
    assert answer.json() == [{"id": "5070", "name": "Known Malware"}, {"id": "7420", "name": "Lazarus Group"}]


def test_seed_refuses_a_row_without_detection_time(sia: SimServer) -> None:
    broken = row()
    del broken["event"]["detectionTime"]
    answer = requests.post(sia.url + "/_sim/akamai_sia/seed", json={"configs": {"41041": [broken]}}, timeout=10)
    assert answer.status_code == 400


def test_faults(sia: SimServer, session: requests.Session) -> None:
    seed(sia, *(row(s) for s in range(3)))

    def post() -> requests.Response:
        return session.post(sia.url + DETAILS, json=body(), timeout=10)

    sia.fault("akamai_sia", "status", status=429, headers={"X-RateLimit-Next": "2026-03-01T13:00:30Z"}, path="details")
    answer = post()
    assert (answer.status_code, answer.headers["X-RateLimit-Next"]) == (429, "2026-03-01T13:00:30Z")
    assert answer.json()["title"] == "Too Many Requests"

    sia.fault("akamai_sia", "html", status=503)
    answer = post()
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (503, "text/html")

    sia.fault("akamai_sia", "truncate")
    answer = post()
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()

    sia.fault("akamai_sia", "empty", key="dataRows")
    assert post().json() == {"pageInfo": {"totalRecords": 3, "pageNumber": 1, "pageSize": 100}, "dataRows": []}

    assert len(post().json()["dataRows"]) == 3, "each fault hits once"


# -- the vendor's own files ----------------------------------------------------------------------------------------


def specification(*parts: str) -> Any:
    path = SPEC.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"needs ../shared/specs/akamai/etp-report-v3/{'/'.join(parts)}, not present")
    return json.loads(path.read_text())


def shape(node: Any) -> Any:
    """Member names and kinds of value; an array has the shape of its first member."""
    if isinstance(node, dict):
        return {k: shape(v) for k, v in node.items()}
    if isinstance(node, list):
        return [shape(node[0])] if node else []
    return type(node).__name__


def test_the_answer_has_the_shape_of_the_vendors_example(sia: SimServer, session: requests.Session) -> None:
    example = specification("examples", "threat-events-details-postResponse-200.json")
    seed(sia, row(1), row(2))
    assert shape(ask(sia, session)) == shape(example)


@pytest.mark.parametrize(
    ("example", "config", "changes"),
    [
        ("not-found-error-404.json", "101", {}),
        ("start-time-invalid-error-400.json", "41041", {"startTimeSec": 0}),
        ("invalid-request-error-400.json", "41041", {"orderBy": "UP"}),
    ],
)
def test_errors_are_the_vendors_examples(
    sia: SimServer, session: requests.Session, example: str, config: str, changes: dict[str, Any]
) -> None:
    expected = specification("examples", example)
    seed(sia, row())
    answer = session.post(sia.url + DETAILS.replace("41041", config), json=body(**changes), timeout=10)
    assert {**answer.json(), "instance": ""} == {**expected, "instance": ""}
    assert answer.status_code == expected["status"]


def test_the_vendors_example_request_is_understood(sia: SimServer, session: requests.Session) -> None:
    request = specification("examples", "events-details-postRequest.json")
    seed(sia, row())
    answer = session.post(sia.url + DETAILS, json=request, timeout=10)
    assert answer.status_code == 200
    assert answer.json()["pageInfo"] == {"totalRecords": 0, "pageNumber": 1, "pageSize": 5}


#: Where the vendor's examples, which the simulator follows, break the vendor's schema: (place, broken rule).
SCHEMA_AGAINST_EXAMPLES = {
    ("dataRows.id", "type"),
    ("dataRows.event.listId", "type"),
    ("dataRows.event.categoryId", "type"),
    ("dataRows.event.confidenceId", "type"),
    ("dataRows.event.policyId", "type"),
    ("dataRows.event.detectionType", "enum"),
    ("dataRows.event.onrampType", "enum"),
    ("dataRows.event.clientRequestId", "minLength"),
    ("dataRows.event.internalClientIP", "format"),
    ("dataRows.event", "required: blockDescription"),
    ("dataRows.event", "required: listIdentifiers"),
    ("dataRows.event.correlatedSinkholeEvents.configId", "type"),
    ("dataRows.event.correlatedSinkholeEvents", "required: decryptedMachineName"),
    ("dataRows.event.correlatedSinkholeEvents", "required: encryptedMachineName"),
    ("dataRows.event.correlatedSinkholeEvents", "required: redirectType"),
    ("dataRows.query.resolved", "additionalProperties: asname"),
}


def violations(schema: dict[str, Any], document: Any) -> set[tuple[str, str]]:
    found = set()
    for error in Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(document):
        place = ".".join(str(p) for p in error.absolute_path if not isinstance(p, int))
        rule = str(error.validator)
        if rule in ("required", "additionalProperties"):
            for name in re.findall(r"'(\w+)'", error.message):
                found.add((place, f"{rule}: {name}"))
        else:
            found.add((place, rule))
    return found


def test_the_answer_breaks_the_schema_exactly_where_the_examples_do(sia: SimServer, session: requests.Session) -> None:
    spec = specification("openapi.json")
    post = spec["paths"]["/configs/{configId}/threat-events/details"]["post"]
    schema = post["responses"]["200"]["content"]["application/json"]["schema"]
    example = specification("examples", "threat-events-details-postResponse-200.json")
    assert violations(schema, example) == SCHEMA_AGAINST_EXAMPLES, "the vendor's own example"
    seed(sia, row(1), row(2))
    assert violations(schema, ask(sia, session)) == SCHEMA_AGAINST_EXAMPLES


def test_threat_meta_is_valid(sia: SimServer, session: requests.Session) -> None:
    spec = specification("openapi.json")
    get = spec["paths"]["/configs/{configId}/threats/threat-meta"]["get"]
    schema = get["responses"]["200"]["content"]["application/json"]["schema"]
    seed(sia, row(1), row(2, threatId=7420, threatName="Lazarus Group"))
    answer = session.get(sia.url + "/etp-report/v3/configs/41041/threats/threat-meta", timeout=10)
    assert violations(schema, answer.json()) == set()
