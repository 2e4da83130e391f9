"""
The GreyNoise simulator, against the shapes of the published OpenAPI, and driven by GreyNoise's own client.

That client (greynoise 3.1.0) pins older versions of what Airflow needs, so it is in no requirements file: its tests run
where it was installed with ``--no-deps``. It refuses documentation addresses, so it asks about well-known public ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from greynoise import api

from tests.support import SimServer, start_simulators

KEY = "demo-greynoise-key"
NOON = "2026-11-24T12:00:00Z"  # a Tuesday
EVIL, DNS, QUIET = "203.0.113.7", "203.0.113.53", "203.0.113.99"
#: Google's resolver, Quad9's, and a scanner of Shodan that GreyNoise's documentation shows.
RESOLVER, OTHER_RESOLVER, CENSUS = "8.8.8.8", "9.9.9.9", "71.6.135.131"
SCANNER, SERVICE = "internet_scanner_intelligence", "business_service_intelligence"
SEED: dict[str, Any] = {
    "addresses": {
        EVIL: {SCANNER: {"classification": "malicious", "first_seen": "2026-09-01", "tags": [{"name": "Mirai"}]}},
        DNS: {SERVICE: {"name": "Example DNS", "trust_level": "1", "last_updated": "2026-11-23T12:00:00Z"}},
        RESOLVER: {SERVICE: {"name": "Google Public DNS", "category": "public_dns", "trust_level": "1"}},
        CENSUS: {SCANNER: {"classification": "benign", "actor": "Shodan.io", "tags": [{"name": "Shodan.io"}]}},
    },
    "public_networks": ["203.0.113.0/24"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["greynoise"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock(NOON)
    server.seed("greynoise", SEED)
    return server


@pytest.fixture
def paid(sim: SimServer) -> SimServer:
    sim.configure("greynoise", plan="paid")
    return sim


@pytest.fixture
def sdk(paid: SimServer) -> Any:
    return api.GreyNoise(api.APIConfig(api_key=KEY, api_server=paid.url, use_cache=False))


def call(sim: SimServer, path: str, method: str = "GET", key: str | None = KEY, **options: Any) -> requests.Response:
    headers = {"key": key} if key else {}
    return requests.request(method, sim.url + path, headers=headers, timeout=10, **options)


def test_the_vendors_client_reads_one_address(sdk: Any) -> None:
    resolver, census = sdk.ip(RESOLVER), sdk.ip(CENSUS)
    assert (resolver[SERVICE]["found"], resolver[SERVICE]["name"]) == (True, "Google Public DNS")
    assert (resolver[SCANNER]["found"], resolver[SCANNER]["classification"]) == (False, "")
    assert (census[SCANNER]["classification"], census[SCANNER]["actor"]) == ("benign", "Shodan.io")
    nothing = sdk.ip(OTHER_RESOLVER)
    assert (nothing["ip"], nothing[SERVICE]["found"], nothing[SCANNER]["found"]) == (OTHER_RESOLVER, False, False)


@pytest.mark.parametrize("verb", ["ip_multi", "quick"])
def test_the_vendors_client_reads_several_addresses(sdk: Any, verb: str) -> None:
    answers = {row["ip"]: row for row in getattr(sdk, verb)([RESOLVER, CENSUS, OTHER_RESOLVER])}
    assert set(answers) == {RESOLVER, CENSUS, OTHER_RESOLVER}
    assert answers[RESOLVER][SERVICE]["trust_level"] == "1"
    assert answers[CENSUS][SCANNER]["classification"] == "benign"
    assert not answers[OTHER_RESOLVER][SCANNER]["found"]
    assert ("actor" in answers[CENSUS][SCANNER]) == (verb == "ip_multi")


def test_the_vendors_client_is_told_what_is_wrong(sdk: Any, paid: SimServer) -> None:
    from greynoise.exceptions import RateLimitError, RequestFailure

    assert sdk.test_connection()["message"] == "pong"
    paid.configure("greynoise", weekly_limit=0)
    with pytest.raises(RateLimitError):
        sdk.ip(RESOLVER)
    paid.configure("greynoise", api_key="another")
    with pytest.raises(RequestFailure) as caught:
        sdk.ip(RESOLVER)
    assert caught.value.args == (401, {"message": "Unauthorized"})


def test_the_communitys_answers(sim: SimServer) -> None:
    assert call(sim, f"/v3/community/{EVIL}").json() == {
        "ip": EVIL,
        "noise": True,
        "riot": False,
        "classification": "malicious",
        "name": "unknown",
        "link": f"https://viz.greynoise.io/ip/{EVIL}",
        "last_seen": "2026-11-24",
        "message": "Success",
    }
    dns = call(sim, f"/v3/community/{DNS}").json()
    assert (dns["noise"], dns["riot"], dns["classification"]) == (False, True, "benign")
    assert (dns["name"], dns["last_seen"]) == ("Example DNS", "2026-11-23")


def test_what_was_not_seen_is_404_with_a_body_for_the_community_and_200_for_a_paid_key(sim: SimServer) -> None:
    answer = call(sim, f"/v3/community/{QUIET}")
    assert answer.status_code == 404
    assert answer.json() == {
        "ip": QUIET,
        "noise": False,
        "riot": False,
        "message": "IP not observed scanning the internet or contained in RIOT data set.",
    }
    sim.configure("greynoise", plan="paid")
    one = call(sim, f"/v3/ip/{QUIET}")
    assert (one.status_code, one.json()[SERVICE]["found"], one.json()[SCANNER]["found"]) == (200, False, False)
    many = call(sim, "/v3/ip", "POST", json={"ips": [QUIET, EVIL]}).json()
    assert [row["ip"] for row in many["data"]] == [EVIL]
    assert many["request_metadata"]["ips_not_found"] == [QUIET]


@pytest.mark.parametrize("ip", ["198.51.100.1", "10.0.0.1", "224.0.0.1", "2001:db8::1", "evil.example"])
def test_only_routable_ipv4_addresses(sim: SimServer, ip: str) -> None:
    assert call(sim, f"/v3/community/{ip}").status_code == 400
    sim.configure("greynoise", plan="paid")
    for answer in (call(sim, f"/v3/ip/{ip}"), call(sim, "/v3/ip", "POST", json={"ips": [EVIL, ip]})):
        assert (answer.status_code, answer.json()["message"]) == (
            400,
            "Request is not a valid routable IPv4 address",
        )


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"ips": []}', b'{"ips": "203.0.113.7"}', b'{"ips": [7]}', b'{"ips": ["8.8.8.8"], "x": 1}'],
)
def test_a_bulk_question_of_another_shape_is_refused(paid: SimServer, body: bytes) -> None:
    assert call(paid, "/v3/ip", "POST", data=body).status_code == 400
    assert paid.state("greynoise")["used_this_week"] == 0


def test_too_many_at_once(paid: SimServer) -> None:
    assert call(paid, "/v3/ip", "POST", json={"ips": [EVIL] * 10_001}).status_code == 400


@pytest.mark.parametrize("query", ["?quick=maybe", "?verbose=true"])
def test_a_parameter_that_is_not_known_is_refused(paid: SimServer, query: str) -> None:
    assert call(paid, f"/v3/ip/{EVIL}{query}").status_code == 400


@pytest.mark.parametrize(
    ("key", "plan", "path", "status"),
    [
        ("wrong", "paid", f"/v3/ip/{EVIL}", 401),
        ("wrong", "community", f"/v3/community/{EVIL}", 401),
        ("wrong", "community", "/ping", 401),
        (None, "paid", f"/v3/ip/{EVIL}", 401),
        (None, "paid", "/ping", 401),
        (None, "paid", f"/v3/community/{EVIL}", 200),
        (KEY, "community", f"/v3/ip/{EVIL}", 403),
        (KEY, "community", "/ping", 200),
    ],
)
def test_who_may_ask_what(sim: SimServer, key: str | None, plan: str, path: str, status: int) -> None:
    sim.configure("greynoise", plan=plan)
    answer = call(sim, path, key=key)
    assert answer.status_code == status
    assert (status != 401) or answer.json() == {"message": "Unauthorized"}


@pytest.mark.parametrize(("key", "limit", "plan"), [(KEY, 50, "community"), (None, 25, "unauthenticated")])
def test_a_free_week(sim: SimServer, key: str | None, limit: int, plan: str) -> None:
    sim.configure("greynoise", used_elsewhere=limit - 2)
    assert [call(sim, f"/v3/community/{ip}", key=key).status_code for ip in (EVIL, QUIET)] == [200, 404]
    spent = call(sim, f"/v3/community/{EVIL}", key=key)
    assert (spent.status_code, spent.json()["plan"]) == (429, plan)
    assert spent.json()["rate-limit"] == f"{limit}-lookups/week"
    assert 5 * 86400 + 43190 <= int(spent.headers["Retry-After"]) <= 5 * 86400 + 43200
    sim.set_clock("2026-11-30T00:00:00Z")
    assert call(sim, f"/v3/community/{EVIL}", key=key).status_code == 200


def test_every_address_of_a_bulk_call_counts(paid: SimServer) -> None:
    paid.configure("greynoise", weekly_limit=5)
    ips = {"ips": [EVIL, DNS, QUIET]}
    assert call(paid, "/v3/ip", "POST", json=ips).status_code == 200
    spent = call(paid, "/v3/ip", "POST", json=ips)
    assert (spent.status_code, "Retry-After" in spent.headers) == (429, False)
    assert paid.state("greynoise")["used_this_week"] == 3


def test_a_plan_that_leaves_fields_out_says_so(paid: SimServer) -> None:
    paid.configure("greynoise", restricted_fields=["classification"])
    one = call(paid, f"/v3/ip/{EVIL}")
    assert (one.status_code, one.json()["request_metadata"]["restricted_fields"]) == (206, ["classification"])
    assert "classification" not in one.json()[SCANNER]
    many = call(paid, "/v3/ip", "POST", json={"ips": [EVIL]})
    assert (many.status_code, "classification" in many.json()["data"][0][SCANNER]) == (206, False)
    paid.configure("greynoise", restricted_fields=[SCANNER])
    assert SCANNER not in call(paid, f"/v3/ip/{EVIL}").json()


def test_a_late_record_is_unknown_until_its_time(sim: SimServer) -> None:
    late = {SCANNER: {"classification": "malicious"}, "_available_at": "2026-11-24T13:00:00Z"}
    sim.seed("greynoise", {"addresses": {"203.0.113.77": late}})
    assert call(sim, "/v3/community/203.0.113.77").status_code == 404
    sim.set_clock("2026-11-24T13:00:00Z")
    assert call(sim, "/v3/community/203.0.113.77").status_code == 200


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("configure", {"plan": "v2"}),
        ("configure", {"daily_limit": 3}),
        ("seed", {"ips": {}}),
        ("seed", {"addresses": {EVIL: {"noise": True}}}),
    ],
)
def test_a_typing_error_in_a_knob_or_a_seed_is_refused(sim: SimServer, verb: str, body: dict[str, Any]) -> None:
    assert requests.post(f"{sim.url}/_sim/greynoise/{verb}", json=body, timeout=10).status_code == 400
