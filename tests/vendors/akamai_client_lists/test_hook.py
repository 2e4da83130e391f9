"""The Client Lists hook over HTTP, against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    WriteInPlanMode,
)
from tests.stages.controls import FAULTS, WRITE_FAULTS, everything_logged
from tests.support import SimServer, free_port
from tests.vendors.akamai_client_lists.conftest import KNOBS, LIST, PRODUCT, held, point_at, seed, writes
from threat_response.vendors.akamai_client_lists import hook as module
from threat_response.vendors.akamai_client_lists.hook import AkamaiClientListsHook

ENTRY = {
    "value": "198.51.100.7",
    "description": "d",
    "tags": ["threat-response"],
    "expirationDate": "2099-12-09T01:02:03.000+00:00",
}


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.parametrize("path", [f"/lists/{LIST}$", "/status$"])
def test_a_fault_becomes_one_of_the_five_errors(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: type, path: str
) -> None:
    seed(sim, "203.0.113.7")
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    sim.fault(PRODUCT, kind, method="GET", path=path, **options)
    hook = AkamaiClientListsHook()
    with pytest.raises(VendorError) as caught:
        hook.state(hook.read_list())
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7


def test_a_list_without_its_items_is_an_error(sim: SimServer) -> None:
    seed(sim, "203.0.113.7")
    sim.fault(PRODUCT, "empty", key="items")
    with pytest.raises(Unexpected, match="0 of 1 items came"):
        AkamaiClientListsHook().read_list()


@pytest.mark.parametrize(("kind", "options", "error"), WRITE_FAULTS)
def test_a_fault_on_a_write_is_told(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: type
) -> None:
    seed(sim)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    sim.fault(PRODUCT, kind, method="POST", **options)
    refused, stopped = AkamaiClientListsHook().write_items([("append", ENTRY)])
    assert (refused, type(stopped)) == ({}, error)


def test_one_bad_item_costs_itself_only(sim: SimServer) -> None:
    seed(sim)
    entries = [ENTRY | {"value": f"198.51.100.{n}"} for n in range(1, 12)]
    entries[4] = ENTRY | {"value": "not an address"}
    refused, stopped = AkamaiClientListsHook().write_items([("append", entry) for entry in entries])
    assert stopped is None
    assert list(refused) == ["not an address"]
    assert "not a valid IP" in refused["not an address"]
    assert len(held(sim)) == 10


def test_a_large_append_goes_in_chunks_that_are_signed_whole(sim: SimServer) -> None:
    seed(sim)
    entries = [ENTRY | {"value": f"2001:db8::{n:x}", "description": "d" * 200} for n in range(1, 900)]
    assert AkamaiClientListsHook().write_items([("append", entry) for entry in entries]) == ({}, None)
    assert len(held(sim)) == 899
    assert len(writes(sim)) == 3  # of less than 100,000 bytes each


def test_nothing_is_written_in_plan_mode(sim: SimServer) -> None:
    seed(sim)
    hook = AkamaiClientListsHook(writes_allowed=False)
    with pytest.raises(WriteInPlanMode):
        hook.write_items([("append", ENTRY)])
    with pytest.raises(WriteInPlanMode):
        hook.activate("x")
    assert sim.calls(PRODUCT) == []


@pytest.mark.parametrize("status", [409, 422])
@pytest.mark.parametrize("network", ["PRODUCTION", "STAGING"])
def test_an_activation_refused_because_another_is_pending_is_no_error(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, status: int, network: str
) -> None:
    """Whichever network it is for: one may stand in the way of the other."""
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    AkamaiClientListsHook().activate("another's")
    point_at(monkeypatch, sim, network=network)
    sim.fault(PRODUCT, "status", method="POST", path="activations", status=status)
    assert AkamaiClientListsHook().activate("x") is None


@pytest.mark.parametrize(("status", "error"), [(409, Unavailable), (422, Rejected)])
def test_a_refusal_with_nothing_pending_is_told_in_the_vendors_words(
    sim: SimServer, status: int, error: type[VendorError]
) -> None:
    """A lasting refusal was told as "an activation is pending" until the retries ended."""
    seed(sim)
    sim.fault(PRODUCT, "status", method="POST", path="activations", status=status, detail="No contract for it")
    with pytest.raises(error, match="No contract for it") as caught:
        AkamaiClientListsHook().activate("x")
    assert "an activation is pending" not in str(caught.value)


def test_an_activation_that_fails_at_once_is_tried_again(sim: SimServer) -> None:
    """3a"""
    seed(sim)
    sim.fault(PRODUCT, "merge", method="POST", path="activations", patch={"activationStatus": "FAILED"})
    with pytest.raises(Unavailable, match="the activation of version 1 failed"):
        AkamaiClientListsHook().activate("x")


@pytest.mark.parametrize(("kind", "error"), [("truncate", Unavailable), ("html", Unexpected)])
def test_an_activation_that_answers_something_else_is_not_taken_for_one(sim: SimServer, kind: str, error: type) -> None:
    seed(sim)
    sim.fault(PRODUCT, kind, method="POST", path="activations", status=200)
    with pytest.raises(error):
        AkamaiClientListsHook().activate("x")


def test_activations_may_go_to_the_newer_version_of_the_api(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim, productionActivationStatus="INACTIVE")
    point_at(monkeypatch, sim, api_version="v2", network="STAGING", notification_emails="a@soc.example, b@soc.example")
    assert AkamaiClientListsHook().activate("why") is not None
    [call] = sim.calls(PRODUCT, "POST")
    assert call["path"] == f"/client-list/v2/lists/{LIST}/activations"
    assert call["body"] == {
        "action": "ACTIVATE",
        "network": "STAGING",
        "comments": "why",
        "notificationRecipients": ["a@soc.example", "b@soc.example"],
    }


def test_the_account_switch_key_goes_with_every_call(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    point_at(monkeypatch, sim, account_switch_key="1-ABC:1-2")
    hook = AkamaiClientListsHook()
    hook.state(hook.read_list())
    hook.write_items([("append", ENTRY)])
    assert len(sim.calls(PRODUCT)) == 3
    assert all(["accountSwitchKey", "1-ABC:1-2"] in call["query"] for call in sim.calls(PRODUCT))


@pytest.mark.parametrize(
    ("option", "words"),
    [({"network": "nowhere"}, "network"), ({"api_version": "v3"}, "api_version"), ({"list_id": ""}, "list_id")],
)
def test_a_wrong_connection_is_named(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, option: dict[str, str], words: str
) -> None:
    seed(sim)
    point_at(monkeypatch, sim, **option)
    with pytest.raises(Unauthorized, match=words):
        AkamaiClientListsHook().activate("x") and AkamaiClientListsHook().state()


@pytest.mark.parametrize(
    ("connection", "knobs", "words"),
    [
        ({}, {}, "at version 1; PRODUCTION is ACTIVE with version 1"),
        ({"password": "wrong"}, {}, "Wrong key"),
        ({"login": "wrong"}, {}, "Wrong key"),
        ({"access_token": "wrong"}, {}, "Wrong key"),
        ({}, {"granted": False}, "Missing grant"),
        ({}, {"timestamp_window_seconds": -1}, "Clock skew"),
        ({"list_id": "1_NONE"}, {}, "has no client list '1_NONE'"),
        ({"list_id": "1_OLD"}, {"network_lists": ["1_OLD"]}, "1_OLD is a network list"),
    ],
)
def test_the_usual_causes_are_told_apart(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, connection: dict[str, str], knobs: dict[str, Any], words: str
) -> None:
    seed(sim)
    sim.configure(PRODUCT, **knobs)
    point_at(monkeypatch, sim, **connection)
    works, message = AkamaiClientListsHook().test_connection()
    assert words in message
    assert works is (not connection and not knobs)


def test_a_wrong_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, f"http://127.0.0.1:{free_port()}")
    works, message = AkamaiClientListsHook().test_connection()
    assert not works
    assert message.startswith("Wrong host")


def test_no_secret_and_no_signature_is_ever_said(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    errors = []
    with everything_logged() as lines:
        AkamaiClientListsHook().write_items([("append", ENTRY)])
        point_at(monkeypatch, sim, password="another-secret")
        for url in (sim, f"http://127.0.0.1:{free_port()}"):
            point_at(monkeypatch, url, password="another-secret")
            with pytest.raises((Unauthorized, Unavailable)) as caught:
                AkamaiClientListsHook().read_list()
            errors.append(repr(caught.value) + str(caught.value))
            assert caught.value.__suppress_context__ or caught.value.__context__ is None
    said = "\n".join([*lines, *errors])
    assert "GET /client-list" in said  # urllib3's DEBUG really was on
    for secret in (
        KNOBS["client_token"],
        KNOBS["client_secret"],
        KNOBS["access_token"],
        "another-secret",
        "signature=",
    ):
        assert secret not in said
