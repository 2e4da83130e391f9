"""The API Security simulator over HTTP: bearer tokens and lists of the one family, alerts of the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from include.simulators.akamai_api_security import AkamaiApiSecuritySimulator
from include.simulators.akamai_api_security.answers import FINDING_FIELDS, INCIDENT_FIELDS
from tests.support import SimServer, start_simulators

PRODUCT = "akamai_api_security"
KNOBS = AkamaiApiSecuritySimulator.settings
INCIDENTS = "/api/v4/incidents"
FINDINGS = "/api/v4/findings"
ALERTS = f"/v4/organizations/{KNOBS['tenant']}/alerts"
NOW = "2026-03-01T12:00:00Z"


def incident(n: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"inc-{n}",
        "title": "Brute force attempt",
        "status": "open",
        "severity": "High",
        "attacker": {"identifier": "203.0.113.7", "identifierType": "IP"},
        "detectionTime": f"2026-03-01T10:{n:02d}:00.000Z",
        "lastUpdate": f"2026-03-01T11:{n:02d}:00.000Z",
        "lastActivity": f"2026-03-01T11:{n:02d}:30.000Z",
        "responseCodes": [401, 403],
        **fields,
    }


def alert(n: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"alert-{n}",
        "name": "Brute Force Authentication Attempt",
        "triggered_at": f"2026-03-01T10:{n:02d}:00.000000Z",
        "status": "Open",
        "severity": "Low",
        "alert_type": "UserBehaviorAlert",
        "caller_ips": ["203.0.113.7"],
        **fields,
    }


@pytest.fixture(scope="module")
def _server() -> Iterator[SimServer]:
    server = start_simulators([PRODUCT])
    yield server
    server.stop()


class Api:
    def __init__(self, sim: SimServer) -> None:
        self.sim = sim
        self.headers = {"Authorization": f"Bearer {KNOBS['user_token']}"}
        self.key = {"X-API-Key": KNOBS["api_key"]}

    def get(self, path: str, *, token: str | None = None, **params: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else self.headers
        return requests.get(self.sim.url + path, params=params, headers=headers, timeout=10)

    def ok(self, path: str, **params: Any) -> Any:
        answer = self.get(path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, path: str, **params: Any) -> list[str]:
        return [e["id"] for e in self.ok(path, **params)["entities"]]

    def patch(self, path: str, body: Any, headers: dict[str, str] | None = None) -> requests.Response:
        return requests.patch(self.sim.url + path, json=body, headers=headers or self.headers, timeout=10)

    def token(self, **changes: Any) -> requests.Response:
        body = {"client_id": KNOBS["client_id"], "client_secret": KNOBS["client_secret"], **changes}
        return requests.post(self.sim.url + "/auth/token", json=body, timeout=10)

    def query(self, *filters: tuple[str, str, Any], path: str = ALERTS + "/query", **body: Any) -> requests.Response:
        listed = [{"name": n, "operator": o, "value": v} for n, o, v in filters]
        json = {"alert_filters": listed, **body}
        return requests.post(self.sim.url + path, json=json, headers=self.key, timeout=10)

    def alerts(self, *filters: tuple[str, str, Any], **body: Any) -> list[str]:
        answer = self.query(*filters, **body)
        assert answer.status_code == 200, answer.text
        return [a["id"].removeprefix("alert-") for a in answer.json()["items"]]

    def clock(self, **change: Any) -> None:
        requests.post(self.sim.url + "/_sim/clock", json=change, timeout=10)


@pytest.fixture
def api(_server: SimServer) -> Api:
    _server.world.reset()
    api = Api(_server)
    api.clock(now=NOW)
    return api


# -- Noname lineage: tokens ----------------------------------------------------------------------------------------


def test_access_tokens_expire_by_the_simulated_clock(api: Api) -> None:
    answer = api.token()
    assert answer.status_code == 201
    assert answer.json().keys() == {"accessToken"}
    token = answer.json()["accessToken"]
    assert api.get(INCIDENTS, token=token).status_code == 200
    api.clock(advance_seconds=8 * 3600 - 60)
    assert api.get(INCIDENTS, token=token).status_code == 200
    api.clock(advance_seconds=61)
    expired = api.get(INCIDENTS, token=token)
    assert (expired.status_code, expired.json()) == (401, {"statusCode": 401, "message": "Unauthorized"})
    assert api.get(INCIDENTS, token=api.token().json()["accessToken"]).status_code == 200


def test_token_knobs(api: Api) -> None:
    api.sim.configure(PRODUCT, token_status=200, token_seconds=60, user_token="mine")
    answer = api.token()
    assert answer.status_code == 200
    api.clock(advance_seconds=61)
    assert api.get(INCIDENTS, token=answer.json()["accessToken"]).status_code == 401
    assert api.get(INCIDENTS).status_code == 401
    assert api.get(INCIDENTS, token="mine").status_code == 200


@pytest.mark.parametrize("changes", [{"client_secret": "wrong"}, {"client_id": "wrong"}, {"client_secret": None}])
def test_wrong_service_account(api: Api, changes: dict[str, Any]) -> None:
    assert api.token(**changes).status_code == 401


def test_secrets_stay_out_of_the_call_log(api: Api) -> None:
    api.token()
    assert KNOBS["client_secret"] not in str(api.sim.calls())


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic {}", "{}"])
def test_no_usable_token(api: Api, header: str | None) -> None:
    headers = {"Authorization": header.format(KNOBS["user_token"])} if header else {}
    assert requests.get(api.sim.url + FINDINGS, headers=headers, timeout=10).status_code == 401


def test_roles(api: Api) -> None:
    api.sim.seed(PRODUCT, {"incidents": [incident(1)]})
    api.sim.configure(PRODUCT, can_write=False)
    assert api.get(INCIDENTS).status_code == 200
    assert api.patch(INCIDENTS + "/inc-1", {"status": "resolved"}).status_code == 403
    api.sim.configure(PRODUCT, can_read=False)
    for path in (INCIDENTS, FINDINGS, INCIDENTS + "/inc-1"):
        answer = api.get(path)
        assert answer.status_code == 403
        assert answer.json()["error"] == "Forbidden"


# -- Noname lineage: lists -----------------------------------------------------------------------------------------


def test_three_pages(api: Api) -> None:
    api.sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(25)]})
    pages = [api.ok(INCIDENTS, limit=10, offset=offset) for offset in (0, 10, 20, 30)]
    assert [len(p["entities"]) for p in pages] == [10, 10, 5, 0]
    assert [p["moreEntities"] for p in pages] == [True, True, False, False]
    assert [e["id"] for p in pages for e in p["entities"]] == [f"inc-{n}" for n in range(25)]
    assert api.ok(INCIDENTS, limit=25)["moreEntities"] is False
    assert api.ids(INCIDENTS, sortDesc="true", limit=2) == ["inc-24", "inc-23"]


def test_page_size(api: Api) -> None:
    api.sim.seed(PRODUCT, {"findings": [incident(n % 60, id=f"f-{n}") for n in range(501)]})
    assert len(api.ids(FINDINGS)) == 50
    assert len(api.ids(FINDINGS, limit=500)) == 500
    assert api.get(FINDINGS, limit=501).status_code == 400
    api.sim.configure(PRODUCT, max_limit=10, default_limit=5)
    assert len(api.ids(FINDINGS)) == 5
    assert api.get(FINDINGS, limit=11).status_code == 400


def test_return_fields_are_repeated(api: Api) -> None:
    api.sim.seed(PRODUCT, {"incidents": [incident(1)]})
    assert api.ok(INCIDENTS, returnFields=["id", "responseCodes", "countries"])["entities"] == [
        {"id": "inc-1", "responseCodes": [401, 403]}
    ]
    assert api.ok(INCIDENTS)["entities"] == [incident(1)]


@pytest.mark.parametrize("wrong", ["id,status", "colour", ["id", "_available_at"]])
@pytest.mark.parametrize(("path", "fields"), [(INCIDENTS, INCIDENT_FIELDS), (FINDINGS, FINDING_FIELDS)])
def test_unknown_return_fields_are_refused_with_the_known_ones(
    api: Api, path: str, fields: tuple[str, ...], wrong: Any
) -> None:
    answer = api.get(path, returnFields=wrong)
    assert answer.status_code == 400
    prefix = "each value in returnFields must be one of the following values: "
    assert answer.json()["message"] == prefix + ", ".join(fields)


def test_findings_have_thirty_fields() -> None:
    assert len(set(FINDING_FIELDS)) == 30


@pytest.mark.parametrize(
    ("stem", "time"),
    [
        ("detection", "2026-03-01T10:0{}:00.000Z"),
        ("lastUpdate", "2026-03-01T11:0{}:00.000Z"),
        ("lastActivity", "2026-03-01T11:0{}:30.000Z"),
    ],
)
def test_windows_take_their_start_and_not_their_end(api: Api, stem: str, time: str) -> None:
    api.sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(6)]})
    start, end = {f"{stem}StartDate": time.format(2)}, {f"{stem}EndDate": time.format(4)}
    assert api.ids(INCIDENTS, **start, **end) == ["inc-2", "inc-3"]
    assert api.ids(INCIDENTS, **start) == ["inc-2", "inc-3", "inc-4", "inc-5"]
    assert api.ids(INCIDENTS, **end) == ["inc-0", "inc-1", "inc-2", "inc-3"]


def test_windows_understand_offsets(api: Api) -> None:
    api.sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(3)]})
    assert api.ids(INCIDENTS, detectionStartDate="2026-03-01T12:02:00+02:00") == ["inc-2"]


def test_hours_ago_is_for_findings(api: Api) -> None:
    old, new = incident(1, id="old", detectionTime="2026-02-28T11:00:00.000Z"), incident(2, id="new")
    api.sim.seed(PRODUCT, {"findings": [old, new]})
    assert api.ids(FINDINGS, hoursAgo=24) == ["new"]
    assert api.ids(FINDINGS, hoursAgo=26) == ["old", "new"]
    assert api.get(INCIDENTS, hoursAgo=24).status_code == 400


def test_equality_filters(api: Api) -> None:
    severities = ("Low", "High", "Critical")
    api.sim.seed(PRODUCT, {"incidents": [incident(n, severity=s) for n, s in enumerate(severities)]})
    assert api.ids(INCIDENTS, severity=["High", "Critical"], status="open") == ["inc-1", "inc-2"]
    assert api.ids(INCIDENTS, status="resolved") == []


@pytest.mark.parametrize(
    ("path", "params", "message"),
    [
        (INCIDENTS, {"page": 1}, "property page should not exist"),
        (FINDINGS, {"lastActivityStartDate": NOW}, "property lastActivityStartDate should not exist"),
        (INCIDENTS, {"limit": "many"}, "limit must be an integer number"),
        (INCIDENTS, {"limit": 0}, "limit must not be less than 1"),
        (INCIDENTS, {"offset": "-1"}, "offset must be an integer number"),
        (INCIDENTS, {"limit": [1, 2]}, "limit must be given once"),
        (INCIDENTS, {"sortDesc": "yes"}, "sortDesc must be a boolean value"),
        (
            INCIDENTS,
            {"detectionStartDate": "2026-03-01"},
            "detectionStartDate must be a valid ISO 8601 date string",
        ),
        (
            INCIDENTS,
            {"detectionEndDate": "2026-13-01T00:00:00Z"},
            "detectionEndDate must be a valid ISO 8601 date string",
        ),
        (
            INCIDENTS,
            {"page": 1, "limit": 0},
            ["property page should not exist", "limit must not be less than 1"],
        ),
    ],
)
def test_bad_queries(api: Api, path: str, params: dict[str, Any], message: Any) -> None:
    answer = api.get(path, **params)
    assert answer.status_code == 400
    assert answer.json() == {"statusCode": 400, "message": message, "error": "Bad Request"}


def test_late_records(api: Api) -> None:
    at = {"_available_at": "2026-03-01T13:00:00Z"}
    api.sim.seed(PRODUCT, {"incidents": [incident(1), incident(2, **at)], "alerts": [alert(1, **at)]})
    assert api.ids(INCIDENTS) == ["inc-1"]
    assert api.get(INCIDENTS + "/inc-2").status_code == 404
    assert api.alerts() == []
    api.clock(now="2026-03-01T13:00:01Z")
    assert api.ids(INCIDENTS) == ["inc-1", "inc-2"]
    assert api.ok(INCIDENTS + "/inc-2") == incident(2)
    assert "_available_at" not in str(api.query().json())


def test_an_incident_grows(api: Api) -> None:
    grown = incident(1, responseCodes=[401, 403, 200], lastUpdate="2026-03-01T13:00:00.000Z")
    api.sim.seed(PRODUCT, {"incidents": [incident(1), {**grown, "_available_at": "2026-03-01T13:00:00Z"}]})
    assert api.ok(INCIDENTS)["entities"] == [incident(1)]
    assert api.ids(INCIDENTS, lastUpdateStartDate=NOW) == []
    assert api.patch(INCIDENTS + "/inc-1", {"status": "resolved"}).status_code == 200
    api.clock(now="2026-03-01T13:00:01Z")
    assert api.ok(INCIDENTS, lastUpdateStartDate="2026-03-01T13:00:00Z")["entities"] == [
        {**grown, "status": "resolved"}
    ]


# -- Noname lineage: single records --------------------------------------------------------------------------------


def test_resolve_an_incident(api: Api) -> None:
    api.sim.seed(PRODUCT, {"incidents": [incident(1)]})
    answer = api.patch(INCIDENTS + "/inc-1", {"status": "resolved"})
    assert answer.status_code == 200
    changed = api.ok(INCIDENTS + "/inc-1")
    assert changed == answer.json()
    assert changed["status"] == "resolved"
    assert changed["lastUpdate"].startswith("2026-03-01T12:0")
    assert api.ids(INCIDENTS, lastUpdateStartDate=NOW) == ["inc-1"]
    for wrong in ({"status": "Resolved"}, {"status": None}, {}, {"status": "resolved", "note": "x"}, []):
        assert api.patch(INCIDENTS + "/inc-1", wrong).status_code == 400
    assert api.patch(INCIDENTS + "/inc-9", {"status": "resolved"}).status_code == 404
    assert api.sim.state(PRODUCT)["incidents"] == [changed]


def test_tag_a_finding(api: Api) -> None:
    api.sim.seed(PRODUCT, {"findings": [incident(1, id="f-1")]})
    assert api.patch(FINDINGS + "/f-1/tags", {"tagIds": ["a", "b"]}).status_code == 200
    assert api.ok(FINDINGS + "/f-1")["tagsIds"] == ["a", "b"]
    assert api.patch(FINDINGS + "/f-1/tags", {"tagsIds": ["a"]}).status_code == 400
    assert api.patch(FINDINGS + "/f-1/tags", {"tagIds": "a"}).status_code == 400


def test_unknown_paths(api: Api) -> None:
    answer = api.get("/api/v3/apis")
    assert answer.status_code == 404
    assert answer.json() == {"statusCode": 404, "message": "Cannot GET /api/v3/apis", "error": "Not Found"}
    assert requests.get(api.sim.url + "/api/v3/apis", timeout=10).status_code == 401
    assert api.get("/api/v4/groups/1").status_code == 404


def test_rate_limit(api: Api) -> None:
    api.sim.configure(PRODUCT, rate_limit=2, rate_window_seconds=600)
    assert [api.get(INCIDENTS).status_code for _ in range(3)] == [200, 200, 429]
    answer = api.get(INCIDENTS)
    assert answer.json() == {"statusCode": 429, "message": "ThrottlerException: Too Many Requests"}
    wait = int(answer.headers["Retry-After"])
    assert 1 <= wait <= 600
    api.clock(advance_seconds=wait)
    assert api.get(INCIDENTS).status_code == 200


def test_faults(api: Api) -> None:
    api.sim.seed(PRODUCT, {"incidents": [incident(1)]})
    api.sim.fault(PRODUCT, "status", status=429, headers={"Retry-After": "7"})
    answer = api.get(INCIDENTS)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    api.sim.fault(PRODUCT, "html", status=502)
    assert api.get(INCIDENTS).headers["content-type"].startswith("text/html")
    api.sim.fault(PRODUCT, "truncate")
    with pytest.raises(requests.JSONDecodeError):
        api.get(INCIDENTS).json()
    api.sim.fault(PRODUCT, "empty", key="entities")
    assert api.ok(INCIDENTS) == {"entities": [], "moreEntities": False}
    assert api.ids(INCIDENTS) == ["inc-1"]


# -- Neosec lineage ------------------------------------------------------------------------------------------------


def test_alert_pages(api: Api) -> None:
    api.sim.seed(PRODUCT, {"alerts": [alert(n) for n in range(55)]})
    pages = [api.query(offset=o, limit=25, sort_by="asc(triggered_at)").json() for o in (0, 25, 50)]
    assert [(p["count"], p["total"]) for p in pages] == [(25, 55), (25, 55), (5, 55)]
    assert [a["id"] for p in pages for a in p["items"]] == [f"alert-{n}" for n in range(55)]
    assert api.query(limit=51).status_code == 400
    assert api.alerts(sort_by="desc(triggered_at)", limit=2) == ["54", "53"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], "0123"),
        ([("severity", "Eq", "High")], "12"),
        ([("severity", "Eq", "High"), ("severity", "Eq", "Info")], "123"),
        ([("severity", "Eq", "High"), ("status", "Eq", "Closed")], "2"),
        ([("triggered_at", "Gt", "2026-03-01T10:01:00.000000Z")], "23"),
        ([("triggered_at", "Gte", "2026-03-01T10:01:00.000000Z")], "123"),
        ([("triggered_at", "Gte", "2026-03-01T10:01:00.0Z"), ("triggered_at", "Lt", "2026-03-01T10:03:00.0Z")], "12"),
        ([("triggered_at", "Lte", "2026-03-01T10:01:00.000000Z")], "01"),
    ],
)
def test_alert_filters(api: Api, filters: list[tuple[str, str, str]], expected: str) -> None:
    rows = [alert(0), alert(1, severity="High"), alert(2, severity="High", status="Closed"), alert(3, severity="Info")]
    api.sim.seed(PRODUCT, {"alerts": rows})
    assert "".join(api.alerts(*filters, sort_by="asc(triggered_at)")) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"filters": [("colour", "Eq", "red")]},
        {"filters": [("severity", "Gt", "Low")]},
        {"filters": [("triggered_at", "Gt", "2026-03-01T10:01:00Z")]},
        {"filters": [("status", "Eq", ["Open"])]},
        {"sort_by": "triggered_at"},
        {"limit": 0},
        {"offset": -1},
        {"page": 1},
    ],
)
def test_bad_alert_queries(api: Api, wrong: dict[str, Any]) -> None:
    body = {k: v for k, v in wrong.items() if k != "filters"}
    assert api.query(*wrong.get("filters", []), **body).status_code == 400


def test_close_an_alert(api: Api) -> None:
    api.sim.seed(PRODUCT, {"alerts": [alert(1)]})
    assert api.patch(ALERTS + "/alert-1", {"status": "Closed"}, api.key).json()["status"] == "Closed"
    assert api.alerts(("status", "Eq", "Open")) == []
    assert api.patch(ALERTS + "/alert-1", {"status": "closed"}, api.key).status_code == 400
    assert api.patch(ALERTS + "/alert-2", {"status": "Open"}, api.key).status_code == 404


def test_neosec_keys(api: Api) -> None:
    path = "/v4/organizations/another/alerts/query"
    answer = api.query(path=path)
    assert answer.status_code == 403
    assert "Forbidden" in answer.text
    api.key = {"X-API-Key": "wrong"}
    answer = api.query()
    assert answer.status_code == 401
    assert "Authorization" in answer.text
    api.key = api.headers
    assert api.query().status_code == 401, "a bearer token of the other family opens nothing here"
