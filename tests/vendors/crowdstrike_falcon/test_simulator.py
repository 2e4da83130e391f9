"""The Falcon simulator, driven by CrowdStrike's own client and held against the derived OpenAPI file."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
import uvicorn
from falconpy import IOC, OAuth2
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.util import Retry

from tests.support import SimServer, free_port, start_simulators

SPEC = Path(__file__).resolve().parents[3] / ".." / "shared/specs/edr/crowdstrike/crowdstrike_ioc.derived.openapi.json"
CLIENT, SECRET = "demo-falcon-client", "demo-falcon-secret"
NOW = "2026-11-24T12:00:00Z"
SHA256 = "0a" * 32


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["crowdstrike_falcon"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock(NOW)
    return server


@pytest.fixture
def falcon(sim: SimServer) -> IOC:
    return IOC(client_id=CLIENT, client_secret=SECRET, base_url=sim.url, timeout=10)


def advance(sim: SimServer, seconds: float) -> None:
    requests.post(f"{sim.url}/_sim/clock", json={"advance_seconds": seconds}, timeout=10).raise_for_status()


def ipv4(value: str = "198.51.100.7", **changes: Any) -> dict[str, Any]:
    return {
        "type": "ipv4",
        "value": value,
        "action": "detect",
        "severity": "high",
        "platforms": ["windows", "mac", "linux"],
        "applied_globally": True,
        "source": "airflow-threat-response",
        "expiration": "2026-12-01T00:00:00Z",
    } | changes


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in ipv4().items() if k != name}


def create(falcon: IOC, *indicators: dict[str, Any], **options: Any) -> dict[str, Any]:
    return falcon.indicator_create(body={"comment": "test", "indicators": list(indicators)}, **options)


def created(falcon: IOC, *indicators: dict[str, Any]) -> list[str]:
    answer = create(falcon, *indicators)
    assert answer["status_code"] == 201, answer
    return [r["id"] for r in answer["body"]["resources"]]


def held(sim: SimServer) -> list[dict[str, Any]]:
    return [i for i in sim.state("crowdstrike_falcon")["indicators"] if not i["deleted"]]


def bearer(sim: SimServer) -> dict[str, str]:
    answer = requests.post(f"{sim.url}/oauth2/token", data={"client_id": CLIENT, "client_secret": SECRET}, timeout=10)
    assert answer.status_code == 201
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


# Access


def test_a_token_lives_1799_seconds(sim: SimServer) -> None:
    headers = bearer(sim)
    url = f"{sim.url}/iocs/queries/indicators/v1"
    advance(sim, 1790)
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    advance(sim, 10)
    late = requests.get(url, headers=headers, timeout=10)
    assert late.status_code == 401
    assert late.json()["errors"] == [{"code": 401, "message": "access denied, invalid bearer token"}]


def test_a_revoked_token_is_dead(sim: SimServer) -> None:
    auth = OAuth2(client_id=CLIENT, client_secret=SECRET, base_url=sim.url, timeout=10)
    token = auth.token()["body"]["access_token"]
    url, headers = f"{sim.url}/iocs/queries/indicators/v1", {"Authorization": f"Bearer {token}"}
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    assert auth.revoke(token)["status_code"] == 200
    assert requests.get(url, headers=headers, timeout=10).status_code == 401


def test_wrong_credentials_get_no_token(sim: SimServer) -> None:
    wrong = OAuth2(client_id=CLIENT, client_secret="wrong", base_url=sim.url, timeout=10)
    answer = wrong.token()
    assert (answer["status_code"], answer["body"]["errors"][0]["code"]) == (403, 403)
    empty = requests.post(f"{sim.url}/oauth2/token", data={"client_id": CLIENT}, timeout=10)
    assert empty.status_code == 400


def test_a_client_without_the_write_scope_may_only_read(sim: SimServer, falcon: IOC) -> None:
    sim.configure("crowdstrike_falcon", read_only=True)
    assert falcon.indicator_search()["status_code"] == 200
    answer = create(falcon, ipv4())
    assert answer["status_code"] == 403
    assert answer["body"]["errors"][0]["message"] == "access denied, authorization failed"
    assert held(sim) == []


@pytest.fixture
def spelled(sim: SimServer) -> Iterator[SimServer]:
    """The same simulator behind h11, which keeps the vendor's spelling of header names; falconpy minds it."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(sim.app, host="127.0.0.1", port=port, log_level="error", http="h11"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for_port(port)
    door = SimServer(f"http://127.0.0.1:{port}", port, sim.app, server, thread)
    yield door
    door.stop()


def wait_for_port(port: int) -> None:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(connect=50, backoff_factor=0.02)))
    session.get(f"http://127.0.0.1:{port}/_sim/health", timeout=10).raise_for_status()


def test_the_region_header_would_send_falconpy_to_the_real_cloud(spelled: SimServer) -> None:
    auth = OAuth2(client_id=CLIENT, client_secret=SECRET, base_url=spelled.url, timeout=10)
    assert "X-Cs-Region" not in auth.token()["headers"]
    assert auth.base_url == spelled.url

    spelled.configure("crowdstrike_falcon", cs_region="us-1")
    every = [requests.get(spelled.url + path, timeout=10) for path in ("/iocs/combined/indicator/v1", "/iocs/nothing")]
    assert [answer.headers["X-Cs-Region"] for answer in every] == ["us-1", "us-1"]
    trapped = OAuth2(client_id=CLIENT, client_secret=SECRET, base_url=spelled.url, timeout=10)
    trapped.token()  # the only call: after it the client must not be used
    assert trapped.base_url == "https://api.crowdstrike.com"


def test_header_names_are_spelled_as_the_vendor_spells_them(spelled: SimServer) -> None:
    falcon = IOC(client_id=CLIENT, client_secret=SECRET, base_url=spelled.url, timeout=10)
    headers = falcon.indicator_search()["headers"]
    assert int(headers["X-Ratelimit-Remaining"]) < int(headers["X-Ratelimit-Limit"])
    spelled.fault("crowdstrike_falcon", "status", status=429, path="/iocs", headers={"X-RateLimit-RetryAfter": "1"})
    assert falcon.indicator_search()["headers"]["X-RateLimit-RetryAfter"] == "1"


def test_the_rate_limit_is_a_sliding_minute(sim: SimServer) -> None:
    sim.configure("crowdstrike_falcon", requests_per_minute=3)
    headers, url = bearer(sim), f"{sim.url}/iocs/queries/indicators/v1"
    answers = [requests.get(url, headers=headers, timeout=10) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert [a.headers["X-Ratelimit-Remaining"] for a in answers] == ["1", "0", "0"]
    assert {a.headers["X-Ratelimit-Limit"] for a in answers} == {"3"}
    come_back = int(answers[2].headers["X-RateLimit-RetryAfter"])
    assert 0 < come_back - sim.world.clock.timestamp() <= 61
    assert "X-RateLimit-RetryAfter" not in answers[1].headers
    advance(sim, 61)
    assert requests.get(url, headers=headers, timeout=10).status_code == 200


# Creating


def test_create_answers_with_the_whole_indicator(sim: SimServer, falcon: IOC) -> None:
    answer = create(falcon, ipv4(), {"type": "sha256", "value": SHA256} | without_ip(), retrodetects=True)
    assert answer["status_code"] == 201
    body = answer["body"]
    assert body["errors"] == []  # falconpy's reading of the null that the wire carries: see below
    assert body["meta"]["pagination"] == {"limit": 0, "total": 2}
    first = body["resources"][0]
    assert first.items() >= ipv4().items()
    assert len(first["id"]) == 64
    assert int(first["id"], 16)
    assert first["created_by"] == CLIENT
    assert len(first["created_on"]) == len("2026-11-24T12:00:00.123456789Z")
    assert (first["expired"], first["deleted"], first["from_parent"]) == (False, False, False)
    assert sim.state("crowdstrike_falcon")["audit"] == [
        {
            "operation": "create",
            "ids": [r["id"] for r in body["resources"]],
            "comment": "test",
            "retrodetects": True,
        }
    ]


def test_errors_are_null_on_the_wire_when_all_is_well(sim: SimServer) -> None:
    url, headers = f"{sim.url}/iocs/entities/indicators/v1", bearer(sim)
    answer = requests.post(url, json={"indicators": [ipv4()]}, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["errors"]) == (201, None)


def without_ip() -> dict[str, Any]:
    return {k: v for k, v in ipv4(action="prevent").items() if k not in ("type", "value")}


@pytest.mark.parametrize(
    ("indicator", "field"),
    [
        pytest.param(ipv4(type="url"), "type", id="unknown type"),
        pytest.param(ipv4("198.51.100.0/24"), "value", id="network"),
        pytest.param(ipv4("2001:db8::1"), "value", id="ipv6 as ipv4"),
        pytest.param(ipv4(type="md5", value="0a" * 15), "value", id="short md5"),
        pytest.param(ipv4(type="domain", value="a" * 201), "value", id="long domain"),
        pytest.param(ipv4(action="block"), "action", id="unknown action"),
        pytest.param(ipv4(action="prevent"), "action", id="prevent is for hashes"),
        pytest.param(ipv4(type="domain", value="bad.example", action="prevent"), "action", id="prevent domain"),
        pytest.param(ipv4(action="allow"), "action", id="allow is for hashes"),
        pytest.param(without("severity"), "severity", id="detect needs a severity"),
        pytest.param(ipv4(severity="severe"), "severity", id="unknown severity"),
        pytest.param(without("platforms"), "platforms", id="no platforms"),
        pytest.param(ipv4(platforms=["amiga"]), "platforms", id="unknown platform"),
        pytest.param(ipv4(platforms=["ios"]), "platforms", id="mobile platform"),
        pytest.param(without("applied_globally"), "applied_globally", id="no scope"),
        pytest.param(ipv4(host_groups=["0" * 32]), "applied_globally", id="both scopes"),
        pytest.param(ipv4(applied_globally=False, host_groups=["x"]), "host_groups", id="bad host group"),
        pytest.param(ipv4(expiration="2026-12-01 00:00"), "expiration", id="not RFC 3339"),
        pytest.param(ipv4(expiration="2026-12-01T00:00:00+01:00"), "expiration", id="not UTC"),
        pytest.param(ipv4(expiration="2026-11-01T00:00:00Z"), "expiration", id="past"),
        pytest.param(ipv4(description="x" * 201), "description", id="long description"),
        pytest.param(ipv4(tags="one"), "tags", id="tags not a list"),
        pytest.param(ipv4(metadata={"filename": "a.exe"}), "metadata", id="file name of an address"),
    ],
)
def test_a_bad_row_fails_the_whole_request(sim: SimServer, falcon: IOC, indicator: dict[str, Any], field: str) -> None:
    answer = create(falcon, ipv4("198.51.100.99"), indicator)
    assert answer["status_code"] == 400
    [row] = answer["body"]["resources"]
    assert (row["row"], row["field_name"], row["message_type"]) == (2, field, "error")
    assert answer["body"]["errors"][0]["code"] == 400
    assert held(sim) == []


def test_a_duplicate_is_told_in_resources(sim: SimServer, falcon: IOC) -> None:
    created(falcon, ipv4())
    answer = create(falcon, ipv4("198.51.100.8"), ipv4())
    assert answer["status_code"] == 400
    assert answer["body"]["errors"] is not None
    assert "Duplicate type" not in json.dumps(answer["body"]["errors"])
    assert answer["body"]["resources"] == [
        {
            "row": 2,
            "type": "ipv4",
            "value": "198.51.100.7",
            "field_name": "value",
            "message_type": "error",
            "message": "Duplicate type: 'ipv4' and value: '198.51.100.7' combination.",
        }
    ]
    assert [i["value"] for i in held(sim)] == ["198.51.100.7"]  # the good row was not saved either
    assert create(falcon, ipv4("198.51.100.8"), ipv4("198.51.100.8"))["status_code"] == 400
    spelled = {"type": "ipv6"}
    created(falcon, ipv4("2001:db8::1", **spelled))
    assert create(falcon, ipv4("2001:0DB8:0::1", **spelled))["status_code"] == 400


def test_a_tenant_may_allow_prevent_for_addresses(sim: SimServer, falcon: IOC) -> None:
    sim.configure("crowdstrike_falcon", hash_only_prevent=False)
    created(falcon, ipv4(action="prevent"))


@pytest.mark.parametrize("body", [{}, {"indicators": []}, {"indicators": {}}, {"indicators": ["x"]}, []])
def test_a_bad_body_is_refused(sim: SimServer, body: Any) -> None:
    url = f"{sim.url}/iocs/entities/indicators/v1"
    answer = requests.post(url, json=body, headers=bearer(sim), timeout=10)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, 400)


def test_at_most_2000_in_one_request(sim: SimServer, falcon: IOC) -> None:
    many = [ipv4(f"10.0.{n // 250}.{n % 250}") for n in range(2001)]
    assert create(falcon, *many)["status_code"] == 400
    assert create(falcon, *many[:2000])["status_code"] == 201
    assert len(held(sim)) == 2000


def test_an_expired_indicator_stays_and_does_nothing(sim: SimServer, falcon: IOC) -> None:
    [one] = created(falcon, ipv4())
    sim.set_clock("2026-12-01T00:00:01Z")
    fresh = IOC(client_id=CLIENT, client_secret=SECRET, base_url=sim.url, timeout=10)
    [indicator] = fresh.indicator_get(ids=one)["body"]["resources"]
    assert (indicator["expired"], indicator["action"], indicator["deleted"]) == (True, "no_action", False)
    found = fresh.indicator_search(filter="source:'airflow-threat-response'+expired:true")
    assert found["body"]["resources"] == [one]
    assert create(fresh, ipv4(expiration="2027-01-01T00:00:00Z"))["status_code"] == 400  # it still holds the value


# Changing


def test_update_changes_what_it_names(sim: SimServer, falcon: IOC) -> None:
    [one] = created(falcon, ipv4())
    advance(sim, 5)
    changes = {"id": one, "severity": "low", "expiration": "2026-12-24T00:00:00Z"}
    answer = falcon.indicator_update(body={"comment": "longer", "indicators": [changes]})
    assert (answer["status_code"], answer["body"]["errors"]) == (200, [])
    [after] = answer["body"]["resources"]
    assert after.items() >= (ipv4() | changes).items()
    assert after["modified_on"] > after["created_on"]


def test_update_refuses_what_create_refuses(sim: SimServer, falcon: IOC) -> None:
    [one] = created(falcon, ipv4())
    for changes in ({"action": "prevent"}, {"value": "198.51.100.9"}, {"id": "0" * 64}, {"platforms": []}):
        answer = falcon.indicator_update(body={"indicators": [{"id": one} | changes]})
        assert answer["status_code"] == 400, changes
    assert held(sim)[0]["action"] == "detect"


def test_a_bulk_update_takes_a_filter(sim: SimServer, falcon: IOC) -> None:
    created(falcon, ipv4(), ipv4("198.51.100.8", source="somebody-else"))
    bulk = {"filter": "source:'airflow-threat-response'", "action": "no_action"}
    answer = falcon.indicator_update(body={"bulk_update": bulk})
    assert answer["status_code"] == 200
    assert [i["action"] for i in held(sim)] == ["no_action", "detect"]


def test_delete_by_id(sim: SimServer, falcon: IOC) -> None:
    one, two = created(falcon, ipv4(), ipv4("198.51.100.8"))
    answer = falcon.indicator_delete(ids=[one], comment="lifted")
    assert (answer["status_code"], answer["body"]["resources"], answer["body"]["errors"]) == (200, [one], [])
    assert [i["id"] for i in held(sim)] == [two]
    assert sim.state("crowdstrike_falcon")["audit"][-1]["comment"] == "lifted"
    assert falcon.indicator_delete(ids=[one])["status_code"] == 404
    partly = falcon.indicator_delete(ids=[one, two])
    assert (partly["status_code"], partly["body"]["resources"]) == (200, [two])
    assert [(e["code"], e["id"]) for e in partly["body"]["errors"]] == [(404, one)]
    created(falcon, ipv4())  # the value is free again


def test_the_filter_wins_over_ids_when_deleting(sim: SimServer, falcon: IOC) -> None:
    one, two = created(falcon, ipv4(), ipv4("198.51.100.8"))
    answer = falcon.indicator_delete(ids=[one], filter="value:'198.51.100.8'")
    assert answer["body"]["resources"] == [two]
    assert [i["id"] for i in held(sim)] == [one]
    url = f"{sim.url}/iocs/entities/indicators/v1"
    assert requests.delete(url, headers=bearer(sim), timeout=10).status_code == 400


# Finding


@pytest.fixture
def stock(sim: SimServer) -> SimServer:
    sim.seed(
        "crowdstrike_falcon",
        {
            "indicators": [
                ipv4("198.51.100.1", severity="low", created_on="2026-10-01T00:00:00Z"),
                ipv4("198.51.100.2", source="o'brien", created_on="2026-10-02T00:00:00Z"),
                ipv4("bad.example", type="domain", severity="critical", created_on="2026-10-03T00:00:00Z"),
                {"type": "md5", "value": "0b" * 16, "metadata": {"filename": "a.exe"}, "action": "prevent"},
            ],
            "devices": {"ipv4:198.51.100.1": 3},
        },
    )
    return sim


@pytest.mark.parametrize(
    ("fql", "values"),
    [
        ("type:'ipv4'", ["198.51.100.1", "198.51.100.2"]),
        ("type:'ipv4'+value:'198.51.100.2'", ["198.51.100.2"]),
        ('type:"domain"', ["bad.example"]),
        ("type:['domain','md5']", ["bad.example", "0b" * 16]),
        ("value:'BAD.EXAMPLE'", ["bad.example"]),
        ("source:'o\\'brien'", ["198.51.100.2"]),
        ("created_on:<='2026-10-02'", ["198.51.100.1", "198.51.100.2"]),
        ("created_on:>'2026-10-02T00:00:00Z'+type:'domain'", ["bad.example"]),
        ("severity_number:>=70", ["198.51.100.2", "bad.example"]),
        ("value:'198.51.100.1',value:'bad.example'+type:'domain'", ["198.51.100.1", "bad.example"]),
        ("value:'bad.example'+type:'ipv4',type:'md5'", ["0b" * 16]),
        ("metadata.filename.raw:'a.exe'", ["0b" * 16]),
        ("expired:false+action:'prevent'", ["0b" * 16]),
        ("applied_globally:true+type:'nothing'", []),
    ],
)
def test_filters(stock: SimServer, falcon: IOC, fql: str, values: list[str]) -> None:
    answer = falcon.indicator_combined(filter=fql)
    assert answer["status_code"] == 200, answer["body"]
    assert [r["value"] for r in answer["body"]["resources"]] == values


@pytest.mark.parametrize(
    "fql",
    [
        "type:ipv4",
        "_all:~'x'",
        "type:!'ipv4'",
        "(type:'ipv4')",
        "type:'ipv4'+",
        "type:'ipv4' value:'x'",
        "type:['ipv4'",
        "nonsense:'x'",
        "type:<'ipv4'",
        "created_on:<'yesterday'",
        "type:'ipv4",
    ],
)
def test_a_filter_outside_the_subset_is_refused(stock: SimServer, falcon: IOC, fql: str) -> None:
    assert falcon.indicator_search(filter=fql)["status_code"] == 400
    assert falcon.indicator_delete(filter=fql)["status_code"] == 400
    assert len(held(stock)) == 4


def test_a_value_that_looks_like_a_filter_stays_a_value(stock: SimServer, falcon: IOC) -> None:
    assert falcon.indicator_search(filter="value:'x\\',type:\\'ipv4'")["body"]["resources"] == []


def test_pages_by_after_skip_nothing_when_the_list_shrinks(sim: SimServer, falcon: IOC) -> None:
    ids = created(falcon, *[ipv4(f"198.51.100.{n}") for n in range(10)])
    first = falcon.indicator_search(limit=4)["body"]
    assert first["resources"] == ids[:4]
    assert first["meta"]["pagination"]["total"] == 10
    falcon.indicator_delete(ids=ids[:4])
    second = falcon.indicator_search(limit=4, after=first["meta"]["pagination"]["after"])["body"]
    assert second["resources"] == ids[4:8]
    third = falcon.indicator_search(limit=4, after=second["meta"]["pagination"]["after"])["body"]
    assert third["resources"] == ids[8:]
    # Recorded three times: the last page has a token as well. The one after it is empty and has none.
    last = falcon.indicator_search(limit=4, after=third["meta"]["pagination"]["after"])["body"]
    assert last["resources"] == []
    assert "after" not in last["meta"]["pagination"]


def test_pages_by_offset(sim: SimServer, falcon: IOC) -> None:
    ids = created(falcon, *[ipv4(f"198.51.100.{n}") for n in range(5)])
    answer = falcon.indicator_search(limit=2, offset=4)["body"]
    assert answer["resources"] == ids[4:]
    assert answer["meta"]["pagination"] == {"limit": 2, "offset": 4, "total": 5}


def test_sorting(stock: SimServer, falcon: IOC) -> None:
    for sort, first in (("created_on|desc", "0b" * 16), ("severity_number.desc", "bad.example"), ("value", "0b" * 16)):
        page = falcon.indicator_combined(sort=sort, limit=1)["body"]
        assert page["resources"][0]["value"] == first, sort
        values = [first]
        while len(values) < page["meta"]["pagination"]["total"]:
            after = page["meta"]["pagination"]["after"]
            page = falcon.indicator_combined(sort=sort, limit=1, after=after)["body"]
            values.append(page["resources"][0]["value"])
        assert len(set(values)) == 4


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 501},
        {"limit": 0},
        {"offset": 1, "after": "x"},
        {"offset": 9999, "limit": 100},
        {"after": "???"},
        {"sort": "nonsense|desc"},
    ],
)
def test_bad_paging_is_refused(sim: SimServer, params: dict[str, Any]) -> None:
    url = f"{sim.url}/iocs/queries/indicators/v1"
    assert requests.get(url, params=params, headers=bearer(sim), timeout=10).status_code == 400


def test_vocabularies(sim: SimServer, falcon: IOC) -> None:
    assert falcon.ioc_type_query()["body"]["resources"] == ["sha256", "md5", "domain", "ipv4", "ipv6"]
    assert "prevent_no_ui" in falcon.action_query()["body"]["resources"]
    assert "windows" in falcon.platform_query()["body"]["resources"]
    assert falcon.severity_query(offset=1, limit=2)["body"]["resources"] == ["low", "medium"]


def test_the_blast_radius(stock: SimServer, falcon: IOC) -> None:
    for value, count in (("198.51.100.1", 3), ("198.51.100.250", 0)):
        [resource] = falcon.devices_count(type="ipv4", value=value)["body"]["resources"]
        assert resource["device_count"] == count
    assert falcon.devices_count(type="ipv4", value="x")["status_code"] == 400


def test_a_late_indicator_appears_at_its_time(sim: SimServer, falcon: IOC) -> None:
    sim.seed("crowdstrike_falcon", {"indicators": [ipv4(_available_at="2026-11-24T12:10:00Z")]})
    assert falcon.indicator_search()["body"]["resources"] == []
    sim.set_clock("2026-11-24T12:10:00Z")
    [indicator] = falcon.indicator_combined()["body"]["resources"]
    assert not [k for k in indicator if k.startswith("_")]


def test_unknown_ids_and_paths(sim: SimServer, falcon: IOC) -> None:
    assert falcon.indicator_get(ids="0" * 64)["status_code"] == 404
    answer = requests.get(f"{sim.url}/iocs/combined/indicators/v1", headers=bearer(sim), timeout=10)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, 404)  # the real path is singular


# Faults and the contract


def test_a_create_whose_answer_is_lost_is_there_once(sim: SimServer, falcon: IOC) -> None:
    falcon.indicator_search()  # the token first, so that the fault meets the create
    sim.fault("crowdstrike_falcon", "reset_after_commit", method="POST", path="indicators")
    assert create(falcon, ipv4())["status_code"] == 500  # falconpy says this for a lost connection
    again = create(falcon, ipv4())
    assert again["status_code"] == 400
    assert "Duplicate type" in again["body"]["resources"][0]["message"]
    assert len(held(sim)) == 1


def test_an_injected_429_carries_the_epoch(sim: SimServer, falcon: IOC) -> None:
    falcon.indicator_search()
    sim.fault("crowdstrike_falcon", "status", status=429, path="/iocs")
    headers = CaseInsensitiveDict(falcon.indicator_search()["headers"])
    assert int(headers["X-RateLimit-RetryAfter"]) > sim.world.clock.timestamp()


def test_answers_fit_the_derived_openapi_file(stock: SimServer, falcon: IOC) -> None:
    if not SPEC.exists():
        pytest.skip("needs ../shared/specs/edr/crowdstrike, not present")
    spec = json.loads(SPEC.read_text())

    def fits(method: str, path: str, answer: dict[str, Any]) -> None:
        content = spec["paths"][path][method]["responses"][str(answer["status_code"])]["content"]
        schema = nullable(content["application/json"]["schema"])
        resolver = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": components, **schema}
        jsonschema.validate(answer["body"], resolver)

    components = nullable(spec["components"])
    entities = "/iocs/entities/indicators/v1"
    good = create(falcon, ipv4())
    one = good["body"]["resources"][0]["id"]
    fits("post", entities, good)
    fits("post", entities, create(falcon, ipv4()))
    fits("get", entities, falcon.indicator_get(ids=one))
    fits("patch", entities, falcon.indicator_update(body={"indicators": [{"id": one, "severity": "low"}]}))
    fits("get", "/iocs/combined/indicator/v1", falcon.indicator_combined())
    fits("get", "/iocs/queries/indicators/v1", falcon.indicator_search(limit=2))
    fits("get", "/iocs/queries/indicators/v1", falcon.indicator_search(filter="x"))
    fits("get", "/iocs/aggregates/indicators/device-count/v1", falcon.devices_count(type="ipv4", value="x"))
    fits("delete", entities, falcon.indicator_delete(ids=one))
    auth = OAuth2(client_id=CLIENT, client_secret=SECRET, base_url=stock.url, timeout=10)
    fits("post", "/oauth2/token", auth.token())


def nullable(schema: Any) -> Any:
    """OpenAPI 3.0's ``nullable`` in JSON Schema's words."""
    if isinstance(schema, list):
        return [nullable(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {k: nullable(v) for k, v in schema.items() if k != "nullable"}
    if schema.get("nullable") is True:
        changed["type"] = [changed["type"], "null"]
    return changed
