"""The feed server: validators, refusals of pulls that come too soon, and locked feeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support import SimServer, start_simulators

DROP = '{"cidr":"203.0.113.0/25","sblid":"SBL1","rir":"apnic"}\n{"type":"metadata","records":1}\n'


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    server = start_simulators(["list_feed"])
    yield server
    server.stop()


@pytest.fixture
def sim(server: SimServer) -> SimServer:
    server.world.reset()
    server.set_clock("2026-11-24T12:00:00Z")
    server.seed("list_feed", {"files": {"drop_v4.json": DROP, "demo-domains.txt": "bad.example\n"}})
    return server


def pull(sim: SimServer, name: str = "drop_v4.json", **options: Any) -> requests.Response:
    return requests.get(f"{sim.url}/feeds/{name}", timeout=10, **options)


def test_a_file_comes_with_its_validators(sim: SimServer) -> None:
    answer = pull(sim)
    assert answer.text == DROP
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Last-Modified"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert pull(sim, "demo-domains.txt").headers["Content-Type"].startswith("text/plain")


def test_nothing_is_sent_again_unless_it_changed(sim: SimServer) -> None:
    first = pull(sim)
    by_tag = {"If-None-Match": first.headers["ETag"]}
    by_date = {"If-Modified-Since": first.headers["Last-Modified"]}
    for validators in (by_tag, by_date):
        again = pull(sim, headers=validators)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]

    sim.set_clock("2026-11-24T13:00:00Z")
    sim.seed("list_feed", {"files": {"drop_v4.json": DROP, "demo-domains.txt": "worse.example\n"}})
    assert pull(sim, headers=by_tag).status_code == 304  # seeded again with the same text
    sim.seed("list_feed", {"files": {"drop_v4.json": DROP.replace("/25", "/26")}})
    for validators in (by_tag, by_date):
        changed = pull(sim, headers=validators)
        assert changed.status_code == 200
        assert "/26" in changed.text


def test_the_tag_wins_over_the_date(sim: SimServer) -> None:
    date = pull(sim).headers["Last-Modified"]
    assert pull(sim, headers={"If-None-Match": '"other"', "If-Modified-Since": date}).status_code == 200
    assert pull(sim, headers={"If-Modified-Since": "not a date"}).status_code == 200


def test_an_unknown_file_is_404(sim: SimServer) -> None:
    answer = pull(sim, "nothing.txt")
    assert answer.status_code == 404
    assert "404 Not Found" in answer.text


def test_a_late_file_appears_at_its_time(sim: SimServer) -> None:
    sim.seed("list_feed", {"files": {"late.txt": {"text": "x", "_available_at": "2026-11-24T13:00:00Z"}}})
    assert pull(sim, "late.txt").status_code == 404
    sim.set_clock("2026-11-24T13:00:00Z")
    assert pull(sim, "late.txt").headers["Last-Modified"] == "Tue, 24 Nov 2026 13:00:00 GMT"


def test_pulling_too_often_is_refused(sim: SimServer) -> None:
    sim.configure("list_feed", min_interval_seconds=3600)
    tag = pull(sim).headers["ETag"]
    refused = pull(sim, headers={"If-None-Match": tag})
    assert refused.status_code == 429
    assert 3590 <= int(refused.headers["Retry-After"]) <= 3600
    assert pull(sim, "demo-domains.txt").status_code == 200  # each file has its own interval

    sim.configure("list_feed", refusal_status=403)
    firewalled = pull(sim)
    assert firewalled.status_code == 403
    assert "Retry-After" not in firewalled.headers

    sim.set_clock("2026-11-24T13:01:00Z")
    assert pull(sim, headers={"If-None-Match": tag}).status_code == 304
    assert sim.state("list_feed")["files"]["drop_v4.json"]["pulls"] == 2


def test_a_feed_behind_a_password(sim: SimServer) -> None:
    sim.configure("list_feed", basic_user="feed", basic_password="secret")
    refused = pull(sim)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="feeds"')
    assert pull(sim, auth=("feed", "wrong")).status_code == 401
    assert pull(sim, auth=("feed", "secret")).status_code == 200


def test_a_feed_behind_a_key(sim: SimServer) -> None:
    sim.configure("list_feed", header_name="Auth-Key", header_value="secret")
    assert pull(sim).status_code == 401
    assert pull(sim, headers={"Auth-Key": "secret"}).status_code == 200


def test_injected_faults(sim: SimServer) -> None:
    sim.fault("list_feed", "status", status=429, headers={"Retry-After": "60"})
    assert (busy := pull(sim)).status_code == 429
    assert busy.headers["Retry-After"] == "60"
    sim.fault("list_feed", "html", status=200)
    assert pull(sim).headers["Content-Type"].startswith("text/html")
    sim.fault("list_feed", "truncate")
    assert DROP.startswith(pull(sim).text)
    assert pull(sim).text == DROP
