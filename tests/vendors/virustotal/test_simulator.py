"""The VirusTotal simulator, driven by VirusTotal's own client, and by plain HTTP where that has no call."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import vt

from tests.support import SimServer, start_simulators

KEY = "demo-virustotal-key"
NOON = "2026-11-24T12:00:00Z"
URL = "http://evil.example/a?b=1"
FILE = {"sha256": "a1" * 32, "sha1": "b2" * 20, "md5": "c3" * 16}
SEED: dict[str, Any] = {
    "ip_addresses": {"203.0.113.7": {"last_analysis_stats": {"malicious": 2, "harmless": 3}, "as_owner": "Example"}},
    "domains": {"evil.example": {"last_analysis_stats": {"suspicious": 1}, "registrar": "Example Registrar"}},
    "urls": {URL: {"last_analysis_stats": {"malicious": 1}}},
    "files": {FILE["sha256"]: {**FILE, "last_analysis_stats": {"malicious": 4, "failure": 1}}},
}


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["virustotal"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock(NOON)
    server.seed("virustotal", SEED)
    return server


@pytest.fixture
def client(sim: SimServer) -> Iterator[Any]:
    with vt.Client(KEY, host=sim.url) as client:
        yield client


def call(sim: SimServer, path: str, method: str = "GET", key: str | None = KEY, **options: Any) -> requests.Response:
    headers = {"x-apikey": key} if key else {}
    return requests.request(method, f"{sim.url}/api/v3{path}", headers=headers, timeout=10, **options)


def error(answer: requests.Response) -> tuple[int, str]:
    assert set(answer.json()["error"]) == {"code", "message"}
    return answer.status_code, answer.json()["error"]["code"]


def test_the_vendors_client_reads_an_address(client: Any, sim: SimServer) -> None:
    found = client.get_object("/ip_addresses/{}", "203.0.113.7")
    assert (found.type, found.id, found.as_owner) == ("ip_address", "203.0.113.7", "Example")
    assert found.last_analysis_stats == {"malicious": 2, "suspicious": 0, "undetected": 0, "harmless": 3, "timeout": 0}
    assert len(found.last_analysis_results) == 5
    assert f"{found.last_analysis_date:%Y-%m-%dT%H:%M}" == "2026-11-24T12:00"


def test_the_vendors_client_reads_a_domain_and_a_url(client: Any) -> None:
    assert client.get_object("/domains/{}", "evil.example").registrar == "Example Registrar"
    found = client.get_object("/urls/{}", vt.url_id(URL))
    assert (found.type, found.url, found.times_submitted) == ("url", URL, 1)
    # The id that comes back is a hash, and asks for the same.
    assert len(found.id) == 64
    assert client.get_object("/urls/{}", found.id).url == URL


@pytest.mark.parametrize("name", FILE)
def test_the_vendors_client_reads_a_file_by_each_hash(client: Any, name: str) -> None:
    found = client.get_object("/files/{}", FILE[name])
    assert (found.type, found.id) == ("file", FILE["sha256"])
    assert found.last_analysis_stats["failure"] == 1


@pytest.mark.parametrize(
    "path",
    ["/ip_addresses/203.0.113.8", "/domains/other.example", "/urls/aHR0cDovL3guZXhhbXBsZS8", f"/files/{'0' * 64}"],
)
def test_the_vendors_client_is_told_what_is_not_known(client: Any, path: str) -> None:
    with pytest.raises(vt.APIError, match="not found") as caught:
        client.get_object(path)
    assert caught.value.code == "NotFoundError"


def test_the_vendors_client_is_told_of_a_wrong_key(sim: SimServer) -> None:
    with vt.Client("wrong", host=sim.url) as client, pytest.raises(vt.APIError) as caught:
        client.get_object("/ip_addresses/203.0.113.7")
    assert caught.value.code == "WrongCredentialsError"
    assert error(call(sim, "/ip_addresses/203.0.113.7", key=None)) == (401, "AuthenticationRequiredError")
    assert sim.state("virustotal")["used"] == {"minute": 0, "day": 0, "month": 0}


def test_four_in_any_minute(client: Any, sim: SimServer) -> None:
    sim.set_clock("2026-11-24T12:00:58Z")
    for _ in range(4):
        client.get_object("/ip_addresses/203.0.113.7")
    # Another minute by the clock, but not a minute later.
    sim.set_clock("2026-11-24T12:01:30Z")
    with pytest.raises(vt.APIError) as caught:
        client.get_object("/ip_addresses/203.0.113.7")
    assert caught.value.code == "QuotaExceededError"
    sim.set_clock("2026-11-24T12:02:00Z")
    assert client.get_object("/ip_addresses/203.0.113.7").id == "203.0.113.7"


@pytest.mark.parametrize(("period", "again_at"), [("day", "2026-11-25T00:00:00Z"), ("month", "2026-12-01T00:00:00Z")])
def test_a_spent_day_and_a_spent_month(sim: SimServer, period: str, again_at: str) -> None:
    sim.configure("virustotal", plan="premium", limits={period: 2}, used_elsewhere={period: 1})
    assert call(sim, "/ip_addresses/203.0.113.7").status_code == 200
    answer = call(sim, "/ip_addresses/203.0.113.7")
    assert error(answer) == (429, "QuotaExceededError")
    assert not [name for name in answer.headers if "ratelimit" in name.lower() or name.lower() == "retry-after"]
    sim.set_clock(again_at)
    assert call(sim, "/ip_addresses/203.0.113.7").status_code == 200


def test_what_is_not_known_costs_a_lookup_and_a_premium_key_has_no_limit(sim: SimServer) -> None:
    sim.configure("virustotal", plan="premium")
    assert {call(sim, "/domains/other.example").status_code for _ in range(6)} == {404}
    assert sim.state("virustotal")["used"]["day"] == 6


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ip_addresses/203.0.113", (400, "InvalidArgumentError")),
        ("/domains/under score", (400, "InvalidArgumentError")),
        ("/domains/localhost", (400, "InvalidArgumentError")),
        ("/urls/" + base64.urlsafe_b64encode(b"http://evil.example/").decode(), (404, "NotFoundError")),  # padded
        ("/urls/not*base64", (404, "NotFoundError")),
        ("/ip_addresses/203.0.113.7?limit=3", (400, "InvalidArgumentError")),
        ("/ip_addresses/203.0.113.7/comments", (403, "ForbiddenError")),
    ],
)
def test_what_is_refused(sim: SimServer, path: str, status: tuple[int, str]) -> None:
    assert error(call(sim, path)) == status


@pytest.mark.parametrize("path", ["/files", "/urls", "/domains/evil.example/votes"])
def test_nothing_can_be_uploaded(sim: SimServer, path: str) -> None:
    assert error(call(sim, path, "POST", data={"url": URL})) == (403, "ForbiddenError")


def test_the_padded_id_is_padded() -> None:
    assert base64.urlsafe_b64encode(b"http://evil.example/").decode().endswith("=")


def test_a_late_record_is_unknown_until_its_time(sim: SimServer) -> None:
    sim.seed("virustotal", {"domains": {"late.example": {"_available_at": "2026-11-24T13:00:00Z"}}})
    assert call(sim, "/domains/late.example").status_code == 404
    sim.set_clock("2026-11-24T13:00:00Z")
    attributes = call(sim, "/domains/late.example").json()["data"]["attributes"]
    assert not [name for name in attributes if name.startswith("_")]


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("configure", {"plan": "gold"}),
        ("configure", {"limits": {"hour": 3}}),
        ("configure", {"retries": 3}),
        ("seed", {"hosts": {}}),
        ("seed", {"domains": {"a.example": {"last_analysis_stats": {"failure": 1}}}}),
    ],
)
def test_a_typing_error_in_a_knob_or_a_seed_is_refused(sim: SimServer, verb: str, body: dict[str, Any]) -> None:
    assert requests.post(f"{sim.url}/_sim/virustotal/{verb}", json=body, timeout=10).status_code == 400


def test_injected_errors_have_the_vendors_shape(client: Any, sim: SimServer) -> None:
    sim.fault("virustotal", "status", status=424)
    with pytest.raises(vt.APIError) as caught:
        client.get_object("/ip_addresses/203.0.113.7")
    assert caught.value.code == "FailedDependencyError"
