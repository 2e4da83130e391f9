"""Client Lists' requests and answers, on sample files."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.soar.vendor.errors import Unauthorized, Unexpected
from include.soar.vendor.wire import Response
from tests.stages.controls import indicator
from threat_response.vendors.akamai_client_lists import api, items

SAMPLES = Path(__file__).parent / "samples"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def sample(name: str, **changes: Any) -> Response:
    document = json.loads((SAMPLES / name).read_bytes()) | changes
    return Response(200, {}, json.dumps(document).encode())


def the_list(**changes: Any) -> api.ClientList:
    return api.parse_list(sample("list.json", **changes), items=True)


def holding(client_list: api.ClientList, address: str, now: datetime = NOW) -> tuple[str | None, bool]:
    item, ours = items.Holdings(client_list.items or ()).holding(ipaddress.ip_address(address), now)
    return item and item.value, ours


def test_items_are_read_as_they_are() -> None:
    ours, network, by_hand = the_list().items or ()
    assert ours.expirationDate == datetime(2026, 12, 26, 1, 32, 8, 375000, tzinfo=UTC)
    assert (ours.ours, network.ours, by_hand.ours) == (True, False, False)
    assert network.expirationDate is None
    assert by_hand.expirationDate == datetime(2026, 12, 25, 23, 59, 19, 700000, tzinfo=UTC)


@pytest.mark.parametrize("changes", [{"itemsCount": 4}, {"items": []}, {"items": None}])
def test_a_list_that_came_short_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(Unexpected, match="items came"):
        the_list(**changes)


@pytest.mark.parametrize("missing", ["version", "type", "itemsCount"])
def test_what_must_be_there_has_no_default(missing: str) -> None:
    document = json.loads((SAMPLES / "list.json").read_bytes())
    del document[missing]
    with pytest.raises(Unexpected, match=missing):
        api.parse_list(Response(200, {}, json.dumps(document).encode()), items=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"type": "GEO"}, "type GEO"), ({"deprecated": True}, "deprecated"), ({"readOnly": True}, "read-only")],
)
def test_a_list_that_cannot_hold_blocks_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Unauthorized, match=words):
        api.usable(the_list(**changes))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", ("203.0.113.7", True)),
        ("198.51.100.200", ("198.51.100.9/24", False)),  # a network with host bits
        ("2001:db8::7", ("2001:DB8:0:0::7", False)),  # another spelling of the same address
        ("203.0.113.8", (None, False)),
        ("2001:db8::8", (None, False)),
    ],
)
def test_addresses_are_compared_not_texts(address: str, expected: tuple[str | None, bool]) -> None:
    assert holding(the_list(), address) == expected


@pytest.mark.parametrize("items", [["203.0.113.7"], [{"tags": []}], [None], "text", [{"value": 7}]])
def test_items_of_another_shape_are_an_error(items: Any) -> None:
    with pytest.raises(Unexpected):
        the_list(items=items, itemsCount=1)


def test_a_covering_network_whose_time_is_over_covers_nothing() -> None:
    item = {"value": "203.0.112.0/20", "expirationDate": "2026-10-01T00:00:00.000+00:00"}
    short = the_list(items=[item], itemsCount=1)
    assert holding(short, "203.0.113.7") == (None, False)
    assert holding(short, "203.0.113.7", NOW - timedelta(days=60)) == ("203.0.112.0/20", False)


def test_an_item_in_force_stays_so_while_others_change_the_list() -> None:
    state = api.state_of(the_list(), api.parse_environment(sample("environment.json")), "PRODUCTION")
    assert (state.latest, state.active, state.pending) == (76, 75, None)
    ours, network, by_hand = the_list().items or ()
    assert [state.enforces_item(i) for i in (ours, network, by_hand)] == [False, True, True]
    changed = by_hand.model_copy(update={"productionStatus": "MODIFIED"})
    assert not state.enforces_item(changed)


@pytest.mark.parametrize("status", ["INACTIVE", "DEACTIVATED", "FAILED", "PENDING_DEACTIVATION", "SOMETHING_NEW"])
def test_other_states_enforce_nothing(status: str) -> None:
    environment = api.parse_environment(sample("environment.json", activationStatus=status))
    assert api.state_of(the_list(), environment, "PRODUCTION").active is None


def test_a_failed_activation_leaves_the_network_with_what_it_had() -> None:
    """3a"""
    environment = api.parse_environment(sample("environment.json", activationStatus="FAILED", version=76))
    state = api.state_of(the_list(), environment, "PRODUCTION")
    assert (state.failed, state.active) == (True, 75)


@pytest.mark.parametrize("status", ["INACTIVE", "DEACTIVATED", "PENDING_DEACTIVATION"])
def test_an_item_of_a_list_that_was_withdrawn_is_not_in_force_whatever_it_says(status: str) -> None:
    environment = api.parse_environment(sample("environment.json", activationStatus=status))
    state = api.state_of(the_list(), environment, "PRODUCTION")
    assert [state.enforces_item(item) for item in the_list().items or ()] == [False, False, False]


#: Recorded of the live service, shortened, with another id.
V2 = {
    "action": "ACTIVATE",
    "activations": {"PRODUCTION": {"activationId": 3771177, "activationStatus": "PENDING_ACTIVATION"}},
    "createDate": "2026-02-09T12:28:14.159+00:00",
    "createdBy": "user1",
    "listId": "237402_LIST",
    "version": 1,
}


def test_an_activation_of_either_version_of_the_api_is_read() -> None:
    """J2"""
    one = api.parse_activation(sample("environment.json", activationStatus="PENDING_ACTIVATION"), "PRODUCTION")
    two = api.parse_activation(Response(200, {}, json.dumps(V2).encode()), "PRODUCTION")
    assert (one.activationId, one.activationStatus, one.version) == (961, "PENDING_ACTIVATION", 75)
    assert (two.activationId, two.activationStatus, two.version) == (3771177, "PENDING_ACTIVATION", 1)


@pytest.mark.parametrize("activations", [{}, None, [], {"STAGING": {"activationId": 1, "activationStatus": "ACTIVE"}}])
def test_an_answer_about_another_network_is_not_taken_for_ours(activations: Any) -> None:
    """J2"""
    answer = Response(200, {}, json.dumps(V2 | {"activations": activations}).encode())
    with pytest.raises(Unexpected, match="no activation in PRODUCTION"):
        api.parse_activation(answer, "PRODUCTION")


@pytest.mark.parametrize(
    ("text", "year"), [("9999-12-31T23:59:59-12:00", 9999), ("0001-01-01T00:00:00+14:00", 1)], ids=["never", "past"]
)
def test_an_end_at_the_edge_of_the_calendar_costs_nothing(text: str, year: int) -> None:
    """1i"""
    client_list = the_list(items=[{"value": "203.0.113.7", "expirationDate": text}], itemsCount=1)
    [item] = client_list.items or ()
    assert item.expirationDate is not None
    assert item.expirationDate.year == year


def test_the_networks_are_kept_apart() -> None:
    environment = api.parse_environment(sample("environment.json", activationStatus="MODIFIED"))
    assert api.state_of(the_list(), environment, "STAGING").active is None


def test_an_update_keeps_every_member_and_never_shortens() -> None:
    ours = {
        "value": "203.0.113.7",
        "description": "by us",
        "tags": ["threat-response", "keep"],
        "expirationDate": "2026-11-30T00:00:00.000+00:00",
    }
    client_list = the_list(items=[ours], itemsCount=1)
    longer = indicator("ipv4-addr", "203.0.113.7", expires_at=datetime(2026, 12, 9, 1, 2, 3, 999, tzinfo=UTC))
    changes = items.changes_for(client_list, [longer], {}, NOW)
    assert changes.append == []
    assert changes.update == [ours | {"expirationDate": "2026-12-09T01:02:03.000+00:00"}]
    for ends in (datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC)):
        shorter = indicator("ipv4-addr", "203.0.113.7", expires_at=ends)
        assert items.changes_for(client_list, [shorter], {}, NOW).update == []


def test_what_is_appended_names_the_incident_and_is_marked() -> None:
    wanted = indicator("ipv4-addr", "203.0.113.8", expires_at=datetime(2026, 12, 9, 1, 2, 3, 999, tzinfo=UTC))
    changes = items.changes_for(the_list(), [wanted], {wanted.observable.key: ["INC-7", "INC-9"]}, NOW)
    assert changes.append == [
        {
            "value": "203.0.113.8",
            "description": "Threat response: INC-7, INC-9; confidence 80",
            "tags": ["threat-response"],
            "expirationDate": "2026-12-09T01:02:03.000+00:00",
        }
    ]


def test_a_full_list_takes_the_most_certain_first() -> None:
    full = the_list().model_copy(update={"itemsCount": api.MAXIMUM_ITEMS - 1})
    weak, strong = indicator("ipv4-addr", "203.0.113.8", confidence=50), indicator("ipv4-addr", "203.0.113.9")
    changes = items.changes_for(full, [weak, strong], {}, NOW)
    assert [entry["value"] for entry in changes.append] == ["203.0.113.9"]
    assert changes.no_room == {weak.observable}


def test_chunks_are_small_in_number_and_in_bytes() -> None:
    short = [("append", {"value": f"2001:db8::{n:x}"}) for n in range(1201)]
    assert [len(chunk) for chunk in items.chunks(short)] == [500, 500, 201]
    long = [("append", {"value": "203.0.113.7", "description": "x" * 1000}) for _ in range(300)]
    parts = items.chunks(long)
    assert sum(map(len, parts)) == 300
    written = [{"append": [entry for _, entry in part], "update": [], "delete": []} for part in parts]
    assert max(len(json.dumps(body)) for body in written) < 131_072


def test_a_skewed_clock_is_told_from_a_wrong_item() -> None:
    body = (SAMPLES / "invalid_timestamp.json").read_bytes()
    problem = api.authentication_problem("list", Response(400, {}, body))
    assert isinstance(problem, Unauthorized)
    assert "Invalid timestamp" in str(problem)
    assert "ALC1234" in str(problem)
    assert api.authentication_problem("list", Response(400, {}, b'{"title": "Invalid Input Error"}')) is None


def test_a_list_id_cannot_leave_its_place_in_the_path() -> None:
    assert api.list_request("../x?y", items=False).path == "/client-list/v1/lists/..%2Fx%3Fy"
