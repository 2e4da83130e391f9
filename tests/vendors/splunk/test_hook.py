"""The Splunk hook over HTTP, against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, Unexpected, VendorError, WriteInPlanMode
from tests.stages.controls import FAULTS, WRITE_FAULTS, everything_logged
from tests.stages.tiny import Answer, TinyServer
from tests.support import SimServer, free_port
from tests.vendors.splunk.conftest import KNOBS, PRODUCT, held, point_at, seed, writes
from threat_response.vendors.splunk import hook as module
from threat_response.vendors.splunk.hook import SplunkHook

LOGIN = {"login": KNOBS["username"], "password": KNOBS["password"]}


def documents(*keys: str) -> list[dict[str, Any]]:
    return [{"_key": key, "value": key, "source": "threat-response"} for key in keys]


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.parametrize("path", ["/data/", "/auth/login"])
def test_a_fault_becomes_one_of_the_five_errors(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: type, path: str
) -> None:
    seed(sim, *documents("a"))
    point_at(monkeypatch, sim, **LOGIN)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    sim.fault(PRODUCT, kind, path=path, **options)
    with pytest.raises(VendorError) as caught:
        SplunkHook().read(["a"])
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7


@pytest.mark.parametrize(("kind", "options", "error"), WRITE_FAULTS)
def test_a_fault_on_a_write_is_told(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: type
) -> None:
    seed(sim)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    sim.fault(PRODUCT, kind, method="POST", path="batch_save", **options)
    refused, stopped = SplunkHook().save(documents("a"))
    assert (refused, type(stopped)) == ({}, error)


@pytest.mark.parametrize(("kind", "error"), [("truncate", Unavailable), ("html", Unexpected)])
def test_a_save_that_answers_something_else_is_not_taken_for_done(sim: SimServer, kind: str, error: type) -> None:
    seed(sim)
    sim.fault(PRODUCT, kind, method="POST", path="batch_save", status=200)
    assert type(SplunkHook().save(documents("a"))[1]) is error


@pytest.mark.parametrize("connection", [{}, LOGIN])
def test_a_token_or_a_session(sim: SimServer, monkeypatch: pytest.MonkeyPatch, connection: dict[str, str]) -> None:
    seed(sim, *documents("a"))
    point_at(monkeypatch, sim, **connection)
    hook = SplunkHook()
    assert list(hook.read(["a", "b"])) == ["a"]
    hook.read(["a"])
    assert len(sim.calls(PRODUCT, path="/auth/login")) == bool(connection)


def test_many_keys_are_read_and_saved_in_chunks(sim: SimServer) -> None:
    seed(sim)
    keys = [f"domain-name:host-{n}.bad.example" for n in range(1100)]
    hook = SplunkHook()
    assert hook.save(documents(*keys)) == ({}, None)
    assert writes(sim) == ["batch_save"] * 3
    assert sorted(hook.read(keys)) == sorted(keys)


def test_keys_are_data_in_a_query(sim: SimServer) -> None:
    keys = ['a"},{"_key":"b', "c/d?e=%2F&f", "ключ"]
    seed(sim, *documents(*keys, "b"))
    assert sorted(SplunkHook().read(keys)) == sorted(keys)


def test_one_bad_document_costs_itself_only(sim: SimServer) -> None:
    seed(sim)
    given = documents(*(f"k{n}" for n in range(11)))
    given[4]["a.b"] = 1
    refused, stopped = SplunkHook().save(given)
    assert stopped is None
    assert list(refused) == ["k4"]
    assert sorted(held(sim)) == sorted({d["_key"] for d in given} - {"k4"})


def test_a_collection_is_made_once(sim: SimServer) -> None:
    hook = SplunkHook()
    assert not hook.has_collection()
    hook.create_collection()
    hook.create_collection()  # somebody was quicker: no error
    assert hook.has_collection()
    assert held(sim) == {}


def test_nothing_is_written_in_plan_mode(sim: SimServer) -> None:
    hook = SplunkHook(writes_allowed=False)
    with pytest.raises(WriteInPlanMode):
        hook.create_collection()
    with pytest.raises(WriteInPlanMode):
        hook.save(documents("a"))
    assert sim.calls(PRODUCT) == []


def test_app_and_collection_come_from_the_connection(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.configure(PRODUCT, apps=["search", "soc"])
    point_at(monkeypatch, sim, app="soc", collection="watched")
    hook = SplunkHook()
    hook.create_collection()
    hook.save(documents("a"))
    assert [d["_key"] for d in sim.state(PRODUCT)["collections"]["soc/watched"]] == ["a"]


@pytest.mark.parametrize("option", [{"app": "../x"}, {"collection": "a b"}, {"owner": "a/b"}])
def test_a_name_that_is_none_is_refused(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, option: dict[str, str]
) -> None:
    point_at(monkeypatch, sim, **option)
    with pytest.raises(Unauthorized, match=next(iter(option))):
        SplunkHook().has_collection()
    assert sim.calls(PRODUCT) == []


@pytest.mark.parametrize(
    ("connection", "collection", "words"),
    [
        ({}, True, "is in app search of 127.0.0.1"),
        ({}, False, "will be created"),
        (LOGIN, True, "is in app search"),
        ({"password": "wrong"}, True, "Wrong key"),
        ({"login": "admin", "password": "wrong"}, True, "Wrong key"),
        ({"password": ""}, True, "Incomplete or wrong connection"),
    ],
)
def test_the_usual_causes_are_told_apart(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, connection: dict[str, str], collection: bool, words: str
) -> None:
    if collection:
        seed(sim)
    point_at(monkeypatch, sim, **connection)
    works, message = SplunkHook().test_connection()
    assert words in message
    assert works is (connection in ({}, LOGIN))
    assert writes(sim) == []


def test_a_missing_grant_and_a_wrong_host_are_told(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault(PRODUCT, "status", status=403)
    assert SplunkHook().test_connection()[1].startswith("Missing grant")
    point_at(monkeypatch, f"http://127.0.0.1:{free_port()}")
    assert SplunkHook().test_connection()[1].startswith("Wrong host")


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Airflow</title>", b'{"status": "ok"}', b"[]", b""])
def test_n11_a_web_server_that_answers_every_path_is_no_splunk(monkeypatch: pytest.MonkeyPatch, page: bytes) -> None:
    server = TinyServer()
    server.always = Answer(200, page)
    point_at(monkeypatch, server.url)
    works, message = SplunkHook().test_connection()
    server.stop()
    assert not works
    assert message.startswith("Wrong host: what answers there is not this vendor's API")


def test_no_secret_is_ever_said(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    said: list[str] = []
    session = ""
    with everything_logged() as lines:
        SplunkHook().save(documents("a"))
        point_at(monkeypatch, sim, **LOGIN)
        hook = SplunkHook()
        hook.read(["a"])
        session = hook.authorization.removeprefix("Splunk ")
        for url in (sim, f"http://127.0.0.1:{free_port()}"):
            point_at(monkeypatch, url, login="admin", password="another-secret")
            with pytest.raises((Unauthorized, Unavailable)) as caught:
                SplunkHook().read(["a"])
            said.append(repr(caught.value) + str(caught.value))
    text = "\n".join([*lines, *said])
    assert "POST /servicesNS" in text  # urllib3's DEBUG really was on
    for secret in (KNOBS["token"], KNOBS["password"], "another-secret", session):
        assert secret
        assert secret not in text
