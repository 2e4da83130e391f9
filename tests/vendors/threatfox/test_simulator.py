"""The ThreatFox simulator answers as recorded answers say, and takes what abuse.ch's own scripts send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import urllib3

from tests.support import SimServer, start_simulators

KEY = {"Auth-Key": "demo-threatfox-key"}
SHA256, MD5 = "0123456789abcdef" * 4, "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["threatfox"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock("2026-11-24T12:00:00Z")
    iocs = [
        {
            "ioc": "203.0.113.9:443",
            "malware": "win.cobalt_strike",
            "malware_printable": "Cobalt Strike",
            "confidence_level": 75,
            "samples": [{"sha256": SHA256, "md5": MD5}],
        },
        {"ioc": "203.0.113.90:80", "tags": ["elf"]},
        {"ioc": "evil.example", "first_seen": "2026-06-24 12:00:00 UTC"},
        {"ioc": "http://evil.example/gate.php"},
        {"ioc": "f" * 64},
    ]
    server.seed("threatfox", {"iocs": iocs})
    return server


def ask(sim: SimServer, headers: dict[str, str] | None = None, **body: Any) -> requests.Response:
    # As text: the vendor's own script sends no Content-Type at all.
    return requests.post(f"{sim.url}/api/v1/", data=json.dumps(body), headers=headers or KEY, timeout=10)


def found(sim: SimServer, **body: Any) -> list[str]:
    answer = ask(sim, **body).json()
    assert answer["query_status"] == "ok"
    return [row["ioc"] for row in answer["data"]]


def test_the_vendors_own_scripts(sim: SimServer) -> None:
    """J11. abusech/ThreatFox, threatfox_search_ioc.py and threatfox_query_tag.py: urllib3, a key, no Content-Type."""
    with urllib3.PoolManager(headers=KEY) as pool:
        body = json.dumps({"query": "search_ioc", "search_term": "203.0.113.9"})
        answer = json.loads(pool.request("POST", f"{sim.url}/api/v1/", body=body).data)
        assert answer["query_status"] == "ok"
        assert "203.0.113.9:443" in [row["ioc"] for row in answer["data"]]
        body = json.dumps({"query": "taginfo", "tag": "elf", "limit": 10})  # not imitated, and said so
        assert json.loads(pool.request("POST", f"{sim.url}/api/v1/", body=body).data) == {
            "query_status": "unknown_query"
        }


def test_a_row_as_recorded(sim: SimServer) -> None:
    row = ask(sim, query="search_ioc", search_term="203.0.113.9:443", exact_match=True).json()["data"][0]
    samples = row.pop("malware_samples")
    assert row == {
        "id": "1400001",
        "ioc": "203.0.113.9:443",
        "threat_type": "botnet_cc",
        "threat_type_desc": "Indicator that identifies a botnet command&control server (C&C)",
        "ioc_type": "ip:port",
        "ioc_type_desc": "ip:port combination that is used for botnet Command&control (C&C)",
        "malware": "win.cobalt_strike",
        "malware_printable": "Cobalt Strike",
        "malware_alias": None,
        "malware_malpedia": "https://malpedia.caad.fkie.fraunhofer.de/details/win.cobalt_strike",
        "confidence_level": 75,
        "is_compromised": False,
        "first_seen": "2026-11-24 12:00:00 UTC",
        "last_seen": None,
        "reference": None,
        "reporter": "abuse_ch",
        "tags": None,
    }
    assert [(s["md5_hash"], s["sha256_hash"]) for s in samples] == [(MD5, SHA256)]


def test_a_term_is_looked_for_anywhere_unless_it_is_exact(sim: SimServer) -> None:
    assert found(sim, query="search_ioc", search_term="203.0.113.9") == ["203.0.113.9:443", "203.0.113.90:80"]
    assert found(sim, query="search_ioc", search_term="EVIL.example") == [
        "evil.example",
        "http://evil.example/gate.php",
    ]
    assert found(sim, query="search_ioc", search_term="evil.example", exact_match=True) == ["evil.example"]


@pytest.mark.parametrize("digest", [MD5, SHA256.upper()], ids=["md5", "sha256"])
def test_a_hash_finds_the_indicators_of_its_malware(sim: SimServer, digest: str) -> None:
    assert found(sim, query="search_hash", hash=digest) == ["203.0.113.9:443"]
    assert found(sim, query="search_hash", hash="f" * 64) == ["f" * 64]


@pytest.mark.parametrize(
    "body",
    [
        {"query": "search_ioc", "search_term": "203.0.113.9", "exact_match": True},  # it is listed with its port
        {"query": "search_ioc", "search_term": "clean.example"},
        {"query": "search_hash", "hash": "0" * 32},
    ],
    ids=["address", "name", "hash"],
)
def test_nothing_found_turns_data_into_a_sentence(sim: SimServer, body: dict[str, Any]) -> None:
    answer = ask(sim, **body)
    assert (answer.status_code, answer.json()) == (
        200,
        {"query_status": "no_result", "data": "Your search did not yield any results"},
    )


def test_old_indicators_are_gone(sim: SimServer) -> None:
    sim.set_clock("2026-12-31T12:00:00Z")
    assert found(sim, query="search_ioc", search_term="evil.example") == ["http://evil.example/gate.php"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"query": "search_ioc", "search_term": "ab"}, "illegal_search_term"),
        ({"query": "search_ioc"}, "illegal_search_term"),
        ({"query": "search_ioc", "search_term": "evil.example", "exact_match": "yes"}, "illegal_search_term"),
        ({"query": "search_hash", "hash": "ab" * 20}, "illegal_hash"),
        ({"query": "malwareinfo"}, "unknown_query"),
        ({}, "unknown_query"),
    ],
)
def test_every_word_is_a_200(sim: SimServer, body: dict[str, Any], word: str) -> None:
    answer = ask(sim, **body)
    assert (answer.status_code, answer.json()) == (200, {"query_status": word})


def test_the_key_is_needed(sim: SimServer) -> None:
    body = {"query": "search_ioc", "search_term": "evil.example"}
    nobody = ask(sim, {"Accept": "*/*"}, **body)
    assert (nobody.status_code, nobody.json()) == (401, {"error": "Unauthorized"})
    stranger = ask(sim, {"Auth-Key": "wrong"}, **body)
    assert (stranger.status_code, stranger.json()) == (403, {"query_status": "unknown_auth_key"})
    # The package on the registry says it like this, and so does not work any more.
    assert ask(sim, {"api-key": KEY["Auth-Key"]}, **body).status_code == 401


def test_an_unknown_member_and_other_bodies_are_refused(sim: SimServer) -> None:
    assert ask(sim, query="search_ioc", search_term="evil.example", exactmatch=True).status_code == 400
    form = requests.post(f"{sim.url}/api/v1/", data={"query": "search_ioc"}, headers=KEY, timeout=10)
    assert form.json() == {"query_status": "illegal_json"}
    get = requests.get(f"{sim.url}/api/v1/", headers=KEY, timeout=10)
    assert get.json() == {"query_status": "http_post_expected"}


def test_a_typo_in_a_seed_is_named(sim: SimServer) -> None:
    answer = requests.post(f"{sim.url}/_sim/threatfox/seed", json={"iocs": [{"ico": "evil.example"}]}, timeout=10)
    assert (answer.status_code, "ico" in answer.text) == (400, True)
