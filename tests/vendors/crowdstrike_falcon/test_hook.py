"""The Falcon hook, through falconpy, over HTTP, against the simulator."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from include.soar.model import Observable
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, Unexpected, VendorError, WriteInPlanMode
from tests.stages.controls import FAULTS, WRITE_FAULTS, everything_logged
from tests.support import SimServer, free_port
from tests.vendors.crowdstrike_falcon.conftest import KNOBS, PRODUCT, held, point_at, seed, writes
from threat_response.vendors.crowdstrike_falcon import hook as module
from threat_response.vendors.crowdstrike_falcon.hook import CrowdStrikeFalconHook

ADDRESS = Observable(type="ipv4-addr", value="198.51.100.7")
ROW = {
    "type": "ipv4",
    "value": "198.51.100.7",
    "action": "detect",
    "severity": "high",
    "platforms": ["windows"],
    "applied_globally": True,
    "source": "threat-response",
}


def rows(*values: str) -> list[dict[str, Any]]:
    return [ROW | {"value": value} for value in values]


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.parametrize("path", ["/oauth2/token", "/iocs/combined"])
def test_a_fault_becomes_one_of_the_five_errors(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: type, path: str
) -> None:
    seed(sim, ROW)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    sim.fault(PRODUCT, kind, path=path, **options)
    with pytest.raises(VendorError) as caught:
        CrowdStrikeFalconHook().search([ADDRESS])
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7


def test_the_vendors_own_word_for_waiting_is_read(sim: SimServer) -> None:
    sim.configure(PRODUCT, requests_per_minute=1)
    with pytest.raises(RateLimited) as caught:
        CrowdStrikeFalconHook().search([ADDRESS])
    assert 0 < (caught.value.retry_after or 0) <= 61


def test_missing_results_are_an_error(sim: SimServer) -> None:
    seed(sim, ROW)
    sim.fault(PRODUCT, "empty", path="/iocs/combined", key="resources")
    with pytest.raises(Unexpected, match="0 of 1 indicators came"):
        CrowdStrikeFalconHook().search([ADDRESS])


@pytest.mark.parametrize(("kind", "options", "error"), WRITE_FAULTS)
def test_a_fault_on_a_write_is_told(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: type
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    sim.fault(PRODUCT, kind, method="POST", path="/iocs", **options)
    refused, stopped = CrowdStrikeFalconHook().write(create=rows("198.51.100.7"), comment="c")
    assert (refused, type(stopped)) == ({}, error)


def test_a_token_that_has_expired_is_renewed(sim: SimServer) -> None:
    seed(sim, ROW)
    hook = CrowdStrikeFalconHook()
    hook.search([ADDRESS])
    hook.falcon.auth_object.token_time -= 3600
    hook.search([ADDRESS])
    assert len(sim.calls(PRODUCT, path="/oauth2/token")) == 2


def test_one_bad_row_costs_itself_only(sim: SimServer) -> None:
    values = [f"198.51.100.{n}" for n in range(1, 12)]
    values[4] = "not an address"
    refused, stopped = CrowdStrikeFalconHook().write(create=rows(*values), comment="c")
    assert stopped is None
    assert list(refused) == ["not an address"]
    assert sorted(held(sim)) == sorted(set(values) - {"not an address"})


def test_a_duplicate_is_told_by_what_stands_in_resources(sim: SimServer) -> None:
    seed(sim, ROW)
    refused, stopped = CrowdStrikeFalconHook().write(create=rows("198.51.100.7", "198.51.100.8"), comment="c")
    assert stopped is None
    assert "Duplicate type" in refused["198.51.100.7"]
    assert sorted(held(sim)) == ["198.51.100.7", "198.51.100.8"]


def test_many_are_written_and_searched_in_chunks(sim: SimServer) -> None:
    values = [f"2001:db8::{n:x}" for n in range(1, 420)]
    create = [ROW | {"type": "ipv6", "value": value} for value in values]
    hook = CrowdStrikeFalconHook()
    assert hook.write(create=create, comment="c") == ({}, None)
    assert writes(sim) == ["POST"] * 3
    found = hook.search([Observable(type="ipv6-addr", value=value) for value in values])
    assert sorted(value for _, value in found) == sorted(values)


# --- the traps of falconpy ----------------------------------------------------------------------------------


def test_plan_mode_is_held_on_the_line(sim: SimServer) -> None:
    hook = CrowdStrikeFalconHook(writes_allowed=False)
    hook.search([ADDRESS])
    with pytest.raises(WriteInPlanMode):
        hook.write(create=[ROW], comment="c")
    hook.falcon.indicator_delete(ids=["0" * 64])  # whoever asks, by whatever way
    assert writes(sim) == []


@pytest.fixture
def asked_hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every host that anything in this process tries to reach."""
    hosts: list[str] = []
    original = requests.adapters.HTTPAdapter.send

    def send(self: Any, request: Any, **options: Any) -> Any:
        if "/_sim/" not in request.url:
            hosts.append(request.url)
        return original(self, request, **options)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return hosts


@pytest.mark.parametrize("region", ["us-1", "us-2", "eu-1"])
def test_it_never_leaves_for_another_cloud(sim: SimServer, asked_hosts: list[str], region: str) -> None:
    sim.configure(PRODUCT, cs_region=region)
    with pytest.raises(Unexpected, match="another cloud"):
        CrowdStrikeFalconHook().search([ADDRESS])
    assert {url.partition("?")[0] for url in asked_hosts} == {f"{sim.url}/oauth2/token"}


def test_it_does_not_leave_when_the_token_is_renewed_either(sim: SimServer, asked_hosts: list[str]) -> None:
    hook = CrowdStrikeFalconHook()
    hook.search([ADDRESS])
    asked_hosts.clear()
    sim.configure(PRODUCT, cs_region="us-2")
    hook.falcon.auth_object.token_time -= 3600
    with pytest.raises(Unexpected, match="another cloud"):
        hook.search([ADDRESS])
    assert {url.partition("?")[0] for url in asked_hosts} == {f"{sim.url}/oauth2/token"}


def test_the_secret_does_not_follow_a_redirect(sim: SimServer) -> None:
    sim.fault(PRODUCT, "status", path="/oauth2/token", status=308, headers={"Location": "/elsewhere"})
    with pytest.raises(Unexpected):
        CrowdStrikeFalconHook().search([ADDRESS])
    assert [c["path"] for c in sim.world.calls] == ["/oauth2/token"]


# --- the connection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connection", "knobs", "words"),
    [
        ({}, {}, "may read indicators at 127.0.0.1"),
        ({"password": "wrong"}, {}, "Wrong key"),
        ({"login": "wrong"}, {}, "Wrong key"),
        ({"login": ""}, {}, "Incomplete or wrong connection"),
        ({}, {"cs_region": "eu-1"}, "Wrong host"),
        ({}, {"requests_per_minute": 1}, "quota is used up"),
    ],
)
def test_the_usual_causes_are_told_apart(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, connection: dict[str, str], knobs: dict[str, Any], words: str
) -> None:
    sim.configure(PRODUCT, **knobs)
    point_at(monkeypatch, sim, **connection)
    works, message = CrowdStrikeFalconHook().test_connection()
    assert words in message
    assert works is (not connection and not knobs)


def test_a_missing_grant_and_a_wrong_host_are_told(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault(PRODUCT, "status", path="/iocs", status=403)
    assert CrowdStrikeFalconHook().test_connection()[1].startswith("Missing grant")
    point_at(monkeypatch, f"http://127.0.0.1:{free_port()}")
    assert CrowdStrikeFalconHook().test_connection()[1].startswith("Wrong host")


@pytest.mark.parametrize("option", [{"severity": "urgent"}, {"platforms": "windows,amiga"}, {"hash_action": "allow"}])
def test_a_wrong_extra_is_named(sim: SimServer, monkeypatch: pytest.MonkeyPatch, option: dict[str, str]) -> None:
    point_at(monkeypatch, sim, **option)
    with pytest.raises(Unauthorized, match=next(iter(option))):
        _ = CrowdStrikeFalconHook().wanted


def test_no_secret_and_no_token_is_ever_said(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[str] = []
    errors = []
    with everything_logged() as lines:
        hook = CrowdStrikeFalconHook()
        hook.write(create=[ROW], comment="c")
        tokens.append(hook.falcon.auth_object.token_value)
        for url in (sim, f"http://127.0.0.1:{free_port()}"):
            point_at(monkeypatch, url, password="another-secret")
            with pytest.raises((Unauthorized, Unavailable)) as caught:
                CrowdStrikeFalconHook().search([ADDRESS])
            errors.append(repr(caught.value) + str(caught.value))
    said = "\n".join([*lines, *errors])
    assert re.search("POST /iocs/entities", said)  # urllib3's DEBUG really was on
    for secret in (KNOBS["client_id"], KNOBS["client_secret"], "another-secret", *tokens):
        assert secret
        assert secret not in said


def test_an_action_that_the_tenant_does_not_offer_is_told(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, sim, address_action="quarantine")
    works, message = CrowdStrikeFalconHook().test_connection()
    assert not works
    assert "address_action 'quarantine'" in message
    assert "prevent" in message


def test_everything_of_ours_is_read_page_by_page(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.api, "SEARCH_LIMIT", 2)
    mine = [ROW | {"value": f"198.51.100.{n}"} for n in range(1, 6)]
    seed(sim, *mine, ROW | {"value": "198.51.100.9", "source": "soc"})
    assert sorted(value for _, value in CrowdStrikeFalconHook().ours()) == [row["value"] for row in mine]
    sim.fault(PRODUCT, "empty", path="/iocs/combined", key="resources")
    with pytest.raises(Unexpected, match="of 5 indicators came"):
        CrowdStrikeFalconHook().ours()
