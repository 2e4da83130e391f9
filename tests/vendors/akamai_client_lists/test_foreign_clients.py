"""
What other people's clients send to Client Lists, request by request, signed by Akamai's own signer: the simulator takes
what the live service takes (J3). Whether *our* requests are as they should be is judged from the call log instead.

Sources: akamai/PowerShell ``tests/Akamai.ClientLists.tests.ps1`` (its section "Safe" runs against the live service) and
``src/Akamai.ClientLists``; chronicle/content-hub ``google/akamai_integration``; demisto/content ``Akamai_WAF``;
Akamai's Terraform provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import SimServer, start_simulators
from tests.vendors.akamai_client_lists.test_simulator import BLOCK, PRODUCT, Api

#: Unicode of every kind, as a recorded list has it in tags and descriptions.
ANYTHING = "⼋₿⛭→™ 😀🌍 $%#FYĐđצקЊกฃアィԱԳ"


@pytest.fixture(scope="module")
def _server() -> Iterator[SimServer]:
    server = start_simulators([PRODUCT])
    yield server
    server.stop()


@pytest.fixture
def api(_server: SimServer) -> Iterator[Api]:
    _server.world.reset()
    lists = [{"listId": BLOCK, "name": "Block", "type": "IP", "items": ["203.0.113.7", "203.0.113.8"]}]
    _server.seed(PRODUCT, {"lists": lists})
    api = Api(_server)
    yield api
    api.session.close()


def test_powershell_reads_a_single_list_with_a_lists_parameters(api: Api) -> None:
    """Get-ClientList -ListID"""
    query = {"includeItems": "false", "includeDeprecated": "false", "pageSize": 1000, "includeNetworkList": "false"}
    found = api.ok("GET", f"/lists/{BLOCK}", **query)
    assert (found["listId"], "items" in found) == (BLOCK, False)
    assert api.ok("GET", "/lists", **query, name="Block")["content"][0]["listId"] == BLOCK


def test_powershell_sends_items_back_as_it_got_them(api: Api) -> None:
    """Set-ClientListItem, Remove-ClientListItem"""
    items = api.ok("GET", f"/lists/{BLOCK}/items", pageSize=1000)["content"]
    assert {"type", "createDate", "productionStatus"} <= items[0].keys()
    updated = api.items(update=items)["updated"]
    assert [item["value"] for item in updated] == ["203.0.113.7", "203.0.113.8"]
    assert api.items(delete=items[:1])["deleted"] == [{"value": "203.0.113.7"}]
    assert api.values() == ["203.0.113.8"]


def test_powershell_imports_and_checks_items(api: Api) -> None:
    """Import-ClientListItem, Test-ClientListItem, Get-ClientListTag"""
    path = f"/lists/{BLOCK}/items/import"
    body = {"items": ["192.0.2.3", "192.0.2.4"], "action": "MERGE", "version": "1"}
    done = api.ok("POST", path, body, dryRun="False")
    assert [item["value"] for item in done["result"]] == ["192.0.2.3", "192.0.2.4"]
    assert (done["itemsImported"], done["listVersion"]) == (2, 2)
    checked = api.ok("POST", "/lists/items/import/validation", {"items": body["items"], "listType": "IP"})
    assert checked["importedCount"] == 2


def test_the_whole_safe_section_of_powershells_live_tests(api: Api) -> None:
    """In its order, with its values; what it asserts on the answers is asserted here."""
    base = {"type": "IP", "contractId": "C-0N7RAC7", "groupId": 12345}
    first = api.ok("POST", "/lists", base | {"name": "testing1", "notes": "PowerShell pester testing"}, status=201)
    second = api.ok("POST", "/lists", base | {"name": "testing2"}, status=201)
    one = f"/lists/{first['listId']}"
    assert api.ok("GET", "/lists", name="testing2", includeItems="false")["content"][0]["listId"] == second["listId"]
    assert api.ok("PUT", one, {"name": "testing1"})["listId"] == first["listId"]
    assert api.ok("PUT", f"/lists/{second['listId']}", second)["listId"] == second["listId"]

    csv = "value,description,tags,expirationDate\n1.1.1.1,testing,powershell,\n2.2.2.2,testing,powershell,\n"
    done = send_file(api, f"{one}/items/import-file", csv, action="MERGE", version="1")
    assert [item["value"] for item in done["result"]] == ["1.1.1.1", "2.2.2.2"]
    more = {"items": ["3.3.3.3", "4.4.4.4"], "action": "MERGE", "version": str(done["listVersion"])}
    assert api.ok("POST", f"{one}/items/import", more, dryRun="False")["itemsImported"] == 2
    items = api.ok("GET", f"{one}/items", pageSize=1000)["content"]
    assert (len(items), items[0]["type"], items[0]["tags"]) == (4, "IP", ["powershell"])
    for _ in range(2):
        assert len(api.ok("POST", f"{one}/items", {"update": items})["updated"]) == 4
    assert api.ok("POST", f"{one}/items", {"delete": items[:1]})["deleted"][0]["value"] == items[0]["value"]

    checked = send_file(api, "/lists/items/import-file/validation", csv, action="", listType="IP")
    assert checked["importedCount"] == 2
    assert api.ok("GET", "/lists/tags")["tags"]
    for name in (first["listId"], second["listId"]):
        assert api.call("DELETE", f"/lists/{name}").status_code == 204


def send_file(api: Api, path: str, csv: str, **fields: str) -> Any:
    """A form as Import-ClientListItem writes it: lines end in LF only."""
    parts = [f'Content-Disposition: form-data; name="file"; filename="cl.csv"\n\n{csv}']
    parts += [f'Content-Disposition: form-data; name="{name}"\n\n{value}' for name, value in fields.items()]
    body = "".join(f"--AKAMAIPOWERSHELL\n{part}\n" for part in parts) + "--AKAMAIPOWERSHELL--"
    headers = {"Content-Type": "multipart/form-data; boundary=AKAMAIPOWERSHELL"}
    url = f"{api.sim.url}/client-list/v1{path}"
    answer = api.session.post(url, data=body.encode(), headers=headers, params={"dryRun": "False"}, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_powershell_and_xsoar_ask_for_contracts(api: Api) -> None:
    """Get-ClientListContractsGroups, akamai-get-contract-group"""
    assert api.ok("GET", "/contracts-groups")[0]["contractId"] == "C-0N7RAC7"


def test_powershell_deactivates_without_a_network(api: Api) -> None:
    """New-ClientListDeactivation"""
    for network in ("STAGING", "PRODUCTION"):
        api.activate(network)
        assert api.status(network) == "ACTIVE"
    answer = api.call("POST", f"/lists/{BLOCK}/activations", {"action": "DEACTIVATE"}, version="v2")
    assert answer.status_code == 200
    assert answer.json()["activations"].keys() == {"STAGING", "PRODUCTION"}
    assert [api.status(network) for network in ("STAGING", "PRODUCTION")] == ["INACTIVE", "INACTIVE"]
    nothing = api.call("POST", f"/lists/{BLOCK}/activations", {"action": "DEACTIVATE"}, version="v2")
    assert nothing.status_code == 400


def test_google_secops_finds_appends_removes_and_activates(api: Api) -> None:
    found = api.ok("GET", "/lists", name="Block", includeItems="False")["content"]
    assert [(entry["listId"], "items" in entry) for entry in found] == [(BLOCK, False)]
    members = {"availableActions", "rollbackPossible", "upgradedFromNetworkList", "productionActivationStatus"}
    assert members <= found[0].keys()
    items = [{"value": "192.0.2.9", "description": ANYTHING, "tags": [ANYTHING, "b"], "expirationDate": ""}]
    assert api.items(append=items)["appended"][0]["tags"] == [ANYTHING, "b"]
    problem = api.call("POST", f"/lists/{BLOCK}/items", {"append": items}).json()
    assert (problem["title"], problem["detail"]) == (
        "Invalid Input Error",
        "Cannot add item 192.0.2.9. Already exists",
    )
    absent = {"delete": [{"value": "192.0.2.250"}]}
    detail = api.refused(400, "POST", f"/lists/{BLOCK}/items", absent)
    assert detail == "Items to delete with values '192.0.2.250' not found."
    assert api.items(delete=[{"value": "192.0.2.9"}])["deleted"] == [{"value": "192.0.2.9"}]
    body = {"action": "ACTIVATE", "network": "PRODUCTION", "comments": "", "notificationRecipients": []}
    made = api.call("POST", f"/lists/{BLOCK}/activations", body, version="v2").json()
    assert made["activations"]["PRODUCTION"]["activationStatus"] == "PENDING_ACTIVATION"


@pytest.mark.parametrize("extra", [{"type": "IP"}, {"type": "IP", "note": "unknown to the service"}])
def test_bots_append_with_a_type(api: Api, extra: dict[str, str]) -> None:
    [item] = api.items(append=[{"value": "192.0.2.9", **extra}])["appended"]
    assert (item["value"], item["type"]) == ("192.0.2.9", "IP")


def test_xsoar_sends_null_for_what_is_not_set(api: Api) -> None:
    entry = {"value": "192.0.2.9", "description": None, "expirationDate": None, "tags": []}
    api.ok("POST", f"/lists/{BLOCK}/items", {"append": [entry]})
    body = {
        "action": "ACTIVATE",
        "network": "STAGING",
        "comments": None,
        "notificationRecipients": None,
        "siebelTicketId": None,
    }
    assert api.ok("POST", f"/lists/{BLOCK}/activations", body)["activationStatus"] == "PENDING_ACTIVATION"
    assert api.ok("GET", f"/lists/{BLOCK}/environments/STAGING/status")["activationStatus"] == "ACTIVE"
    api.ok("POST", f"/lists/{BLOCK}/items", {"delete": [{"value": "192.0.2.9"}]})


@pytest.mark.parametrize(("kind", "item_kind"), [("USER", "USER_ID"), ("USER_ID", "USER_ID"), ("DOMAIN", "DOMAIN")])
def test_terraform_makes_lists_of_newer_types(api: Api, kind: str, item_kind: str) -> None:
    body: dict[str, Any] = {
        "contractId": "C-0N7RAC7",
        "groupId": 12345,
        "name": "Newer",
        "type": kind,
        "notes": "",
        "tags": [],
        "items": [{"value": "someone", "description": "", "tags": [], "expirationDate": ""}],
    }
    made = api.ok("POST", "/lists", body, status=201)
    assert (made["type"], made["items"][0]["type"]) == (kind, item_kind)
    assert api.ok("GET", "/lists", type=[kind, "IP"])["totalElements"] == 2
