"""The TAXII simulator, driven by OASIS' own client where it has a call, and by plain HTTP where it has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import taxii2client.v21 as client
from requests.exceptions import HTTPError

from tests.support import SimServer, start_simulators

USER, PASSWORD = "demo-reader", "demo-taxii-password"
ACCEPT = "application/taxii+json;version=2.1"
BOX, CLOSED = "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "64993447-4d7e-4f70-b94d-d7f33742ee63"
OBJECTS = f"/taxii2/intel/collections/{BOX}/objects/"


def indicator(number: int, *, minute: int, modified: str = "2026-11-20T00:00:00.000Z") -> dict[str, Any]:
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--00000000-0000-4000-8000-{number:012d}",
        "created": "2026-11-20T00:00:00.000Z",
        "modified": modified,
        "pattern": f"[ipv4-addr:value = '203.0.113.{number}']",
        "pattern_type": "stix",
        "valid_from": "2026-11-20T00:00:00Z",
        "_date_added": f"2026-11-21T00:{minute:02d}:00Z",
    }


SEED = {
    "title": "Intelligence",
    "roots": {
        "intel": {
            "title": "Shared",
            "collections": [
                {
                    "id": BOX,
                    "title": "Box",
                    "can_write": True,
                    "objects": [
                        indicator(1, minute=1),
                        indicator(2, minute=2),
                        {
                            **indicator(3, minute=3),
                            "type": "malware",
                            "id": "malware--00000000-0000-4000-8000-000000000003",
                        },
                        indicator(1, minute=4, modified="2026-11-21T00:00:00.000Z"),
                    ],
                },
                {"id": CLOSED, "title": "Closed", "can_read": False},
            ],
        },
        "other": {"title": "Empty"},
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["taxii"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    clock(server, now="2026-11-24T12:00:00Z")
    server.seed("taxii", SEED)
    return server


def clock(sim: SimServer, **change: Any) -> None:
    requests.post(f"{sim.url}/_sim/clock", json=change, timeout=10).raise_for_status()


@pytest.fixture
def box(sim: SimServer) -> Any:
    return client.Collection(f"{sim.url}/taxii2/intel/collections/{BOX}/", user=USER, password=PASSWORD)


def get(sim: SimServer, path: str = OBJECTS, accept: str = ACCEPT, **options: Any) -> requests.Response:
    options = {"auth": (USER, PASSWORD), **options}
    return requests.get(sim.url + path, headers={"Accept": accept}, timeout=10, **options)


def last_digits(envelope: dict[str, Any]) -> list[int]:
    return [int(stix["id"][-2:]) for stix in envelope.get("objects", [])]


def test_discovery(sim: SimServer) -> None:
    server = client.Server(f"{sim.url}/taxii2/", user=USER, password=PASSWORD)
    assert (server.title, [root.title for root in server.api_roots]) == ("Intelligence", ["Shared", "Empty"])
    assert server.default.url == f"{sim.url}/taxii2/intel/"
    assert [(c.title, c.can_read, c.can_write) for c in server.default.collections] == [
        ("Box", True, True),
        ("Closed", False, False),
    ]
    assert server.api_roots[1].collections == []


def test_the_newest_version_of_each_object_in_the_order_of_adding(box: Any) -> None:
    assert last_digits(box.get_objects()) == [2, 3, 1]
    assert last_digits(box.get_objects(version="all")) == [1, 2, 3, 1]
    assert last_digits(box.get_objects(version="first")) == [1, 2, 3]
    assert last_digits(box.get_objects(type="malware")) == [3]
    assert last_digits(box.get_objects(type="malware,indicator", added_after="2026-11-21T00:02:00Z")) == [3, 1]


def test_pages(box: Any, sim: SimServer) -> None:
    pages = list(client.as_pages(box.get_objects, per_request=2, version="all"))
    assert [last_digits(page) for page in pages] == [[1, 2], [3, 1]]
    assert [page["more"] for page in pages] == [True, False]
    sim.configure("taxii", max_page_size=1)
    assert [last_digits(page) for page in client.as_pages(box.get_objects, per_request=9)] == [[2], [3], [1]]


def test_a_page_s_headers_tell_when_its_objects_were_added(sim: SimServer) -> None:
    headers = get(sim, params={"limit": 2}).headers
    assert headers["X-TAXII-Date-Added-First"] == "2026-11-21T00:02:00.000000Z"
    assert headers["X-TAXII-Date-Added-Last"] == "2026-11-21T00:03:00.000000Z"
    assert headers["Content-Type"] == ACCEPT
    nothing = get(sim, params={"added_after": "2026-11-22T00:00:00Z"})
    assert (nothing.json(), "X-TAXII-Date-Added-Last" in nothing.headers) == ({}, False)


def test_a_server_that_pages_by_time_gives_no_next(sim: SimServer) -> None:
    sim.configure("taxii", pages_by="added_after")
    first = get(sim, params={"limit": 2})
    assert (first.json()["more"], "next" in first.json()) == (True, False)
    rest = get(sim, params={"limit": 2, "added_after": first.headers["X-TAXII-Date-Added-Last"]})
    assert (last_digits(rest.json()), rest.json()["more"]) == ([1], False)


def test_next_holds_for_its_own_query_only(sim: SimServer) -> None:
    token = get(sim, params={"limit": 1, "match[type]": "indicator"}).json()["next"]
    assert get(sim, params={"limit": 1, "match[type]": "indicator", "next": token}).status_code == 200
    assert get(sim, params={"limit": 1, "next": token}).status_code == 400
    assert get(sim, params={"next": "99"}).status_code == 400


def test_one_object_its_versions_and_the_manifest(box: Any) -> None:
    id_ = indicator(1, minute=1)["id"]
    assert box.get_object(id_)["objects"][0]["modified"] == "2026-11-21T00:00:00.000Z"
    assert box.object_versions(id_)["versions"] == ["2026-11-20T00:00:00.000Z", "2026-11-21T00:00:00.000Z"]
    entries = box.get_manifest(type="indicator")["objects"]
    assert [(entry["id"][-2:], entry["date_added"]) for entry in entries] == [
        ("02", "2026-11-21T00:02:00.000000Z"),
        ("01", "2026-11-21T00:04:00.000000Z"),
    ]


def test_adding_and_deleting(box: Any, sim: SimServer) -> None:
    new = {k: v for k, v in indicator(9, minute=0).items() if k != "_date_added"}
    assert box.add_objects({"objects": [new]}).status == "complete"
    assert last_digits(box.get_objects(added_after="2026-11-24T00:00:00Z")) == [9]
    box.delete_object(new["id"])
    assert last_digits(box.get_objects()) == [2, 3, 1]
    refused = requests.post(sim.url + OBJECTS, json={"objects": []}, auth=(USER, PASSWORD), timeout=10)
    assert refused.status_code == 415


def test_an_object_is_not_there_before_its_time(box: Any, sim: SimServer) -> None:
    clock(sim, now="2026-11-21T00:02:30Z")
    assert last_digits(box.get_objects()) == [1, 2]


def test_refusals(box: Any, sim: SimServer) -> None:
    stranger = get(sim, "/taxii2/", auth=("demo-reader", "wrong"))
    assert (stranger.status_code, stranger.headers["WWW-Authenticate"]) == (
        401,
        'Basic realm="Authentication Required"',
    )
    assert stranger.json()["http_status"] == "401"
    assert get(sim, accept="application/json").status_code == 406
    assert get(sim, accept="application/vnd.oasis.taxii+json; version=2.0").status_code == 406
    assert get(sim, f"/taxii2/intel/collections/{CLOSED}/objects/").status_code == 403
    assert get(sim, "/taxii2/intel/collections/none/objects/").status_code == 404
    assert get(sim, "/taxii2/none/").status_code == 404
    assert get(sim, params={"match[typ]": "x"}).status_code == 400
    assert get(sim, params={"limit": "0"}).status_code == 400
    assert get(sim, params={"added_after": "yesterday"}).status_code == 400
    with pytest.raises(HTTPError):
        client.Collection(box.url, user=USER, password="wrong").get_objects()


@pytest.mark.parametrize(
    ("knobs", "headers"),
    [
        ({"auth": "bearer"}, {"Authorization": "Bearer demo-taxii-key"}),
        ({"auth": "header", "key_header": "X-Key"}, {"X-Key": "demo-taxii-key"}),
        ({"auth": "none"}, {}),
    ],
)
def test_other_ways_to_say_who_one_is(sim: SimServer, knobs: dict[str, str], headers: dict[str, str]) -> None:
    sim.configure("taxii", **knobs)
    answer = requests.get(f"{sim.url}/taxii2/", headers={"Accept": ACCEPT, **headers}, timeout=10)
    assert answer.status_code == 200
    assert get(sim, "/taxii2/").status_code == (200 if knobs["auth"] == "none" else 401)


def test_odd_servers(sim: SimServer) -> None:
    sim.configure("taxii", roots_at="http://inner.example:9000", default_root=None, whole_seconds=True)
    discovery = get(sim, "/taxii2/").json()
    assert discovery["api_roots"][0] == "http://inner.example:9000/taxii2/intel/"
    assert "default" not in discovery
    late = {**indicator(8, minute=5), "_date_added": "2026-11-21T00:05:00.900Z"}
    sim.seed("taxii", {"roots": {"intel": {"collections": [{"id": BOX, "title": "Box", "objects": [late]}]}}})
    assert get(sim).headers["X-TAXII-Date-Added-Last"] == "2026-11-21T00:05:00.000000Z"
