"""The OTX simulator, judged by the vendor's own SDK (OTXv2 1.5.12)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import IndicatorTypes  # a module of the SDK's own
import OTXv2
import pytest
import requests

from tests.support import SimServer, start_simulators

KEY = "demo-otx-key"
MD5 = "0123456789abcdef" * 2
URL = "http://evil.example/a/b"


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["alienvault_otx"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    pulse = {"name": "Botnet", "tags": ["mirai"], "malware_families": ["Mirai"], "attack_ids": ["T1110"]}
    seed: dict[str, Any] = {
        "indicators": {
            "203.0.113.9": {"pulses": [pulse, {}]},
            "cdn.example": {"pulses": [pulse], "validation": [{"source": "whitelist", "name": "Whitelisted domain"}]},
            "www.evil.example": {"pulses": [pulse]},
            URL: {"pulses": [pulse]},
            MD5: {"pulses": [pulse]},
        },
        "public_networks": ["203.0.113.0/24", "2001:db8::/32"],
    }
    server.seed("alienvault_otx", seed)
    return server


@pytest.fixture
def sdk(sim: SimServer) -> Any:
    return OTXv2.OTXv2(KEY, server=sim.url)


@pytest.mark.parametrize(
    ("kind", "value", "pulses"),
    [
        (IndicatorTypes.IPv4, "203.0.113.9", 2),
        (IndicatorTypes.IPv4, "203.0.113.10", 0),
        (IndicatorTypes.IPv6, "2001:db8::1", 0),
        (IndicatorTypes.DOMAIN, "cdn.example", 1),
        (IndicatorTypes.HOSTNAME, "www.evil.example", 1),
        (IndicatorTypes.URL, URL, 1),
        (IndicatorTypes.FILE_HASH_MD5, MD5, 1),
    ],
    ids=str,
)
def test_the_sdk_reads_every_type(sdk: Any, kind: Any, value: str, pulses: int) -> None:
    details = sdk.get_indicator_details_by_section(kind, value)
    assert (details["indicator"], details["type"]) == (value, kind.slug)
    assert (details["pulse_info"]["count"], len(details["pulse_info"]["pulses"])) == (pulses, pulses)


def test_a_pulse_as_recorded(sdk: Any) -> None:
    pulse = sdk.get_indicator_details_by_section(IndicatorTypes.IPv4, "203.0.113.9")["pulse_info"]["pulses"][0]
    assert (pulse["name"], pulse["tags"], pulse["author"]["username"]) == ("Botnet", ["mirai"], "analyst")
    assert [family["display_name"] for family in pulse["malware_families"]] == ["Mirai"]
    assert [technique["id"] for technique in pulse["attack_ids"]] == ["T1110"]
    assert sdk.fix_date(pulse["created"]).tzinfo is not None  # written without a zone, meant as UTC
    assert not pulse["created"].endswith(("Z", "+00:00"))


def test_the_list_of_the_harmless(sdk: Any) -> None:
    details = sdk.get_indicator_details_by_section(IndicatorTypes.DOMAIN, "cdn.example")
    assert details["validation"] == [
        {"message": "Whitelisted domain", "name": "Whitelisted domain", "source": "whitelist"}
    ]


def test_a_user(sdk: Any) -> None:
    assert sdk.get_user("me", detailed=False)["username"] == "demo-analyst"


def test_a_wrong_key(sim: SimServer) -> None:
    stranger = OTXv2.OTXv2("wrong", server=sim.url)
    with pytest.raises(OTXv2.InvalidAPIKey):
        stranger.get_indicator_details_by_section(IndicatorTypes.IPv4, "203.0.113.9")
    with pytest.raises(OTXv2.InvalidAPIKey):
        stranger.get_user("me", detailed=False)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (IndicatorTypes.IPv4, "10.0.0.1"),
        (IndicatorTypes.IPv4, "224.0.0.1"),
        (IndicatorTypes.IPv4, "2001:db8::1"),
        (IndicatorTypes.IPv4, "1.2.3"),
        (IndicatorTypes.DOMAIN, "not_a_name"),
        (IndicatorTypes.FILE_HASH_MD5, "ab"),
    ],
    ids=str,
)
def test_a_bad_value_is_a_bad_request(sdk: Any, kind: Any, value: str) -> None:
    with pytest.raises(OTXv2.BadRequest):
        sdk.get_indicator_details_by_section(kind, value)


def test_unknown_values_may_be_a_404(sdk: Any, sim: SimServer) -> None:
    sim.configure("alienvault_otx", unknown_status=404)
    with pytest.raises(OTXv2.NotFound):
        sdk.get_indicator_details_by_section(IndicatorTypes.IPv4, "203.0.113.10")
    with pytest.raises(OTXv2.NotFound):
        sdk.get_indicator_details_by_section(IndicatorTypes.IPv4, "203.0.113.9", "geo")


def test_a_url_may_come_encoded_as_well(sim: SimServer) -> None:
    path = "http%3A%2F%2Fevil.example%2Fa%2Fb"
    answer = requests.get(f"{sim.url}/api/v1/indicators/url/{path}/general", headers={"X-OTX-API-KEY": KEY}, timeout=10)
    assert answer.json()["indicator"] == URL


def test_the_limit_is_of_the_hour_and_names_no_time(sim: SimServer) -> None:
    sim.configure("alienvault_otx", hourly_limit=1)

    def ask() -> requests.Response:
        place = f"{sim.url}/api/v1/indicators/IPv4/203.0.113.9/general"
        return requests.get(place, headers={"X-OTX-API-KEY": KEY}, timeout=10)

    assert [ask().status_code for _ in range(3)] == [200, 429, 429]
    assert not [name for name in ask().headers if "retry" in name.lower() or "ratelimit" in name.lower()]
    assert sim.state("alienvault_otx")["used_this_hour"] == 1
    requests.post(f"{sim.url}/_sim/clock", json={"advance_seconds": 3600}, timeout=10)
    assert ask().status_code == 200


def test_a_typo_in_a_seed_is_named(sim: SimServer) -> None:
    document = {"indicators": {"203.0.113.9": {"pulse": []}}}
    answer = requests.post(f"{sim.url}/_sim/alienvault_otx/seed", json=document, timeout=10)
    assert (answer.status_code, "pulse" in answer.text) == (400, True)
