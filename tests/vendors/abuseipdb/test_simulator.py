"""The AbuseIPDB simulator answers as the vendor's documentation says, quota and refusals included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support import SimServer, start_simulators

KEY = "demo-abuseipdb-key"
NOON = "2026-11-24T12:00:00Z"
BAD = {
    "abuseConfidenceScore": 100,
    "totalReports": 31,
    "numDistinctUsers": 7,
    "lastReportedAt": "2026-11-24T08:00:00+00:00",
    "countryCode": "NL",
    "countryName": "Netherlands",
    "usageType": "Data Center/Web Hosting/Transit",
    "isp": "Example Hosting",
    "domain": "hosting.example",
    "isWhitelisted": False,
}


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["abuseipdb"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock(NOON)
    server.seed(
        "abuseipdb",
        {"addresses": {"203.0.113.9": BAD}, "public_networks": ["203.0.113.0/24", "2001:db8::/32"]},
    )
    return server


def call(sim: SimServer, endpoint: str, method: str = "GET", **options: Any) -> requests.Response:
    headers = {"Key": KEY, "Accept": "application/json"} | options.pop("headers", {})
    return requests.request(method, f"{sim.url}/api/v2/{endpoint}", headers=headers, timeout=10, **options)


def check(sim: SimServer, address: str, **params: Any) -> dict[str, Any]:
    answer = call(sim, "check", params={"ipAddress": address, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def error(answer: requests.Response) -> dict[str, Any]:
    [only] = answer.json()["errors"]
    assert only["status"] == answer.status_code
    return only


def test_check_of_a_seeded_address(sim: SimServer) -> None:
    answer = call(sim, "check", params={"ipAddress": "203.0.113.9"})
    assert answer.json()["data"] == {
        "ipAddress": "203.0.113.9",
        "isPublic": True,
        "ipVersion": 4,
        "isWhitelisted": False,
        "abuseConfidenceScore": 100,
        "countryCode": "NL",
        "usageType": "Data Center/Web Hosting/Transit",
        "isp": "Example Hosting",
        "domain": "hosting.example",
        "hostnames": [],
        "isTor": False,
        "totalReports": 31,
        "numDistinctUsers": 7,
        "lastReportedAt": "2026-11-24T08:00:00+00:00",
    }
    assert r"Hosting\/Transit" in answer.text
    assert answer.headers["X-RateLimit-Limit"] == "1000"
    assert answer.headers["X-RateLimit-Remaining"] == "999"


def test_verbose_adds_the_reports_and_the_country_name(sim: SimServer) -> None:
    data = check(sim, "203.0.113.9", verbose="")
    assert data["countryName"] == "Netherlands"
    assert len(data["reports"]) == data["totalReports"] == 31
    assert len({r["reporterId"] for r in data["reports"]}) == data["numDistinctUsers"] == 7
    assert data["reports"][0]["reportedAt"] == data["lastReportedAt"]
    assert data["reports"][0]["reporterCountryCode"] is None


def test_reports_older_than_the_asked_age_do_not_count(sim: SimServer) -> None:
    sim.set_clock("2027-01-24T12:00:00Z")
    assert check(sim, "203.0.113.9")["totalReports"] == 0
    assert check(sim, "203.0.113.9", maxAgeInDays=90)["totalReports"] == 31


def test_an_unknown_public_address_has_no_reports_and_nulls(sim: SimServer) -> None:
    data = check(sim, "2001:db8::1")
    assert (data["abuseConfidenceScore"], data["totalReports"], data["ipVersion"]) == (0, 0, 6)
    nulls = {"isWhitelisted", "countryCode", "usageType", "isp", "domain", "lastReportedAt"}
    assert {k for k, v in data.items() if v is None} == nulls


@pytest.mark.parametrize(
    ("address", "whitelisted", "reports"),
    [("192.0.2.1", True, 113), ("198.51.100.7", False, 0), ("10.0.0.1", False, 0), ("224.0.0.1", False, 0)],
)
def test_a_reserved_address_is_answered_and_costs_quota(
    sim: SimServer, address: str, whitelisted: bool, reports: int
) -> None:
    data = check(sim, address, maxAgeInDays=365)
    assert (data["isPublic"], data["usageType"], data["countryCode"]) == (False, "Reserved", None)
    assert (data["isWhitelisted"], data["totalReports"]) == (whitelisted, reports)
    assert sim.state("abuseipdb")["used_today"] == {"check": 1}


def test_a_late_record_is_unknown_until_its_time(sim: SimServer) -> None:
    sim.seed("abuseipdb", {"addresses": {"203.0.113.77": BAD | {"_available_at": "2026-11-24T13:00:00Z"}}})
    assert check(sim, "203.0.113.77")["abuseConfidenceScore"] == 0
    sim.set_clock("2026-11-24T13:00:00Z")
    data = check(sim, "203.0.113.77")
    assert data["abuseConfidenceScore"] == 100
    assert not [k for k in data if k.startswith("_")]


@pytest.mark.parametrize(
    ("params", "parameter", "detail"),
    [
        (
            {"ipAddress": "203.0.113.999"},
            "ipAddress",
            "The ip address must be a valid IPv4 or IPv6 address (e.g. 8.8.8.8 or 2001:4860:4860::8888).",
        ),
        ({}, "ipAddress", "The ip address field is required."),
        (
            {"ipAddress": "203.0.113.9", "maxAgeInDays": 366},
            "maxAgeInDays",
            "The max age in days must be between 1 and 365.",
        ),
    ],
)
def test_a_bad_parameter_is_named(sim: SimServer, params: dict[str, Any], parameter: str, detail: str) -> None:
    answer = call(sim, "check", params=params)
    assert answer.status_code == 422
    assert error(answer) == {"detail": detail, "status": 422, "source": {"parameter": parameter}}


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_wrong_key_is_refused_and_costs_nothing(sim: SimServer, key: str) -> None:
    answer = call(sim, "check", params={"ipAddress": "203.0.113.9"}, headers={"Key": key})
    assert answer.status_code == 401
    assert error(answer)["detail"].startswith("Authentication failed. Your API key is either missing, incorrect")
    assert sim.state("abuseipdb")["used_today"] == {}


def test_the_key_may_travel_in_the_query_but_stays_out_of_the_call_log(sim: SimServer) -> None:
    answer = call(sim, "check", params={"ipAddress": "203.0.113.9", "key": KEY}, headers={"Key": ""})
    assert answer.status_code == 200
    assert KEY not in str(sim.calls("abuseipdb"))


def test_an_error_is_a_page_unless_json_is_asked_for(sim: SimServer) -> None:
    sim.configure("abuseipdb", daily_limits={"check": 0})
    answer = call(sim, "check", params={"ipAddress": "203.0.113.9"}, headers={"Accept": "*/*"})
    assert answer.status_code == 429
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Retry-After"]


def test_a_spent_day_says_when_it_ends_and_another_begins(sim: SimServer) -> None:
    sim.configure("abuseipdb", daily_limits={"check": 2})
    assert [call(sim, "check", params={"ipAddress": "203.0.113.9"}).status_code for _ in range(3)] == [200, 200, 429]
    answer = call(sim, "check", params={"ipAddress": "203.0.113.9"})
    assert error(answer)["detail"] == (
        "Daily rate limit of 2 requests exceeded for this endpoint. See headers for additional details."
    )
    assert "source" not in error(answer)
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert answer.headers["X-RateLimit-Reset"] == "1795564800"  # 2026-11-25T00:00:00Z
    assert 43190 <= int(answer.headers["Retry-After"]) <= 43200

    assert call(sim, "reports", params={"ipAddress": "203.0.113.9"}).status_code == 200  # another counter
    sim.set_clock("2026-11-25T00:00:00Z")
    assert call(sim, "check", params={"ipAddress": "203.0.113.9"}).headers["X-RateLimit-Remaining"] == "1"


def test_somebody_else_spends_the_quota(sim: SimServer) -> None:
    sim.configure("abuseipdb", used_elsewhere={"check": 999})
    assert call(sim, "check", params={"ipAddress": "203.0.113.9"}).headers["X-RateLimit-Remaining"] == "0"
    assert call(sim, "check", params={"ipAddress": "203.0.113.9"}).status_code == 429
    sim.set_clock("2026-11-25T00:00:00Z")
    assert call(sim, "check", params={"ipAddress": "203.0.113.9"}).headers["X-RateLimit-Remaining"] == "999"


def test_a_plan_has_its_own_limits(sim: SimServer) -> None:
    sim.configure("abuseipdb", plan="premium")
    assert call(sim, "check", params={"ipAddress": "203.0.113.9"}).headers["X-RateLimit-Limit"] == "50000"
    assert call(sim, "blacklist").headers["X-RateLimit-Limit"] == "500"
    answer = requests.post(f"{sim.url}/_sim/abuseipdb/configure", json={"plan": "gold"}, timeout=10)
    assert answer.status_code == 400


def test_reports_come_in_pages(sim: SimServer) -> None:
    first = call(sim, "reports", params={"ipAddress": "203.0.113.9", "perPage": 20}).json()["data"]
    assert (first["total"], first["count"], first["page"], first["lastPage"]) == (31, 20, 1, 2)
    assert first["previousPageUrl"] is None
    second = requests.get(first["nextPageUrl"], headers={"Key": KEY, "Accept": "application/json"}, timeout=10).json()[
        "data"
    ]
    assert (second["count"], second["nextPageUrl"]) == (11, None)
    times = [r["reportedAt"] for r in first["results"] + second["results"]]
    assert times == sorted(set(times), reverse=True)
    assert call(sim, "reports", params={"ipAddress": "203.0.113.9", "perPage": 101}).status_code == 422


def seed_blacklist(sim: SimServer) -> None:
    scores = {"203.0.113.20": 90, "203.0.113.21": 100, "203.0.113.22": 10, "2001:db8::bad": 100}
    sim.seed("abuseipdb", {"addresses": {a: BAD | {"abuseConfidenceScore": s} for a, s in scores.items()}})
    later = {"lastReportedAt": "2026-11-24T11:00:00+00:00", "countryCode": "DE"}
    sim.seed("abuseipdb", {"addresses": {"203.0.113.23": BAD | later}})


def listed(sim: SimServer, **params: Any) -> list[str]:
    answer = call(sim, "blacklist", params=params)
    assert answer.status_code == 200, answer.text
    return [row["ipAddress"] for row in answer.json()["data"]]


def test_the_blacklist_is_sorted_and_cached_for_a_day(sim: SimServer) -> None:
    seed_blacklist(sim)
    assert listed(sim)[0] == "203.0.113.23"  # same score, reported last
    sim.set_clock("2026-11-25T11:59:00Z")
    answer = call(sim, "blacklist")
    assert answer.json()["meta"]["generatedAt"] == "2026-11-24T12:00:00+00:00"
    sim.set_clock("2026-11-25T12:01:00Z")
    assert call(sim, "blacklist").json()["meta"]["generatedAt"] == "2026-11-25T12:01:00+00:00"


def test_a_free_key_silently_gets_the_simple_list(sim: SimServer) -> None:
    seed_blacklist(sim)
    assert "203.0.113.20" not in listed(sim, confidenceMinimum=50)
    sim.configure("abuseipdb", plan="basic")
    assert "203.0.113.20" in listed(sim, confidenceMinimum=50)
    assert call(sim, "blacklist", params={"confidenceMinimum": 24}).status_code == 422


def test_the_blacklist_can_be_narrowed(sim: SimServer) -> None:
    seed_blacklist(sim)
    sim.configure("abuseipdb", daily_limits={"blacklist": 100})
    assert listed(sim, ipVersion=6) == ["2001:db8::bad"]
    assert listed(sim, onlyCountries="DE") == ["203.0.113.23"]
    assert "203.0.113.23" not in listed(sim, exceptCountries="DE")
    assert len(listed(sim, limit=1)) == 1
    assert len(listed(sim, limit=999999)) == 4  # more than the plan allows is no error


@pytest.mark.parametrize("how", [{"params": {"plaintext": ""}}, {"headers": {"Accept": "text/plain"}}])
def test_the_blacklist_as_plain_text(sim: SimServer, how: dict[str, Any]) -> None:
    answer = call(sim, "blacklist", **how)
    assert answer.text.splitlines() == ["203.0.113.9"]
    assert answer.headers["X-Generated-At"] == "2026-11-24T12:00:00+00:00"
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_block_is_checked(sim: SimServer) -> None:
    data = call(sim, "check-block", params={"network": "203.0.113.0/24"}).json()["data"]
    [reported] = data.pop("reportedAddress")
    assert reported["ipAddress"] == "203.0.113.9"
    assert reported["numReports"] == 31
    assert data == {
        "networkAddress": "203.0.113.0",
        "netmask": "255.255.255.0",
        "minAddress": "203.0.113.1",
        "maxAddress": "203.0.113.254",
        "numPossibleHosts": 254,
        "addressSpaceDesc": "Internet",
    }
    loopback = call(sim, "check-block", params={"network": "127.0.0.0/24"}).json()["data"]
    assert loopback["addressSpaceDesc"] == "Loopback"


@pytest.mark.parametrize(
    ("plan", "params", "status"),
    [
        ("individual", {"network": "203.0.0.0/23"}, 402),
        ("individual", {"network": "203.0.113.0/24", "maxAgeInDays": 31}, 402),
        ("basic", {"network": "203.0.0.0/20", "maxAgeInDays": 60}, 200),
        ("premium", {"network": "203.0.0.0/15"}, 402),
        ("individual", {"network": "2001:db8::/119"}, 402),
        ("individual", {"network": "203.0.113.0"}, 422),
        ("individual", {}, 422),
    ],
)
def test_a_block_wider_than_the_plan_costs_money(
    sim: SimServer, plan: str, params: dict[str, Any], status: int
) -> None:
    sim.configure("abuseipdb", plan=plan)
    assert call(sim, "check-block", params=params).status_code == status


def test_what_the_service_takes_of_other_clients(sim: SimServer) -> None:
    """J10: the requests of demisto/content's Packs/AbuseDB."""
    assert call(sim, "blacklist", params={"maxAgeInDays": 30}).status_code == 200
    answer = call(sim, "report", "POST", params={"ip": "203.0.113.50", "categories": "18,21"})
    assert answer.json()["data"]["ipAddress"] == "203.0.113.50"
    assert check(sim, "203.0.113.50", verbose="", maxAgeInDay=3)["reports"][0]["categories"] == [18, 21]


def test_a_report_is_kept_once_in_fifteen_minutes(sim: SimServer) -> None:
    form = {"ip": "203.0.113.50", "categories": "18,21", "comment": "API abuse"}
    answer = call(sim, "report", "POST", data=form)
    assert answer.json() == {"data": {"ipAddress": "203.0.113.50", "abuseConfidenceScore": 0}}

    twice = call(sim, "report", "POST", data=form)
    assert twice.status_code == 429
    assert error(twice)["source"] == {"parameter": "ip"}
    assert "`203.0.113.50`" in error(twice)["detail"]
    assert "Retry-After" not in twice.headers
    assert int(twice.headers["X-RateLimit-Remaining"]) > 0

    sim.set_clock("2026-11-24T12:16:00Z")
    assert call(sim, "report", "POST", data=form).status_code == 200
    report = check(sim, "203.0.113.50", verbose="")["reports"][0]
    assert (report["categories"], report["comment"]) == ([18, 21], "API abuse")
    assert not [k for k in report if k.startswith("_")]

    gone = call(sim, "clear-address", "DELETE", params={"ipAddress": "203.0.113.50"})
    assert gone.json() == {"data": {"numReportsDeleted": 2}}
    assert check(sim, "203.0.113.50")["totalReports"] == 0


@pytest.mark.parametrize(
    ("form", "parameter"),
    [
        ({"categories": "18"}, "ip"),
        ({"ip": "203.0.113.50"}, "categories"),
        ({"ip": "203.0.113.50", "categories": "24"}, "categories"),
        ({"ip": "203.0.113.50", "categories": ",".join(["18"] * 31)}, "categories"),
        ({"ip": "203.0.113.50", "categories": "18", "timestamp": "yesterday"}, "timestamp"),
    ],
)
def test_a_bad_report_is_refused(sim: SimServer, form: dict[str, str], parameter: str) -> None:
    answer = call(sim, "report", "POST", data=form)
    assert answer.status_code == 422
    assert error(answer)["source"] == {"parameter": parameter}
    assert sim.state("abuseipdb")["own_reports"] == {}


def test_a_bulk_report_names_its_bad_rows(sim: SimServer) -> None:
    rows = [
        "IP,Categories,ReportDate,Comment",
        '203.0.113.60,"18,22",2026-11-24T10:00:00+00:00,one',
        "203.0.113.60,18,2026-11-24T10:00:00+00:00,again",
        "203.0.foo.bar,18,2026-11-24T10:00:00+00:00,",
        "203.0.113.61,99,2026-11-24T10:00:00+00:00,",
    ]
    answer = call(sim, "bulk-report", "POST", files={"csv": ("reports.csv", "\n".join(rows))})
    assert answer.json()["data"] == {
        "savedReports": 1,
        "invalidReports": [
            {"error": "Duplicate IP", "input": "203.0.113.60", "rowNumber": 3},
            {"error": "Invalid IP", "input": "203.0.foo.bar", "rowNumber": 4},
            {"error": "Invalid Category", "input": "203.0.113.61", "rowNumber": 5},
        ],
    }
    headless = call(sim, "bulk-report", "POST", files={"csv": ("reports.csv", rows[1])})
    assert headless.status_code == 422


def test_an_unknown_path_answers_in_the_vendors_shape(sim: SimServer) -> None:
    assert error(call(sim, "checks"))["status"] == 404


def test_an_injected_429_says_when_to_come_back(sim: SimServer) -> None:
    sim.fault("abuseipdb", "status", status=429, headers={"Retry-After": "29241"})
    answer = call(sim, "check", params={"ipAddress": "203.0.113.9"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "29241")
    assert "Daily rate limit" in error(answer)["detail"]
    assert check(sim, "203.0.113.9")["abuseConfidenceScore"] == 100


def test_a_report_whose_answer_is_lost_is_still_kept_once(sim: SimServer) -> None:
    sim.fault("abuseipdb", "reset_after_commit", path="/report")
    form = {"ip": "203.0.113.50", "categories": "18"}
    with pytest.raises(requests.ConnectionError):
        call(sim, "report", "POST", data=form)
    assert error(call(sim, "report", "POST", data=form))["source"] == {"parameter": "ip"}
    assert len(sim.state("abuseipdb")["own_reports"]["203.0.113.50"]) == 1
