"""The MISP simulator, driven by PyMISP where it has a call, and by plain HTTP where it has none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pymisp
import pytest
import requests

from tests.conftest import ROOT
from tests.support import SimServer, start_simulators

KEY = "demo-misp-authentication-key"
EVENT = {
    "info": "Credential stuffing against APIs",
    "date": "2026-11-20",
    "threat_level_id": "1",
    "timestamp": "1795132800",  # 2026-11-20
    "Tag": [
        {"name": "tlp:amber"},
        {"name": 'misp-galaxy:mitre-attack-pattern="Credential Stuffing - T1110.004"'},
    ],
    "Attribute": [
        {"type": "ip-src", "value": "203.0.113.7", "to_ids": True, "Tag": [{"name": "kill-chain:Delivery"}]},
        {"type": "ip-dst|port", "value": "203.0.113.8|443", "to_ids": True},
        {"type": "domain|ip", "value": "Evil.example|203.0.113.9", "to_ids": True},
        {"type": "ip-dst", "value": "203.0.113.10", "to_ids": False},
        {"type": "url", "value": "https://evil.example/login", "to_ids": True},
    ],
}
DRAFT = {
    "info": "still being written",
    "published": False,
    "timestamp": "1790000000",  # 2026-09-21
    "Attribute": [{"type": "ip-src", "value": "198.51.100.1", "to_ids": True}],
}


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["misp"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock("2026-11-24T12:00:00Z")
    server.seed("misp", {"events": [EVENT, {"Event": DRAFT}]})
    return server


@pytest.fixture
def misp(sim: SimServer) -> Any:
    return pymisp.PyMISP(sim.url, KEY)


def values(found: Any) -> list[str]:
    return [attribute["value"] for attribute in found["Attribute"]]


def search(sim: SimServer, body: Any, key: str = KEY, **headers: str) -> requests.Response:
    wanted = {"Authorization": key, "Accept": "application/json", "Content-Type": "application/json", **headers}
    return requests.post(
        f"{sim.url}/attributes/restSearch", data=json.dumps(body), headers=wanted, timeout=10, allow_redirects=False
    )


def test_pymisp_connects_and_reads_attributes_as_its_own_objects(misp: Any) -> None:
    assert misp.misp_instance_version["version"] == "2.5.34"
    found = misp.search(
        "attributes", value=["203.0.113.7"], to_ids=1, include_event_tags=True, include_context=True, pythonify=True
    )
    (attribute,) = found
    assert (attribute.type, attribute.value, attribute.to_ids) == ("ip-src", "203.0.113.7", True)
    assert [tag.name for tag in attribute.tags] == [
        "kill-chain:Delivery",
        "tlp:amber",
        'misp-galaxy:mitre-attack-pattern="Credential Stuffing - T1110.004"',
    ]
    assert str(attribute.Event["threat_level_id"]) == "1"


def test_a_list_is_any_of_its_values_in_either_half_and_whatever_the_case(misp: Any) -> None:
    found = misp.search("attributes", value=["203.0.113.8", "443", "EVIL.EXAMPLE", "192.0.2.99"])
    assert values(found) == ["203.0.113.8|443", "Evil.example|203.0.113.9"]
    assert misp.search("attributes", value=["192.0.2.99"]) == {"Attribute": []}


def test_what_a_value_means_besides_itself(misp: Any) -> None:
    assert values(misp.search("attributes", value=["https://evil%"])) == ["https://evil.example/login"]
    assert values(misp.search("attributes", value=["http%login"])) == []  # in the middle it is itself
    assert "203.0.113.7" not in values(misp.search("attributes", value=["!203.0.113.7"]))
    assert values(misp.search("attributes", value="203.0.113.7&&203.0.113.10")) == ["203.0.113.7", "203.0.113.10"]


def test_filters(misp: Any) -> None:
    assert "203.0.113.10" not in values(misp.search("attributes", to_ids=1))
    assert values(misp.search("attributes", to_ids=0)) == ["203.0.113.10"]
    assert values(misp.search("attributes", published=False)) == ["198.51.100.1"]
    assert values(misp.search("attributes", type_attribute=["url", "domain|ip"])) == [
        "Evil.example|203.0.113.9",
        "https://evil.example/login",
    ]
    assert "198.51.100.1" not in values(misp.search("attributes", publish_timestamp="7d"))
    assert "198.51.100.1" in values(misp.search("attributes", publish_timestamp="90d"))
    assert values(misp.search("attributes", tags=["kill-chain:Delivery"])) == ["203.0.113.7"]
    assert len(values(misp.search("attributes", tags=["tlp:%"]))) == 5


def test_the_warning_lists_shorten_a_page_after_it_was_cut(misp: Any, sim: SimServer) -> None:
    sim.seed("misp", {"warninglist": ["203.0.113.7", "203.0.113.8/31"]})
    assert misp.search("attributes", limit=2, page=1, enforce_warninglist=True) == {"Attribute": []}
    # The first half of the composite is not warned of, the second one is.
    assert values(misp.search("attributes", limit=2, page=2, enforce_warninglist=True)) == ["203.0.113.10"]
    body = {"returnFormat": "json", "limit": 2, "page": 1, "enforceWarninglist": 1}
    headers = search(sim, body).headers
    assert (headers["X-Result-Count"], headers["X-Skipped-Elements-Count"]) == ("0", "2")
    sim.configure("misp", tells_skipped=False)
    assert "X-Skipped-Elements-Count" not in search(sim, body).headers


def test_a_wrong_key_is_403_and_pymisp_says_so(sim: SimServer) -> None:
    with pytest.raises(pymisp.PyMISPError, match=r"403.*Authentication failed"):
        pymisp.PyMISP(sim.url, "another-key")
    answer = search(sim, {}, key="another-key")
    assert (answer.status_code, answer.json()["url"]) == (403, "/attributes/restSearch")
    assert answer.json()["message"].startswith("Authentication failed.")
    assert search(sim, {}, key="", **{"X-MISP-AUTH": KEY}).status_code == 200


def test_refusals(sim: SimServer) -> None:
    assert search(sim, {"value": ["203.0.113.7"], "valeu": 1}).status_code == 400
    assert search(sim, []).status_code == 400
    assert search(sim, {"returnFormat": "nothing"}).status_code == 404
    assert search(sim, {}, Accept="text/html").headers["Location"] == "/users/login"
    sim.configure("misp", role_may_search=False)
    assert search(sim, {}).status_code == 405


def test_a_role_s_limit(sim: SimServer) -> None:
    sim.configure("misp", searches_per_quarter_hour=2)
    assert [search(sim, {"limit": 1}).headers["X-Rate-Limit-Remaining"] for _ in range(2)] == ["1", "0"]
    spent = search(sim, {"limit": 1})
    assert spent.status_code == 429
    assert 890 <= int(spent.headers["X-Rate-Limit-Reset"]) <= 900
    requests.post(f"{sim.url}/_sim/clock", json={"advance_seconds": 901}, timeout=10).raise_for_status()
    assert search(sim, {"limit": 1}).status_code == 200


def test_real_events(sim: SimServer, misp: Any) -> None:
    folder = ROOT.parent / "shared/data/eset"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/eset, not present")
    files = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    events = [event for file in files for event in file.get("response", [file])]
    sim.world.simulators["misp"].clear()
    sim.seed("misp", {"events": events})
    found = misp.search("attributes", type_attribute="sha1", include_event_tags=True, pythonify=True)
    assert len(found) > 10
    assert any("T1190" in tag.name for attribute in found for tag in attribute.tags)
