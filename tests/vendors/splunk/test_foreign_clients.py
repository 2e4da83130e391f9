"""
What other people's clients send to splunkd's KV store, request by request: the simulator takes what Splunk takes (J9).

Sources: splunk-sdk 2.1.1 (run as it is), OpenCTI-Platform/connectors ``stream/splunk``, demisto/content ``SplunkPy``,
and the documented ``curl -u``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from splunklib import client
from splunklib.binding import AuthenticationError

from tests.support import SimServer
from tests.vendors.splunk.test_simulator import DATA, NAMESPACE, call, connect, row, server, service, sim, stored, watch

__all__ = ["server", "service", "sim", "watch"]  # fixtures

ADMIN = ("admin", "demo-splunk-password")


def test_the_sdk_with_basic_authentication(sim: SimServer) -> None:
    service = connect(sim, username=ADMIN[0], password=ADMIN[1], basic=True)
    service.kvstore.create("watch")
    assert [c.name for c in service.kvstore.list()] == ["watch"]
    with pytest.raises(AuthenticationError):
        connect(sim, username="admin", password="wrong", basic=True).kvstore.list()


def test_curl_with_a_user(sim: SimServer) -> None:
    base = sim.url + NAMESPACE
    made = requests.post(f"{base}/config", auth=ADMIN, data="name=watch", timeout=10)
    assert made.status_code == 201
    headers = {"Content-Type": "application/json"}
    body = json.dumps(row("198.51.100.7"))
    inserted = requests.post(f"{base}/data/watch", auth=ADMIN, data=body, headers=headers, timeout=10)
    assert inserted.json() == {"_key": "ipv4:198.51.100.7"}
    assert requests.get(f"{base}/data/watch", auth=("admin", "wrong"), timeout=10).status_code == 401
    [found] = requests.get(f"{base}/data/watch", auth=ADMIN, params={"shared": "true"}, timeout=10).json()
    assert found["value"] == "198.51.100.7"


def test_the_sdk_asks_many_questions_at_once(watch: client.KVStoreCollectionData) -> None:
    watch.batch_save(*[row(f"198.51.100.{n}", score=n) for n in range(1, 4)])
    found = watch.batch_find(
        {"query": {"score": 1}},
        {"query": {"score": {"$gte": 2}}, "sort": "score:-1", "limit": 1, "fields": "value"},
        {"query": {"score": 9}},
    )
    assert [[d["value"][-1] for d in rows] for rows in found] == [["1"], ["3"], []]


def test_the_sdk_changes_a_collection(service: client.Service) -> None:
    service.kvstore.create("watch", fields={"value": "string"})
    collection = service.kvstore["watch"]
    collection.update_field("score", "number")
    collection.update_accelerated_field("by_score", {"score": 1})
    collection.post(replicate="true")
    changed = service.kvstore["watch"].content
    assert (changed["field.value"], changed["field.score"], changed["replicate"]) == ("string", "number", "true")
    assert changed["accelerated_fields.by_score"] == {"score": 1}


def test_the_sdk_makes_a_collection_with_documented_arguments(service: client.Service) -> None:
    service.kvstore.create("watch", enforceTypes=True, profilingEnabled="true", replicate=False)
    assert "watch" in service.kvstore


@pytest.mark.parametrize(
    "namespace", [{}, {"owner": "nobody"}, {"owner": "nobody", "app": "system"}, {"app": "search"}]
)
def test_the_sdk_without_a_namespace(sim: SimServer, namespace: dict[str, str]) -> None:
    given: dict[str, Any] = {"host": "127.0.0.1", "port": sim.port, "scheme": "http", "autologin": False}
    service = client.connect(**given, **namespace, splunkToken="demo-splunk-token")
    service.kvstore.create("watch")
    data = service.kvstore["watch"].data
    data.insert(row("198.51.100.7"))
    assert [d["value"] for d in data.query()] == ["198.51.100.7"]
    data.delete()
    service.kvstore.delete("watch")


def test_opencti_makes_the_collection_each_time_and_puts_before_it_posts(sim: SimServer) -> None:
    """An older version sends PUT and inserts on 404; the newer one posts. Both go on after a 409."""
    base = sim.url + NAMESPACE
    for status in (201, 409):
        made = requests.post(f"{base}/config", auth=ADMIN, data={"name": "watch"}, timeout=10)
        assert made.status_code == status
    document = {"_key": "indicator--1", "type": "indicator", "value": "198.51.100.7", "created": "2026-11-01"}
    one = f"{base}/data/watch/indicator--1"
    assert requests.put(one, auth=ADMIN, json=document, timeout=10).status_code == 404
    assert requests.post(f"{base}/data/watch", auth=ADMIN, json=document, timeout=10).status_code == 201
    assert requests.post(f"{base}/data/watch", auth=ADMIN, json=document, timeout=10).status_code == 409
    assert requests.post(one, auth=ADMIN, json=document | {"value": "198.51.100.8"}, timeout=10).status_code == 200
    assert stored(sim) == ["198.51.100.8"]
    assert requests.delete(one, auth=ADMIN, timeout=10).status_code == 200
    assert stored(sim) == []


@pytest.mark.parametrize(
    ("query", "last_digits"),
    [
        ({"value": {"$in": ["198.51.100.1", "198.51.100.3"]}}, "13"),
        ({"$not": {"value": "198.51.100.1"}}, "23"),
        ({"value": {"$regex": "^198[.]51[.]100[.][12]$"}}, "12"),
    ],
)
def test_queries_of_others(
    sim: SimServer, watch: client.KVStoreCollectionData, query: dict[str, Any], last_digits: str
) -> None:
    watch.batch_save(*[row(f"198.51.100.{n}") for n in range(1, 4)])
    params = {"query": json.dumps(query), "shared": "true"}
    assert "".join(d["value"][-1] for d in call(sim, "GET", DATA, params=params).json()) == last_digits
