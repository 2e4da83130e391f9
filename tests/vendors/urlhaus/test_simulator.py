"""The URLhaus simulator answers as the vendor's page and recorded answers say. There is no SDK to judge it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import SimServer, start_simulators

RECORDED = Path(__file__).resolve().parents[3] / ".." / "shared/data/api-samples/wtfis"
KEY = {"Auth-Key": "demo-urlhaus-key"}
SHA256, MD5 = "0123456789abcdef" * 4, "0123456789abcdef" * 2
URL = "http://203.0.113.9/mirai.mips"


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["urlhaus"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock("2026-11-24T12:00:00Z")
    file = {"sha256": SHA256, "md5": MD5, "signature": "Mirai", "file_type": "elf", "size": 7}
    server.seed(
        "urlhaus",
        {
            "urls": [
                {"url": URL, "tags": ["elf"], "payloads": [file]},
                {
                    "url": "http://203.0.113.9/old",
                    "url_status": "offline",
                    "larted": False,
                    "date_added": "2026-10-24 12:00:00 UTC",
                    "payloads": [file],
                },
                {"url": "https://files.example/x"},
            ],
            "blacklists": {"files.example": {"spamhaus_dbl": "abused_legit_malware"}},
        },
    )
    return server


def ask(sim: SimServer, endpoint: str, headers: dict[str, str] | None = None, **form: str) -> requests.Response:
    return requests.post(f"{sim.url}/v1/{endpoint}/", data=form, headers=headers or KEY, timeout=10)


def test_a_host_with_numbers_and_booleans_as_text(sim: SimServer) -> None:
    host = ask(sim, "host", host="203.0.113.9").json()
    urls = host.pop("urls")
    assert host == {
        "query_status": "ok",
        "urlhaus_reference": "https://urlhaus.abuse.ch/host/203.0.113.9/",
        "host": "203.0.113.9",
        "firstseen": "2026-10-24 12:00:00 UTC",
        "url_count": "2",
        "blacklists": {"spamhaus_dbl": "not listed", "surbl": "not listed"},
    }
    assert [u["url_status"] for u in urls] == ["online", "offline"]  # the newest first
    assert [u["larted"] for u in urls] == ["true", "false"]
    assert [u["takedown_time_seconds"] for u in urls] == [None, "130171"]
    assert [u["tags"] for u in urls] == [["elf"], None]
    assert ask(sim, "host", host="FILES.example").json()["blacklists"]["spamhaus_dbl"] == "abused_legit_malware"


@pytest.mark.parametrize(
    ("name", "host"), [("urlhaus_1.1.1.1", "1.1.1.1"), ("urlhaus_gist", "gist.github.com")], ids=["1.1.1.1", "gist"]
)
def test_the_shape_is_the_recorded_one(sim: SimServer, name: str, host: str) -> None:
    if not (RECORDED / f"{name}.json").is_file():
        pytest.skip("needs ../shared/data/api-samples/wtfis, not present")
    recorded = json.loads((RECORDED / f"{name}.json").read_bytes())[host]
    simulated = ask(sim, "host", host="203.0.113.9").json()

    def shape(document: dict[str, Any]) -> dict[str, str]:
        return {k: type(v).__name__ for k, v in document.items()}

    assert shape(simulated) == shape(recorded)
    assert shape(simulated["blacklists"]) == shape(recorded["blacklists"])
    assert set(simulated["urls"][0]) == set(recorded["urls"][0])
    optional = {"tags", "takedown_time_seconds"}
    for row in simulated["urls"]:
        kinds = shape(row)
        assert {k: kinds[k] for k in set(kinds) - optional} == {
            k: v for k, v in shape(recorded["urls"][0]).items() if k not in optional
        }


def test_a_url_and_what_it_served(sim: SimServer) -> None:
    answer = ask(sim, "url", url=URL).json()
    assert (answer["query_status"], answer["url_status"], answer["host"]) == ("ok", "online", "203.0.113.9")
    [payload] = answer["payloads"]
    assert (payload["response_sha256"], payload["response_size"], payload["signature"]) == (SHA256, "7", "Mirai")


@pytest.mark.parametrize("field", [{"md5_hash": MD5}, {"sha256_hash": SHA256.upper()}], ids=["md5", "sha256"])
def test_a_file_and_where_it_came_from(sim: SimServer, field: dict[str, str]) -> None:
    answer = ask(sim, "payload", **field).json()
    assert (answer["query_status"], answer["md5_hash"], answer["sha256_hash"]) == ("ok", MD5, SHA256)
    assert (answer["url_count"], answer["file_size"], answer["signature"]) == ("2", "7", "Mirai")
    assert (answer["firstseen"], answer["lastseen"]) == ("2026-10-24 12:00:00", "2026-11-24 12:00:00")
    assert [u["url_status"] for u in answer["urls"]] == ["online", "offline"]


@pytest.mark.parametrize(
    ("endpoint", "form", "word"),
    [
        ("host", {"host": "203.0.113.10"}, "no_results"),
        ("url", {"url": "http://203.0.113.9/other"}, "no_results"),
        ("payload", {"md5_hash": "f" * 32}, "no_results"),
        ("host", {"host": "not a host"}, "invalid_host"),
        ("host", {"host": "2001:db8::1"}, "invalid_host"),
        ("host", {}, "invalid_host"),
        ("url", {"url": "203.0.113.9/mirai.mips"}, "invalid_url"),
        ("payload", {"md5_hash": SHA256}, "invalid_md5"),
        ("payload", {"sha256_hash": "ab"}, "invalid_sha256"),
    ],
)
def test_every_word_is_a_200(sim: SimServer, endpoint: str, form: dict[str, str], word: str) -> None:
    answer = ask(sim, endpoint, **form)
    assert (answer.status_code, answer.json()) == (200, {"query_status": word})


def test_the_key_is_needed(sim: SimServer) -> None:
    nobody = ask(sim, "host", {"Accept": "*/*"}, host="203.0.113.9")
    assert (nobody.status_code, nobody.json()) == (401, {"error": "Unauthorized"})
    stranger = ask(sim, "host", {"Auth-Key": "wrong"}, host="203.0.113.9")
    assert (stranger.status_code, stranger.json()) == (403, {"query_status": "unknown_auth_key"})


def test_a_get_and_an_unknown_field_are_refused(sim: SimServer) -> None:
    answer = requests.get(f"{sim.url}/v1/host/", headers=KEY, timeout=10)
    assert (answer.status_code, answer.json()) == (200, {"query_status": "http_post_expected"})
    assert ask(sim, "host", host="203.0.113.9", url=URL).status_code == 400
    assert requests.post(f"{sim.url}/v1/host/", json={"host": "203.0.113.9"}, headers=KEY, timeout=10).json() == {
        "query_status": "invalid_host"
    }


def test_the_path_may_lack_its_slash(sim: SimServer) -> None:
    answer = requests.post(f"{sim.url}/v1/host", data={"host": "203.0.113.9"}, headers=KEY, timeout=10)
    assert answer.json() == ask(sim, "host", host="203.0.113.9").json()


def test_the_vendors_typo_on_demand(sim: SimServer) -> None:
    sim.configure("urlhaus", misspell_status=True)
    answer = ask(sim, "host", host="203.0.113.9").json()
    assert ("query_status" in answer, answer["query_staus"]) == (False, "ok")


def test_a_typo_in_a_seed_is_named(sim: SimServer) -> None:
    document = {"urls": [{"url": URL, "status": "online"}]}
    answer = requests.post(f"{sim.url}/_sim/urlhaus/seed", json=document, timeout=10)
    assert (answer.status_code, "status" in answer.text) == (400, True)
