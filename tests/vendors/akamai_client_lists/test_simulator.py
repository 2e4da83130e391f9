"""The Client Lists simulator over HTTP, signed by Akamai's own signer, compared with Akamai's recorded answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from akamai.edgegrid import EdgeGridAuth

from include.simulators.edgegrid import EDGEGRID_SETTINGS
from tests.support import SimServer, start_simulators

SAMPLES = Path(__file__).resolve().parents[3] / ".." / "shared" / "specs" / "akamai" / "recorded-samples"
PRODUCT = "akamai_client_lists"
BLOCK = "91596_BLOCK"
USAGE = {
    "configId": 1111,
    "configName": "Sec Configuration",
    "policyId": "abc_12345",
    "policyName": "WAF Policy",
    "production": {"version": 2, "protections": [{"protection": "CUSTOM_RULES", "instances": [{"id": "54321"}]}]},
    "staging": {"version": 2, "protections": [{"protection": "CUSTOM_RULES", "instances": [{"id": "54321"}]}]},
}
EXPIRES = "2026-12-26T01:32:08.375+00:00"


@pytest.fixture(scope="module")
def _server() -> Iterator[SimServer]:
    server = start_simulators([PRODUCT])
    yield server
    server.stop()


class Api:
    """Signed calls below /client-list/v1."""

    def __init__(self, sim: SimServer) -> None:
        self.sim = sim
        self.session = requests.Session()
        names = ("client_token", "client_secret", "access_token")
        self.session.auth = EdgeGridAuth(*(EDGEGRID_SETTINGS[name] for name in names))

    def call(self, method: str, path: str, body: Any = None, version: str = "v1", **params: Any) -> requests.Response:
        url = f"{self.sim.url}/client-list/{version}{path}"
        return self.session.request(method, url, json=body, params=params, timeout=10)

    def ok(self, method: str, path: str, body: Any = None, status: int = 200, **params: Any) -> Any:
        answer = self.call(method, path, body, **params)
        assert answer.status_code == status, answer.text
        return answer.json()

    def refused(self, status: int, method: str, path: str, body: Any = None, **params: Any) -> str:
        answer = self.call(method, path, body, **params)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem.keys() == {"type", "title", "detail", "instance", "status"}
        assert problem["status"] == status
        assert problem["type"].startswith("https://problems.luna.akamaiapis.net/client-list/error-types/")
        return str(problem["detail"])

    def items(self, **body: Any) -> Any:
        return self.ok("POST", f"/lists/{BLOCK}/items", body)

    def activate(self, network: str = "PRODUCTION", action: str = "ACTIVATE") -> Any:
        return self.ok("POST", f"/lists/{BLOCK}/activations", {"action": action, "network": network})

    def status(self, network: str = "PRODUCTION") -> str:
        return str(self.ok("GET", f"/lists/{BLOCK}/environments/{network}/status")["activationStatus"])

    def state(self) -> Any:
        return self.sim.state(PRODUCT)["lists"][BLOCK]

    def values(self) -> list[str]:
        return [item["value"] for item in self.state()["items"]]

    def later(self, seconds: float) -> None:
        requests.post(self.sim.url + "/_sim/clock", json={"advance_seconds": seconds}, timeout=10)


@pytest.fixture
def api(_server: SimServer) -> Iterator[Api]:
    """One IP list with one item, never activated."""
    _server.world.reset()
    _server.seed(PRODUCT, {"lists": [{"listId": BLOCK, "name": "Block", "type": "IP", "items": ["203.0.113.7"]}]})
    api = Api(_server)
    yield api
    api.session.close()


@pytest.fixture
def slow(api: Api) -> Api:
    """Activations take five minutes by the simulated clock, which the real-time signer does not follow."""
    api.sim.configure(PRODUCT, activation_seconds=300, timestamp_window_seconds=None)
    return api


# -- end to end ----------------------------------------------------------------------------------------------------


def test_append_activate_status(slow: Api) -> None:
    [appended] = slow.items(append=[{"value": "198.51.100.9", "description": "d", "tags": ["soc-auto"]}])["appended"]
    assert appended["value"] == "198.51.100.9"
    statuses = {i["value"]: i["productionStatus"] for i in slow.ok("GET", f"/lists/{BLOCK}/items")["content"]}
    assert statuses == {"203.0.113.7": "INACTIVE", "198.51.100.9": "INACTIVE"}
    assert slow.state()["live"] == {"STAGING": None, "PRODUCTION": None}, "text only"

    activation = slow.activate()
    assert (activation["activationStatus"], activation["version"]) == ("PENDING_ACTIVATION", 2)
    assert slow.status() == "PENDING_ACTIVATION"
    assert {i["productionStatus"] for i in slow.ok("GET", f"/lists/{BLOCK}/items")["content"]} == {"PENDING_ACTIVATION"}
    slow.later(299)
    assert slow.status() == "PENDING_ACTIVATION"
    slow.later(2)
    assert slow.status() == "ACTIVE"
    assert slow.ok("GET", f"/activations/{activation['activationId']}")["activationStatus"] == "ACTIVE"
    shown = slow.ok("GET", f"/lists/{BLOCK}", includeItems="true")
    assert (shown["productionActivationStatus"], shown["productionActiveVersion"]) == ("ACTIVE", 2)
    assert shown["stagingActivationStatus"] == "INACTIVE"
    assert "stagingActiveVersion" not in shown
    assert {(i["stagingStatus"], i["productionStatus"]) for i in shown["items"]} == {("INACTIVE", "ACTIVE")}
    assert slow.state()["live"]["PRODUCTION"] == ["203.0.113.7", "198.51.100.9"]


def test_a_change_after_activation_is_not_live(api: Api) -> None:
    api.activate()
    assert api.status() == "ACTIVE"
    api.items(
        append=[{"value": "198.51.100.1"}], update=[{"value": "203.0.113.7", "description": "seen again"}], delete=[]
    )
    assert api.status() == "MODIFIED"
    items = api.ok("GET", f"/lists/{BLOCK}/items")["content"]
    assert [(i["value"], i["productionStatus"]) for i in items] == [
        ("203.0.113.7", "MODIFIED"),
        ("198.51.100.1", "INACTIVE"),
    ]
    api.items(delete=[{"value": "203.0.113.7"}])
    assert api.state()["live"]["PRODUCTION"] == ["203.0.113.7"], "a deleted item blocks until the next activation"
    api.activate()
    assert api.status() == "ACTIVE"
    assert api.state()["live"]["PRODUCTION"] == ["198.51.100.1"]


def test_three_pages_of_items(api: Api) -> None:
    api.items(append=[{"value": f"198.51.100.{i}"} for i in range(24)])
    pages = [api.ok("GET", f"/lists/{BLOCK}/items", page=n, pageSize=10) for n in range(4)]
    assert [len(p["content"]) for p in pages] == [10, 10, 5, 0]
    assert [(p["page"], p["pageSize"], p["totalElements"], p["totalPages"]) for p in pages] == [
        (n, 10, 25, 3) for n in range(4)
    ]
    listed = [i["value"] for p in pages for i in p["content"]]
    assert listed == ["203.0.113.7", *(f"198.51.100.{i}" for i in range(24))]
    assert api.ok("GET", f"/lists/{BLOCK}/items", search="100.23")["totalElements"] == 1
    first = api.ok("GET", f"/lists/{BLOCK}/items", sort="value:desc", pageSize=1)["content"][0]
    assert first["value"] == "203.0.113.7"
    for wrong in ({"page": "-1"}, {"pageSize": 0}, {"pageSize": 1001}, {"sort": "colour"}):
        api.refused(400, "GET", f"/lists/{BLOCK}/items", **wrong)


# -- lists ---------------------------------------------------------------------------------------------------------


def test_create_read_update_delete(api: Api) -> None:
    wanted = {"contractId": "M-2CF0QRI", "groupId": 112524, "name": "SOC: block!", "type": "IP"}
    items = [{"value": "192.0.2.1", "description": "d", "tags": ["t"], "expirationDate": EXPIRES}]
    made = api.ok("POST", "/lists", {**wanted, "notes": "n", "tags": ["a", "b"], "items": items}, 201)
    assert made["listId"].endswith("_SOCBLOCK")
    assert (made["version"], made["itemsCount"], made["listType"]) == (1, 1, "CL")
    item = made["items"][0]
    assert {k: item[k] for k in items[0]} == items[0]
    path = f"/lists/{made['listId']}"
    assert api.ok("GET", path, includeItems="true") == made
    assert "items" not in api.ok("GET", path)

    changed = api.ok("PUT", path, {"name": "SOC", "tags": ["c"]})
    assert (changed["name"], changed["tags"], changed["version"]) == ("SOC", ["c"], 1)
    assert "notes" not in changed, "what the PUT leaves out is gone"

    assert api.call("DELETE", path).status_code == 204
    assert api.ok("GET", path)["deprecated"] is True
    assert [entry["listId"] for entry in api.ok("GET", "/lists")["content"]] == [BLOCK]
    assert api.ok("GET", "/lists", includeDeprecated="true")["totalElements"] == 2
    api.refused(403, "POST", path + "/items", {"append": [{"value": "192.0.2.2"}]})


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "IPS"},
        {"name": ""},
        {"name": None},
        {"groupId": "112524"},
        {"contractId": None},
        {"tags": ["a,b"]},
        {"tags": ["a;b"]},
        {"tags": list("abcdef")},
        {"tags": ["a" * 257]},
        {"items": [{"value": "192.0.2.300"}]},
        {"items": "192.0.2.1"},
    ],
)
def test_create_refuses(api: Api, changes: dict[str, Any]) -> None:
    good = {"contractId": "M-2CF0QRI", "groupId": 112524, "name": "SOC", "type": "IP"}
    api.refused(400, "POST", "/lists", {**good, **changes})
    assert api.ok("GET", "/lists")["totalElements"] == 1


def test_find_lists(api: Api) -> None:
    lists = [
        {"listId": "1_GEO", "name": "Geo", "type": "GEO", "items": ["XK"], "tags": ["green"]},
        {"listId": "2_BLOCKGEO", "name": "Block geo", "type": "GEO", "notes": "for audits"},
    ]
    api.sim.seed(PRODUCT, {"lists": lists})

    def ids(**params: Any) -> set[str]:
        return {entry["listId"] for entry in api.ok("GET", "/lists", **params)["content"]}

    assert ids(name="block") == {BLOCK, "2_BLOCKGEO"}, "a name is no key"
    assert ids(type=["IP", "GEO"]) == {BLOCK, "1_GEO", "2_BLOCKGEO"}
    assert ids(type="GEO", name="Block") == {"2_BLOCKGEO"}
    assert ids(search="audit") == {"2_BLOCKGEO"}
    assert ids(search="203.0.113") == {BLOCK}
    assert ids(pageSize=2, page=1) == {"2_BLOCKGEO"}
    assert ids(pageSize=1, sort="name:desc") == {"1_GEO"}
    page = api.ok("GET", "/lists")
    assert {k: page[k] for k in ("page", "pageSize", "totalElements", "totalPages")} == {
        "page": 0,
        "pageSize": 50,
        "totalElements": 3,
        "totalPages": 1,
    }
    assert all("items" not in entry for entry in page["content"])
    assert [len(e["items"]) for e in api.ok("GET", "/lists", includeItems="true")["content"]] == [1, 1, 0]
    assert api.ok("GET", "/lists/tags") == {"tags": ["green"]}
    api.refused(400, "GET", "/lists", type="COLOUR")
    api.refused(400, "GET", "/lists", includeItems="yes")


def test_unknown_list(api: Api) -> None:
    for method, path in (("GET", ""), ("POST", "/items"), ("POST", "/activations"), ("GET", "/usage")):
        body = {"append": []} if method == "POST" else None
        assert api.refused(404, method, "/lists/1_NO" + path, body) == "Client list with uid 1_NO not found"
    api.refused(404, "GET", "/activations/1")


def test_an_active_list_cannot_be_deleted(api: Api) -> None:
    api.activate("STAGING")
    api.refused(403, "DELETE", f"/lists/{BLOCK}")
    api.activate("STAGING", "DEACTIVATE")
    assert api.call("DELETE", f"/lists/{BLOCK}").status_code == 204


def test_read_only_list(api: Api) -> None:
    api.sim.seed(PRODUCT, {"lists": [{"listId": BLOCK, "name": "Block", "type": "IP", "readOnly": True}]})
    api.refused(403, "POST", f"/lists/{BLOCK}/items", {"append": [{"value": "192.0.2.1"}]})


# -- items ---------------------------------------------------------------------------------------------------------


def test_update_erases_what_it_leaves_out(api: Api) -> None:
    api.items(append=[{"value": "192.0.2.1", "description": "d", "tags": ["t"], "expirationDate": EXPIRES}])
    updated = api.items(update=[{"value": "192.0.2.1", "tags": ["u"]}])["updated"][0]
    assert updated["tags"] == ["u"]
    assert not {"description", "expirationDate"} & updated.keys()
    assert api.state()["version"] == 3


@pytest.mark.parametrize("sdk_items", [False, True])
def test_items_are_shown_as_the_live_service_does_or_as_the_sdks_examples(api: Api, sdk_items: bool) -> None:
    """J1: a live list's items have both statuses and no ``createdVersion``; those of a write's answer have neither."""
    api.sim.configure(PRODUCT, sdk_items=sdk_items)
    [appended] = api.items(append=[{"value": "192.0.2.1"}])["appended"]
    [_, item] = api.ok("GET", f"/lists/{BLOCK}", includeItems="true")["items"]
    live = {"value", "type", "tags", "createDate", "createdBy", "updateDate", "updatedBy"}
    statuses, version = {"stagingStatus", "productionStatus"}, {"createdVersion"}
    assert appended.keys() == (live | statuses | version if sdk_items else live)
    assert item.keys() == (live | statuses | version if sdk_items else live | statuses)


def test_an_item_whose_time_is_over_stays_with_its_status(api: Api) -> None:
    """Recorded: an item that had expired five hours before was listed as ACTIVE."""
    api.items(append=[{"value": "192.0.2.1", "expirationDate": "2020-01-01T00:00:00.000+00:00"}])
    api.activate()
    assert api.status() == "ACTIVE"
    [_, item] = api.ok("GET", f"/lists/{BLOCK}", includeItems="true")["items"]
    assert item["productionStatus"] == "ACTIVE"
    assert "192.0.2.1" in api.state()["live"]["PRODUCTION"]


def test_delete_and_the_bodies_of_the_sdk(api: Api) -> None:
    """Akamai's Go SDK sends null tags and empty texts for what is not set."""
    unset = {"tags": None, "description": "", "expirationDate": ""}
    answer = api.items(append=[{"value": "192.0.2.1", **unset}], update=[], delete=[{"value": "203.0.113.7", **unset}])
    assert answer["deleted"] == [{"value": "203.0.113.7"}]
    assert answer["updated"] == []
    assert {k for k in answer["appended"][0] if k in unset} == {"tags"}
    assert api.values() == ["192.0.2.1"]


def test_expiration_date_is_kept_in_utc(api: Api) -> None:
    item = {"value": "192.0.2.1", "expirationDate": "2023-12-31T15:59:19.7-08:00"}
    assert api.items(append=[item])["appended"][0]["expirationDate"] == "2023-12-31T23:59:19.700+00:00"


@pytest.mark.parametrize(
    "body",
    [
        {"append": [{"value": "203.0.113.7"}]},
        {"append": [{"value": "203.0.113.7/32"}]},
        {"append": [{"value": "2001:db8::1"}, {"value": "2001:0DB8::0001"}]},
        {"append": [{"value": "192.0.2.1"}], "delete": [{"value": "192.0.2.1"}]},
        {"update": [{"value": "192.0.2.1"}]},
        {"delete": [{"value": "192.0.2.1"}]},
        {"append": [{"value": "evil.example"}]},
        {"append": [{"value": "192.0.2.1/33"}]},
        {"append": [{"value": ""}]},
        {"append": [{"description": "no value"}]},
        {"append": [{"value": "192.0.2.1", "expirationDate": "2026-12-26"}]},
        {"append": [{"value": "192.0.2.1", "expirationDate": "tomorrow"}]},
        {"append": [{"value": "192.0.2.1", "tags": ["a,b"]}]},
        {"append": [{"value": "192.0.2.1", "tags": "soc"}]},
        {"append": ["192.0.2.1"]},
        {"append": [], "update": [], "delete": []},
        {"add": [{"value": "192.0.2.1"}]},
    ],
)
def test_one_bad_item_refuses_the_whole_request(api: Api, body: dict[str, Any]) -> None:
    together = {**body, "append": [{"value": "192.0.2.99"}, *body["append"]]} if body.get("append") else body
    api.refused(400, "POST", f"/lists/{BLOCK}/items", together)
    assert api.values() == ["203.0.113.7"]
    assert api.state()["version"] == 1


def test_addresses_and_blocks_are_accepted_as_written(api: Api) -> None:
    values = ["192.0.2.0/24", "192.0.2.180/24", "2001:db8::/32", "2001:DB8::5"]
    answer = api.items(append=[{"value": v} for v in values])
    assert [i["value"] for i in answer["appended"]] == values


def test_a_list_of_addresses_holds_ten_thousand(api: Api) -> None:
    api.items(append=[{"value": f"10.{i >> 8}.{i & 255}.1"} for i in range(9_999)])
    assert "10000" in api.refused(400, "POST", f"/lists/{BLOCK}/items", {"append": [{"value": "192.0.2.1"}]})
    swap = {"append": [{"value": "192.0.2.1"}], "delete": [{"value": "203.0.113.7"}]}
    assert api.ok("POST", f"/lists/{BLOCK}/items", swap)["deleted"] == [{"value": "203.0.113.7"}]
    assert api.ok("GET", f"/lists/{BLOCK}")["itemsCount"] == 10_000


def test_import(api: Api) -> None:
    path = f"/lists/{BLOCK}/items/import"
    api.items(update=[{"value": "203.0.113.7", "description": "keep me"}])

    def body(action: str, version: int, *items: Any) -> dict[str, Any]:
        return {"action": action, "version": version, "items": list(items)}

    tried = api.ok("POST", path, body("MERGE", 2, "203.0.113.7", "192.0.2.1", "192.0.2.1"), dryRun="true")
    assert [item["value"] for item in tried["result"]] == ["203.0.113.7", "192.0.2.1"]
    assert (tried["itemsImported"], tried["listVersion"]) == (2, 2)
    assert api.values() == ["203.0.113.7"]

    api.ok("POST", path, body("MERGE", 2, "203.0.113.7", "192.0.2.1"))
    assert api.values() == ["203.0.113.7", "192.0.2.1"]
    assert api.state()["items"][0]["description"] == "keep me"
    assert "not the latest version 3" in api.refused(409, "POST", path, body("MERGE", 2, "192.0.2.2"))

    done = api.ok("POST", path, body("REPLACE", 3, "192.0.2.2", {"value": "192.0.2.1", "tags": ["t"]}))
    assert (done["itemsImported"], done["listVersion"]) == (2, 4)
    assert sorted(api.values()) == ["192.0.2.1", "192.0.2.2"]
    api.refused(400, "POST", path, body("APPEND", 4, "192.0.2.3"))
    api.refused(400, "POST", path, body("MERGE", 4, "not an address"))
    assert api.state()["version"] == 4


def test_validation(api: Api) -> None:
    body = {"listType": "IP", "items": ["192.0.2.1", "evil.example"]}
    answer = api.ok("POST", "/lists/items/import/validation", body)
    assert (answer["valid"], answer["importedCount"]) == (False, 1)
    assert [e["item"] for e in answer["errors"]] == ["evil.example"]


def test_versions(api: Api) -> None:
    api.items(append=[{"value": "192.0.2.1"}], delete=[{"value": "203.0.113.7"}])
    for version, value in ((1, "203.0.113.7"), (2, "192.0.2.1")):
        page = api.ok("GET", f"/lists/{BLOCK}/versions/{version}/snapshot")
        assert [i["value"] for i in page["content"]] == [value]
    api.refused(404, "GET", f"/lists/{BLOCK}/versions/3/snapshot")


# -- activations ---------------------------------------------------------------------------------------------------


def test_a_second_activation_while_one_is_pending_is_a_conflict(slow: Api) -> None:
    path, body = f"/lists/{BLOCK}/activations", {"action": "ACTIVATE", "network": "PRODUCTION"}
    first = slow.activate()["activationId"]
    slow.items(append=[{"value": "192.0.2.1"}])
    slow.refused(409, "POST", path, body)
    assert slow.activate("STAGING")["activationStatus"] == "PENDING_ACTIVATION"
    slow.later(301)
    assert slow.status() == "MODIFIED", "the pending activation carried the version of its own time"
    assert slow.state()["live"]["PRODUCTION"] == ["203.0.113.7"]
    second = slow.ok("POST", path, body)
    assert (second["activationId"] > first, second["version"]) == (True, 2)


def test_both_networks_at_once_can_be_forbidden(slow: Api) -> None:
    slow.sim.configure(PRODUCT, pending_blocks_both_networks=True)
    slow.activate("STAGING")
    slow.refused(409, "POST", f"/lists/{BLOCK}/activations", {"action": "ACTIVATE", "network": "PRODUCTION"})


def test_activation_by_the_newer_path(api: Api) -> None:
    """J2: it answers by network. Members as recorded of the live service, 2026-02."""
    body = {"action": "ACTIVATE", "network": "STAGING", "comments": "c", "notificationRecipients": ["soc@soc.example"]}
    answer = api.call("POST", f"/lists/{BLOCK}/activations", body, version="v2")
    assert answer.status_code == 200
    made = answer.json()
    assert made.keys() == {"action", "activations", "createDate", "createdBy", "listId", "version"}
    assert made["activations"] == {"STAGING": {"activationId": 961, "activationStatus": "PENDING_ACTIVATION"}}
    assert api.status("STAGING") == "ACTIVE"
    assert api.status("PRODUCTION") == "INACTIVE"


def test_only_the_first_activation_of_a_network_is_initial(api: Api) -> None:
    first, _, second = api.activate(), api.status(), api.activate()
    assert (first["fast"], first["initialActivation"]) == (False, True)
    assert second["fast"] is True
    assert "initialActivation" not in second


def test_a_failed_activation_leaves_the_edge_alone(api: Api) -> None:
    api.activate()
    assert api.status() == "ACTIVE"
    api.items(append=[{"value": "192.0.2.1"}])
    api.sim.configure(PRODUCT, activation_outcome="FAILED")
    failed = api.activate()["activationId"]
    assert api.ok("GET", f"/activations/{failed}")["activationStatus"] == "FAILED"
    assert api.status() == "FAILED"
    assert api.state()["live"]["PRODUCTION"] == ["203.0.113.7"]
    api.sim.configure(PRODUCT, activation_outcome="ACTIVE")
    api.activate()
    assert api.status() == "ACTIVE"


def test_deactivation(slow: Api) -> None:
    path, body = f"/lists/{BLOCK}/activations", {"action": "DEACTIVATE", "network": "PRODUCTION"}
    slow.refused(400, "POST", path, body)
    slow.activate()
    slow.later(301)
    assert slow.status() == "ACTIVE"
    gone = slow.ok("POST", path, body)
    assert gone["activationStatus"] == slow.status() == "PENDING_DEACTIVATION"
    items = slow.ok("GET", f"/lists/{BLOCK}/items")["content"]
    assert [i["productionStatus"] for i in items] == ["PENDING_DEACTIVATION"]
    slow.refused(409, "POST", path, {**body, "action": "ACTIVATE"})
    slow.later(301)
    assert slow.status() == "INACTIVE"
    assert slow.ok("GET", f"/activations/{gone['activationId']}")["activationStatus"] == "DEACTIVATED"
    assert slow.state()["live"]["PRODUCTION"] is None


def test_a_list_in_use_cannot_be_deactivated(api: Api) -> None:
    entry = {"listId": BLOCK, "name": "Block", "type": "IP", "items": ["203.0.113.7"], "usage": [USAGE]}
    api.sim.seed(PRODUCT, {"lists": [{**entry, "version": 66, "productionActivationStatus": "ACTIVE"}]})
    assert api.status() == "ACTIVE"
    assert api.state()["live"] == {"STAGING": None, "PRODUCTION": ["203.0.113.7"]}
    body = {"action": "DEACTIVATE", "network": "PRODUCTION"}
    detail = api.refused(403, "POST", f"/lists/{BLOCK}/activations", body)
    assert detail == "Only not used client list are allowed to be deactivated"


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"network": "PROD"}, "Validation failed: Invalid network"),
        ({"network": None}, "Missing field: network"),
        ({"action": "activate"}, "Validation failed: Invalid action"),
        ({"notificationRecipients": ["nobody"]}, "Validation failed: Invalid notificationRecipients"),
    ],
)
def test_bad_activations(api: Api, changes: dict[str, Any], detail: str) -> None:
    body = {"action": "ACTIVATE", "network": "PRODUCTION", **changes}
    assert api.refused(400, "POST", f"/lists/{BLOCK}/activations", body) == detail
    assert api.sim.state(PRODUCT)["activations"] == []


def test_no_more_active_lists_than_the_account_may_have(api: Api) -> None:
    api.sim.configure(PRODUCT, max_active_lists=1)
    other = {"listId": "1_O", "name": "O", "type": "IP", "productionActivationStatus": "ACTIVE"}
    api.sim.seed(PRODUCT, {"lists": [other]})
    api.refused(400, "POST", f"/lists/{BLOCK}/activations", {"action": "ACTIVATE", "network": "PRODUCTION"})


# -- limits and faults ---------------------------------------------------------------------------------------------


def test_rate_limit(api: Api) -> None:
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    api.sim.configure(PRODUCT, rate_limit=2, rate_window_seconds=30, timestamp_window_seconds=None)
    requests.post(api.sim.url + "/_sim/clock", json={"now": now.isoformat()}, timeout=10)
    answers = [api.call("GET", "/lists") for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert [a.headers["X-RateLimit-Remaining"] for a in answers] == ["1", "0", "0"]
    assert {a.headers["X-RateLimit-Limit"] for a in answers} == {"2"}
    assert "X-RateLimit-Next" not in answers[1].headers
    opens = datetime.fromisoformat(answers[2].headers["X-RateLimit-Next"])
    assert opens >= now + timedelta(seconds=30)
    assert answers[2].json()["title"] == "Too Many Requests"
    api.later((opens - now).total_seconds() + 1)
    assert api.call("GET", "/lists").status_code == 200


def test_faults(api: Api) -> None:
    path = f"/lists/{BLOCK}/items"
    api.sim.fault(PRODUCT, "status", status=429, headers={"X-RateLimit-Next": "2026-03-01T12:00:30Z"})
    answer = api.call("GET", path)
    assert (answer.status_code, answer.headers["X-RateLimit-Next"]) == (429, "2026-03-01T12:00:30Z")
    assert answer.json()["type"].endswith("/client-list/error-types/TOO-MANY-REQUESTS")

    api.sim.fault(PRODUCT, "html", status=502)
    answer = api.call("GET", path)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (502, "text/html")

    api.sim.fault(PRODUCT, "empty", key="content")
    page = api.ok("GET", path)
    assert (page["content"], page["totalElements"]) == ([], 1)

    api.sim.fault(PRODUCT, "truncate", method="POST")
    answer = api.call("POST", path, {"append": [{"value": "192.0.2.1"}]})
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert "192.0.2.1" in api.values(), "the write happened, only its answer was lost"

    api.sim.fault(PRODUCT, "status", status=500, method="POST")
    assert api.refused(500, "POST", path, {"append": [{"value": "192.0.2.2"}]})
    assert "192.0.2.2" not in api.values()


def test_seed_refuses_what_the_vendor_would(api: Api) -> None:
    data = {"lists": [{"listId": "1_X", "name": "X", "type": "IP", "items": ["evil.example"]}]}
    assert requests.post(f"{api.sim.url}/_sim/{PRODUCT}/seed", json=data, timeout=10).status_code == 400


# -- the vendor's recorded answers ---------------------------------------------------------------------------------


def sample(command: str) -> Any:
    path = SAMPLES / f"Akamai.ClientLists__{command}.json"
    if not path.is_file():
        pytest.skip("needs ../shared/specs/akamai/recorded-samples, not present")
    return json.loads(path.read_text())


def same_members(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same_members(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list):
        return isinstance(ours, list) and (not ours or not theirs or same_members(ours[0], theirs[0]))
    return type(ours) is type(theirs)


def test_activation_has_the_recorded_members(api: Api) -> None:
    api.activate()
    assert api.status() == "ACTIVE"
    body = {
        "action": "ACTIVATE",
        "network": "PRODUCTION",
        "comments": "c",
        "siebelTicketId": "t",
        "notificationRecipients": ["soc@soc.example"],
    }
    made = api.call("POST", f"/lists/{BLOCK}/activations", body)
    recorded = sample("New-ClientListActivation")
    assert made.status_code == recorded["Status"]
    assert same_members(made.json(), recorded["Body"])
    assert {name.lower() for name in recorded["Headers"]} <= {name.lower() for name in made.headers}
    read = api.ok("GET", f"/activations/{made.json()['activationId']}")
    assert same_members(read, sample("Get-ClientListActivation")["Body"])
    environment = api.ok("GET", f"/lists/{BLOCK}/environments/PRODUCTION/status")
    assert same_members(environment, sample("Get-ClientListActivationStatus")["Body"])
    gone = api.activate(action="DEACTIVATE")
    assert same_members(gone, sample("New-ClientListDeactivation")["Body"])


def test_snapshot_and_usage_have_the_recorded_members(api: Api) -> None:
    item = {"value": "192.0.2.1", "description": "d", "tags": ["t"], "expirationDate": EXPIRES}
    entry = {"listId": BLOCK, "name": "Block", "type": "IP", "items": [item], "usage": [USAGE]}
    api.sim.seed(PRODUCT, {"lists": [entry]})
    snapshot = api.ok("GET", f"/lists/{BLOCK}/versions/1/snapshot")
    assert same_members(snapshot, sample("Get-ClientListSnapshot")["Body"])
    assert snapshot["pageSize"] == sample("Get-ClientListSnapshot")["Body"]["pageSize"]
    usage = api.ok("GET", f"/lists/{BLOCK}/usage")
    assert same_members(usage, sample("Get-ClientListUsage")["Body"])
