"""The end of the session judges every request that our clients sent; here is that it can."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.published import Absent, Judge, Requests, judges, problems
from tests.support import SimServer, start_simulators

GOOD: dict[str, dict[str, Any]] = {
    "crowdstrike_falcon": {
        "method": "POST",
        "path": "/iocs/entities/indicators/v1",
        "query": [],
        "body": {"comment": "c", "indicators": [{"type": "ipv4", "value": "198.51.100.7", "applied_globally": True}]},
    },
    "akamai_sia": {
        "method": "POST",
        "path": "/etp-report/v3/configs/41041/threat-events/details",
        "query": [["accountSwitchKey", "x"]],
        "body": {
            "startTimeSec": 1,
            "endTimeSec": 2,
            "orderBy": "ASC",
            "pageNumber": 1,
            "pageSize": 5000,
            "filters": {},
        },
    },
    "akamai_client_lists": {
        "method": "POST",
        "path": "/client-list/v1/lists/1_X/items",
        "query": [],
        "body": {"append": [{"value": "198.51.100.7", "tags": ["a"]}], "update": [], "delete": []},
    },
    "splunk": {
        "method": "POST",
        "path": "/servicesNS/nobody/search/storage/collections/data/watch/batch_save",
        "query": [],
        "body": [{"_key": "ipv4-addr:198.51.100.7", "value": "198.51.100.7"}],
    },
}


def of(product: str) -> Judge:
    try:
        return judges()[product]()
    except Absent as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize("product", GOOD)
def test_a_request_as_published_is_accepted(product: str) -> None:
    assert of(product).problem(GOOD[product]) is None


@pytest.mark.parametrize("product", GOOD)
@pytest.mark.parametrize(
    "wrong",
    [{"path": "/nothing"}, {"method": "PATCH_"}, {"query": [["colour", "red"]]}, {"body": {"colour": "red"}}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_not_published_is_told(product: str, wrong: dict[str, Any]) -> None:
    assert of(product).problem(GOOD[product] | wrong)


@pytest.mark.parametrize(
    ("product", "body"),
    [
        ("crowdstrike_falcon", {"indicators": [{"applied_globally": True, "ttl": 3}]}),
        ("crowdstrike_falcon", {"indicators": [{"applied_globally": True, "action": "block"}]}),
        ("akamai_client_lists", {"append": [{"value": "198.51.100.7", "type": "IP"}]}),
        ("akamai_client_lists", {"append": [{"value": "198.51.100.7", "tags": ["a,b"]}]}),
        ("splunk", [{"_key": "x", "a.b": 1}]),
        ("splunk", [{"value": "x"}]),
        ("akamai_sia", {"startTimeSec": "now"}),
    ],
)
def test_a_member_that_is_not_published_is_told(product: str, body: Any) -> None:
    assert (of(product).problem(GOOD[product] | {"body": body}) or "").startswith("body: ")


def test_nothing_that_was_asked_is_lost_when_the_calls_are_forgotten() -> None:
    server: SimServer = start_simulators(["splunk"])
    try:
        kept = Requests(server.world)
        for _ in range(2):
            requests.get(f"{server.url}/services/server/info", auth=("admin", "demo-splunk-password"), timeout=10)
            requests.get(f"{server.url}/services/nothing", auth=("admin", "demo-splunk-password"), timeout=10)
            server.world.reset()
        assert [call["path"] for call in kept.seen.values()] == ["/services/server/info", "/services/nothing"]
        # The other one was refused by the simulator itself.
        assert kept.problems() == ["splunk: GET /services/server/info: no such operation"]
    finally:
        server.stop()


def test_a_vendor_whose_file_is_absent_is_passed_over() -> None:
    def absent() -> Judge:
        raise Absent("needs x")

    assert problems({"splunk": absent}, [{"product": "splunk"} | GOOD["splunk"]]) == []
