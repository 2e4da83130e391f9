"""
What other people's clients send to Falcon, request by request: the simulator takes what the cloud takes (J4).

Sources: OpenCTI-Platform/connectors ``stream/crowdstrike-endpoint-security`` (with answers recorded at eu-1), demisto/
content ``CrowdStrikeFalcon``, SEKOIA-IO/automation-library, TheHive-Project/Cortex-Analyzers, CrowdStrike's psfalcon
and gofalcon.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests
from falconpy import IOC

from tests.support import SimServer
from tests.vendors.crowdstrike_falcon.test_simulator import bearer, created, falcon, held, ipv4, server, sim

__all__ = ["falcon", "server", "sim"]  # fixtures

ENTITIES = "/iocs/entities/indicators/v1"


def opencti(value: str, **more: Any) -> dict[str, Any]:
    indicator = {
        "action": "detect",
        "mobile_action": "detect",
        "type": "ipv4",
        "value": value,
        "severity": "medium",
        "applied_globally": True,
        "source": "OpenCTI IOC",
        "platforms": ["windows", "mac", "linux"],
        "tags": ["x"],
    }
    return {"comment": "IOC imported from OpenCTI", "indicators": [indicator | more]}


def test_opencti_searches_creates_updates_and_deletes(sim: SimServer, falcon: IOC) -> None:
    """It repeats type and value in every update, and deletes by a positional id."""
    mine = 'value:"198.51.100.7"+created_by:"demo-falcon-client"'
    assert falcon.indicator_search(filter=mine)["body"]["resources"] == []
    made = falcon.indicator_create(body=opencti("198.51.100.7"))
    assert made["status_code"] == 201
    [one] = falcon.indicator_search(filter=mine)["body"]["resources"]
    again = falcon.indicator_update(body=opencti("198.51.100.7", id=one, severity="high", tags=["x", "TO_DELETE"]))
    assert (again["status_code"], again["body"]["resources"][0]["severity"]) == (200, "high")
    assert falcon.indicator_delete(one)["status_code"] == 200
    assert held(sim) == []


def test_an_indicator_without_action_and_severity_does_nothing(sim: SimServer) -> None:
    """As recorded in OpenCTI's README."""
    row = {"type": "domain", "value": "bad.example", "platforms": ["mac"], "applied_globally": True}
    answer = requests.post(sim.url + ENTITIES, json={"indicators": [row]}, headers=bearer(sim), timeout=10)
    assert answer.status_code == 201
    [made] = answer.json()["resources"]
    assert (made["action"], made["severity"]) == ("no_action", "")


def test_a_whole_indicator_may_be_sent_back(sim: SimServer, falcon: IOC) -> None:
    [one] = created(falcon, ipv4())
    [whole] = falcon.indicator_get(ids=one)["body"]["resources"]
    answer = falcon.indicator_update(body={"indicators": [whole | {"description": "more"}]})
    assert (answer["status_code"], answer["body"]["resources"][0]["description"]) == (200, "more")
    assert held(sim)[0]["created_on"] == whole["created_on"]


def test_another_value_is_no_update(sim: SimServer, falcon: IOC) -> None:
    [one] = created(falcon, ipv4())
    answer = falcon.indicator_update(body={"indicators": [{"id": one, "value": "198.51.100.9"}]})
    assert answer["status_code"] == 400


def test_xsoar_searches_by_lists_and_updates_single_members(sim: SimServer, falcon: IOC) -> None:
    one, _ = created(falcon, ipv4(), ipv4("bad.example", type="domain"))
    params = {"filter": "type:['ipv4', 'domain']+value:['198.51.100.7', 'bad.example']", "limit": 50, "sort": ""}
    answer = requests.get(f"{sim.url}/iocs/combined/indicator/v1", params=params, headers=bearer(sim), timeout=10)
    assert len(answer.json()["resources"]) == 2
    assert answer.headers["X-Ratelimit-Limit"] == "6000"
    body = {"indicators": [{"id": one, "severity": "low"}], "comment": None}
    changed = requests.patch(sim.url + ENTITIES, json=body, headers=bearer(sim), timeout=10).json()["resources"][0]
    assert (changed["severity"], changed["action"], changed["source"]) == ("low", "detect", "airflow-threat-response")


@pytest.mark.parametrize(("count", "expected"), [(0, {"offset": 0}), (1, {"offset": 1}), (3, {"offset": 3})])
def test_pages_are_told_as_recorded(sim: SimServer, falcon: IOC, count: int, expected: dict[str, int]) -> None:
    """``offset`` is the number returned, and ``after`` comes on the last page too, but for an empty one."""
    if count:
        created(falcon, *[ipv4(f"198.51.100.{n}") for n in range(count)])
    for search in (falcon.indicator_search, falcon.indicator_combined):
        pagination = search(limit=100)["body"]["meta"]["pagination"]
        assert pagination.pop("after", None) is not None or count == 0
        assert pagination == {"limit": 100, "total": count} | expected


@pytest.mark.parametrize(
    "sort",
    [
        "metadata.av_hits.asc",
        "metadata.company_name.raw.desc",
        "metadata.original_filename.raw.asc",
        "modified_on|desc",
    ],
)
def test_psfalcon_sorts_by_metadata(sim: SimServer, falcon: IOC, sort: str) -> None:
    created(falcon, ipv4(), ipv4("198.51.100.8"))
    answer = falcon.indicator_search(sort=sort)
    assert answer["status_code"] == 200, answer["body"]
    assert len(answer["body"]["resources"]) == 2


def test_gofalcon_sends_both_kinds_of_update(sim: SimServer, falcon: IOC) -> None:
    """Its models require both members, so that one of them is empty."""
    [one] = created(falcon, ipv4())
    for body in (
        {"bulk_update": {}, "indicators": [{"id": one, "severity": "low"}]},
        {"bulk_update": {"filter": "type:'ipv4'", "severity": "critical"}, "indicators": []},
        {"bulk_update": None, "indicators": [{"id": one, "severity": "medium"}]},
    ):
        answer = requests.patch(sim.url + ENTITIES, json=body, headers=bearer(sim), timeout=10)
        assert answer.status_code == 200, answer.text
    assert held(sim)[0]["severity"] == "medium"


def test_sekoia_and_cortex_are_told_of_a_duplicate_in_resources(sim: SimServer, falcon: IOC) -> None:
    created(falcon, ipv4())
    row = ipv4(tags=["Sekoia.io"], source="Sekoia.io")
    answer = requests.post(
        sim.url + ENTITIES,
        params={"retrodetects": "true", "ignore_warnings": "true"},
        json={"indicators": [row]},
        headers=bearer(sim),
        timeout=10,
    ).json()
    assert answer["errors"]
    assert "Duplicate type" in answer["resources"][0]["message"]
