"""The Splunk simulator, driven by Splunk's own SDK where it has a call, and by plain HTTP where it has none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from splunklib import client
from splunklib.binding import AuthenticationError, HTTPError

from tests.support import SimServer, start_simulators

TOKEN = "demo-splunk-token"
NAMESPACE = "/servicesNS/nobody/search/storage/collections"
DATA = f"{NAMESPACE}/data/watch"


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["splunk"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock("2026-11-24T12:00:00Z")
    return server


@pytest.fixture
def service(sim: SimServer) -> client.Service:
    return connect(sim, splunkToken=TOKEN)


@pytest.fixture
def watch(sim: SimServer, service: client.Service) -> client.KVStoreCollectionData:
    service.kvstore.create("watch")
    return service.kvstore["watch"].data


def connect(sim: SimServer, **credentials: str) -> client.Service:
    return client.connect(
        host="127.0.0.1", port=sim.port, scheme="http", owner="nobody", app="search", autologin=False, **credentials
    )


def call(sim: SimServer, method: str, path: str, token: str = TOKEN, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
    return requests.request(method, sim.url + path, headers=headers, timeout=10, **options)


def text(answer: requests.Response) -> str:
    [message] = answer.json()["messages"]
    return message["text"]


def row(value: str, **more: Any) -> dict[str, Any]:
    return {"_key": f"ipv4:{value}", "type": "ipv4", "value": value} | more


def stored(sim: SimServer) -> list[str]:
    return [d["value"] for d in sim.state("splunk")["collections"]["watch"]]


# Access


def test_no_call_without_credentials(sim: SimServer) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Splunk wrong"}):
        answer = requests.get(sim.url + DATA, headers=headers, timeout=10)
        assert answer.status_code == 401
        assert answer.json() == {"messages": [{"type": "WARN", "text": "call not properly authenticated"}]}
        assert answer.headers["Connection"] == "keep-alive"
    with pytest.raises(AuthenticationError):
        connect(sim, splunkToken="wrong").kvstore.list()


def test_a_login_gives_a_session_that_ends_when_idle(sim: SimServer) -> None:
    service = connect(sim, username="admin", password="demo-splunk-password")
    assert service.token.startswith("Splunk ")
    sim.set_clock("2026-11-24T12:50:00Z")
    assert service.kvstore.list() == []
    sim.set_clock("2026-11-24T13:40:00Z")  # used meanwhile, so still alive
    assert service.kvstore.list() == []
    sim.set_clock("2026-11-24T14:41:00Z")
    with pytest.raises(AuthenticationError):
        service.kvstore.list()
    with pytest.raises(AuthenticationError, match="Login failed"):
        connect(sim, username="admin", password="wrong")


def test_a_login_in_json(sim: SimServer) -> None:
    form = {"username": "admin", "password": "demo-splunk-password", "output_mode": "json"}
    key = requests.post(f"{sim.url}/services/auth/login", data=form, timeout=10).json()["sessionKey"]
    answer = call(sim, "GET", "/services/server/info", headers={"Authorization": f"Splunk {key}"})
    assert answer.status_code == 200
    bad = requests.post(f"{sim.url}/services/auth/login", data=form | {"password": "x"}, timeout=10)
    assert (bad.status_code, text(bad)) == (401, "Login failed")


def test_server_info(sim: SimServer, service: client.Service) -> None:
    assert service.splunk_version >= (9, 0)
    answer = call(sim, "GET", "/services/server/info", params={"output_mode": "json"})
    assert answer.json()["entry"][0]["content"]["product_type"] == "enterprise"


def test_a_role_without_write_permission(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    sim.configure("splunk", read_only=True)
    assert watch.query() == []
    assert call(sim, "POST", DATA, json=row("198.51.100.7")).status_code == 403
    assert stored(sim) == []


# Collections


def test_the_life_of_a_collection(sim: SimServer, service: client.Service) -> None:
    service.kvstore.create("watch", fields={"value": "string"}, accelerated_fields={"by_value": {"value": 1}})
    assert "watch" in service.kvstore
    assert [c.name for c in service.kvstore.list()] == ["watch"]
    assert service.kvstore["watch"]["field.value"] == "string"
    with pytest.raises(HTTPError) as twice:
        service.kvstore.create("watch")
    assert twice.value.status == 409
    assert "An object with name=watch already exists" in str(twice.value)
    service.kvstore.delete("watch")
    assert "watch" not in service.kvstore
    assert sim.state("splunk")["collections"] == {}


def test_collections_in_json(sim: SimServer) -> None:
    made = call(sim, "POST", f"{NAMESPACE}/config", data={"name": "watch", "output_mode": "json"})
    assert (made.status_code, made.json()["entry"][0]["name"]) == (201, "watch")
    found = call(sim, "GET", f"{NAMESPACE}/config/watch", params={"output_mode": "json"})
    assert found.json()["entry"][0]["acl"]["app"] == "search"
    again = call(sim, "POST", f"{NAMESPACE}/config", data={"name": "watch", "output_mode": "json"})
    assert (again.status_code, text(again)) == (409, "An object with name=watch already exists")
    missing = call(sim, "GET", f"{NAMESPACE}/config/other")
    assert missing.status_code == 404
    assert missing.text.startswith("<response>")


def test_many_collections_come_in_pages(sim: SimServer, service: client.Service) -> None:
    for number in range(5):
        service.kvstore.create(f"c{number}")
    assert [c.name for c in service.kvstore.iter(pagesize=2)] == ["c0", "c1", "c2", "c3", "c4"]


@pytest.mark.parametrize(
    "form", [{}, {"name": "1st"}, {"name": "a.b"}, {"name": "<b>"}, {"name": "watch", "colour": "red"}]
)
def test_a_bad_collection_is_refused(sim: SimServer, form: dict[str, str]) -> None:
    assert call(sim, "POST", f"{NAMESPACE}/config", data=form).status_code == 400
    assert sim.state("splunk")["collections"] == {}


def test_other_apps_owners_and_paths_are_404(sim: SimServer) -> None:
    for path in (
        "/servicesNS/nobody/other/storage/collections/config",
        "/servicesNS/somebody/search/storage/collections/config",
        f"{NAMESPACE}/data/nothing",
        "/services/nothing",
    ):
        answer = call(sim, "GET", path)
        assert answer.status_code == 404, path
        assert answer.headers["Connection"] == "keep-alive"


# Documents


def test_insert_read_replace_delete(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    assert watch.insert(row("198.51.100.7")) == {"_key": "ipv4:198.51.100.7"}
    assert watch.query_by_id("ipv4:198.51.100.7") == row("198.51.100.7") | {"_user": "nobody"}
    watch.update("ipv4:198.51.100.7", {"value": "198.51.100.7", "note": "new"})
    after = watch.query_by_id("ipv4:198.51.100.7")
    assert (after["note"], "type" in after) == ("new", False)  # replaced, not merged
    watch.delete_by_id("ipv4:198.51.100.7")
    assert stored(sim) == []


def test_a_document_without_a_key_gets_one(watch: client.KVStoreCollectionData) -> None:
    key = watch.insert({"value": "x"})["_key"]
    assert len(key) == 24
    assert watch.query_by_id(key)["value"] == "x"


def test_insert_does_not_overwrite(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    watch.insert(row("198.51.100.7", note="first"))
    with pytest.raises(HTTPError) as twice:
        watch.insert(row("198.51.100.7", note="second"))
    assert twice.value.status == 409
    assert "A document with the same key and user already exists." in str(twice.value)
    assert watch.query()[0]["note"] == "first"


def test_what_is_not_there_is_404(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    for action in (
        lambda: watch.query_by_id("ipv4:198.51.100.9"),
        lambda: watch.update("ipv4:198.51.100.9", {"value": "x"}),
        lambda: watch.delete_by_id("ipv4:198.51.100.9"),
    ):
        with pytest.raises(HTTPError) as missing:
            action()
        assert missing.value.status == 404
    assert call(sim, "PUT", f"{DATA}/ipv4:198.51.100.9", json={"value": "x"}).status_code == 404
    assert stored(sim) == []


def test_a_key_with_a_slash(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    key = "url:https://bad.example/a?b"
    watch.batch_save({"_key": key, "value": "u"})
    assert watch.query_by_id(key)["value"] == "u"
    watch.delete_by_id(key)
    assert stored(sim) == []


def test_batch_save_is_an_upsert(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    keys = watch.batch_save(row("198.51.100.7"), row("198.51.100.8"))
    assert keys == ["ipv4:198.51.100.7", "ipv4:198.51.100.8"]
    watch.batch_save(row("198.51.100.8", note="again"), row("198.51.100.9"))
    assert stored(sim) == ["198.51.100.7", "198.51.100.8", "198.51.100.9"]
    assert watch.query_by_id("ipv4:198.51.100.8")["note"] == "again"


def test_batch_save_stops_at_the_first_bad_document(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    with pytest.raises(HTTPError) as bad:
        watch.batch_save(row("198.51.100.7"), row("198.51.100.8", **{"a.b": 1}), row("198.51.100.9"))
    assert bad.value.status == 400
    assert stored(sim) == ["198.51.100.7"]


def test_batch_save_takes_at_most_1000(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    rows = [row(f"10.0.{n // 250}.{n % 250}") for n in range(1001)]
    with pytest.raises(HTTPError, match=r"max_documents_per_batch_save=1000") as many:
        watch.batch_save(*rows)
    assert many.value.status == 400
    assert stored(sim) == []
    assert len(watch.batch_save(*rows[:1000])) == 1000


@pytest.mark.parametrize(
    "document",
    [{"a.b": 1}, {"nested": {"a.b": 1}}, {"list": [{"$x": 1}]}, {"_key": 7}, {"_key": ""}, ["no object"]],
)
def test_a_bad_document_is_refused(sim: SimServer, watch: client.KVStoreCollectionData, document: Any) -> None:
    assert call(sim, "POST", DATA, json=document).status_code == 400
    assert watch.query() == []


def test_a_body_must_be_json_and_say_so(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    assert call(sim, "POST", DATA, data={"value": "x"}).status_code == 400
    headers = {"Content-Type": "application/json"}
    assert call(sim, "POST", DATA, data="{", headers=headers).status_code == 400
    assert call(sim, "POST", f"{DATA}/batch_save", json={"value": "x"}).status_code == 400
    assert watch.query() == []


# Queries


@pytest.fixture
def stock(sim: SimServer, service: client.Service) -> client.KVStoreCollectionData:
    documents = [
        row("198.51.100.1", score=90, expires_at="2026-11-20T00:00:00Z", tags=["api", "waf"]),
        row("198.51.100.2", score=50, expires_at="2026-12-20T00:00:00Z", active=True),
        row("198.51.100.3", score=70, by={"name": "soc"}),
        row("198.51.100.4", score="70", active=1, expires_at=None),
    ]
    sim.seed("splunk", {"collections": {"watch": documents}})
    return service.kvstore["watch"].data


@pytest.mark.parametrize(
    ("query", "last_digits"),
    [
        ({}, "1234"),
        ({"value": "198.51.100.2"}, "2"),
        ({"value": "198.51.100.2", "score": 90}, ""),
        ({"score": 70}, "3"),
        ({"score": {"$gte": 70}}, "13"),
        ({"score": {"$gt": 50, "$lt": 90}}, "3"),
        ({"score": {"$lte": 50}}, "2"),
        ({"score": {"$ne": 90}}, "234"),
        ({"expires_at": {"$lt": "2026-11-24T12:00:00Z"}}, "1"),
        ({"expires_at": {"$lt": 5}}, ""),
        ({"expires_at": None}, "34"),
        ({"active": True}, "2"),
        ({"active": 1}, "4"),
        ({"tags": "waf"}, "1"),
        ({"by.name": "soc"}, "3"),
        ({"$or": [{"score": 90}, {"score": 50}]}, "12"),
        ({"$not": {"score": {"$gte": 70}}}, "24"),
        ({"score": {"$not": {"$gte": 70}}}, "24"),
        ({"score": {"$in": [90, "70"]}}, "14"),
        ({"value": {"$regex": "[.](1|2)$"}}, "12"),
        ({"tags": {"$regex": "^wa"}}, "1"),
        ({"$and": [{"score": {"$gte": 50}}, {"$or": [{"value": "198.51.100.1"}, {"active": True}]}]}, "12"),
    ],
)
def test_queries(stock: client.KVStoreCollectionData, query: dict[str, Any], last_digits: str) -> None:
    assert "".join(d["value"][-1] for d in stock.query(query=query)) == last_digits


@pytest.mark.parametrize(
    "query",
    [
        '{"value": {"$regex": "("}}',
        '{"value": {"$regex": 7}}',
        '{"value": {"$in": "x"}}',
        '{"$nor": [{"a": 1}]}',
        '{"$or": []}',
        '{"$or": {"a": 1}}',
        '{"$and": [{"a": 1}, {"b": {"$foo": 1}}]}',
        "[1]",
        "{",
    ],
)
def test_a_query_outside_the_subset_is_refused(sim: SimServer, stock: client.KVStoreCollectionData, query: str) -> None:
    assert call(sim, "GET", DATA, params={"query": query}).status_code == 400
    assert call(sim, "DELETE", DATA, params={"query": query}).status_code == 400
    assert len(stored(sim)) == 4  # a delete with a bad query must not become a delete of all


def test_fields_sort_skip_limit(sim: SimServer, stock: client.KVStoreCollectionData) -> None:
    by_score = stock.query(query={"score": {"$gt": 0}}, sort="score:-1", fields="value,score")
    assert [list(d.values()) for d in by_score] == [
        ["198.51.100.1", 90],
        ["198.51.100.3", 70],
        ["198.51.100.2", 50],
    ]
    assert [d["value"][-1] for d in stock.query(sort="score", skip=1, limit=2)] == ["3", "1"]
    assert "score" not in stock.query(fields="score:0")[0]
    for params in ({"fields": "a:1,b:0"}, {"sort": "a:2"}, {"limit": "-1"}, {"skip": "x"}):
        assert call(sim, "GET", DATA, params=params).status_code == 400, params


def test_rows_past_the_limit_are_dropped_without_a_word(sim: SimServer, stock: client.KVStoreCollectionData) -> None:
    sim.configure("splunk", max_rows_per_query=3)
    assert len(stock.query()) == len(stock.query(limit=100)) == 3
    assert len(stock.query(skip=3)) == 1


def test_delete_by_query(sim: SimServer, stock: client.KVStoreCollectionData) -> None:
    stock.delete(query=json.dumps({"expires_at": {"$lt": "2026-11-24T12:00:00Z"}}))
    assert [v[-1] for v in stored(sim)] == ["2", "3", "4"]
    stock.delete()
    assert stored(sim) == []


def test_a_late_document_appears_at_its_time(sim: SimServer, service: client.Service) -> None:
    late = row("198.51.100.7", _available_at="2026-11-24T12:10:00Z")
    sim.seed("splunk", {"collections": {"watch": [late]}})
    assert service.kvstore["watch"].data.query() == []
    sim.set_clock("2026-11-24T12:10:00Z")
    assert service.kvstore["watch"].data.query() == [row("198.51.100.7") | {"_user": "nobody"}]


# Faults


def test_a_batch_whose_answer_is_lost_is_there_once(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    sim.fault("splunk", "reset_after_commit", path="batch_save")
    with pytest.raises(OSError):
        watch.batch_save(row("198.51.100.7"))
    watch.batch_save(row("198.51.100.7"))
    assert stored(sim) == ["198.51.100.7"]


def test_injected_refusals(sim: SimServer, watch: client.KVStoreCollectionData) -> None:
    sim.fault("splunk", "status", status=429, headers={"Retry-After": "30"})
    with pytest.raises(HTTPError) as busy:
        watch.query()
    assert busy.value.status == 429
    assert dict(busy.value.headers)["retry-after"] == "30"
    sim.fault("splunk", "html", status=503)
    answer = call(sim, "GET", DATA)
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (503, "text/html")
    assert watch.query() == []
