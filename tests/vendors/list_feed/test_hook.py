"""Block lists over HTTP and from object storage: the newest good copy, and what is done without one."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected
from tests.soar.examples import NOW
from tests.stages import controls
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.vendors.list_feed import api
from threat_response.vendors.list_feed.api import Source
from threat_response.vendors.list_feed.hook import ListFeedHook

HOUR = timedelta(hours=1)
DROP = Source("drop", "drop", "/feeds/drop_v4.json", 100)
LINES = [json.dumps({"cidr": f"203.0.113.{n}/32", "sblid": f"SBL{n}", "rir": "apnic"}) for n in range(10)]
FULL = "\n".join([*LINES, '{"type":"metadata","records":10}'])
#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return tmp_path


def connected(monkeypatch: pytest.MonkeyPatch, sim: SimServer, **fields: Any) -> ListFeedHook:
    fields = {"lists": "drop drop /feeds/drop_v4.json", **fields}
    connect(monkeypatch, "list_feed_default", "list_feed", sim, **fields)
    return ListFeedHook()


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> ListFeedHook:
    publish(sim, FULL)
    return connected(monkeypatch, sim)


def publish(sim: SimServer, text: str) -> None:
    sim.seed("list_feed", {"files": {"drop_v4.json": text}})


def refresh(hook: ListFeedHook, after: timedelta = timedelta(0), source: Source = DROP) -> dict[str, Any]:
    return hook.refresh(source, now=NOW + after, not_before=HOUR)


def pulls(sim: SimServer) -> list[int]:
    return [call["status"] for call in sim.calls("list_feed")]


def test_the_first_copy(hook: ListFeedHook, sim: SimServer, home: Path) -> None:
    reference = refresh(hook)
    assert (reference["name"], reference["entries"], reference["fetched_at"]) == ("drop", 10, NOW.isoformat())
    assert hook.load(reference) == sorted(f"network:203.0.113.{n}/32" for n in range(10))
    assert Path(reference["uri"].removeprefix("file://")).is_relative_to(home)
    assert reference["etag"] == sim.state("list_feed")["files"]["drop_v4.json"]["etag"]
    json.dumps(reference)  # it travels by XCom


def test_a_young_copy_is_used_as_it_is(hook: ListFeedHook, sim: SimServer) -> None:
    first = refresh(hook)
    assert refresh(hook, HOUR - timedelta(seconds=1)) == first
    assert pulls(sim) == [200]


def test_an_unchanged_list_is_not_sent_again(hook: ListFeedHook, sim: SimServer) -> None:
    first = refresh(hook)
    second = refresh(hook, HOUR)
    assert pulls(sim) == [200, 304]
    assert second == first | {"fetched_at": (NOW + HOUR).isoformat()}
    refresh(hook, HOUR * 1.5)
    assert pulls(sim) == [200, 304]  # the hour begins anew


def test_a_changed_list_is_a_new_copy_and_the_old_one_stays(hook: ListFeedHook, sim: SimServer) -> None:
    first = refresh(hook)
    publish(sim, "\n".join(LINES[:8]))
    second = refresh(hook, HOUR)
    assert (second["entries"], second["uri"] != first["uri"]) == (8, True)
    assert len(hook.load(first)) == 10  # a run that began with it can still be repeated


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_with_a_copy_a_fault_costs_nothing_but_age(
    hook: ListFeedHook,
    sim: SimServer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    first = refresh(hook)
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.3)
    sim.fault("list_feed", kind, **options)
    publish(sim, FULL + "\n")
    if error is Unauthorized:  # a person must act, and would never learn of it
        with pytest.raises(Unauthorized):
            refresh(hook, HOUR)
    else:
        assert refresh(hook, HOUR) == first
    assert len(pulls(sim)) == 2  # one question, also when it is refused


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_without_a_copy_a_fault_is_an_error(
    hook: ListFeedHook,
    sim: SimServer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.3)
    sim.fault("list_feed", kind, **options)
    # A list that was cut cannot be told from one that is wrong.
    with pytest.raises(Unexpected if kind == "truncate" else error):
        refresh(hook)
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 20)
    assert refresh(hook)["entries"] == 10  # nothing of the failure was kept


def test_a_list_that_shrank_by_more_than_half_was_cut(hook: ListFeedHook, sim: SimServer) -> None:
    first = refresh(hook)
    publish(sim, "\n".join(LINES[:4]))
    assert refresh(hook, HOUR) == first
    publish(sim, "\n".join(LINES[:5]))
    assert refresh(hook, HOUR * 2)["entries"] == 5


@pytest.mark.parametrize(("largest_loss", "kept"), [(0, 10), (30, 10), (31, 10), (40, 6), (100, 6)])
def test_how_much_a_list_may_lose_is_the_connections_word(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, largest_loss: int, kept: int
) -> None:
    publish(sim, FULL)
    hook = connected(monkeypatch, sim, largest_loss=largest_loss)
    refresh(hook)
    publish(sim, "\n".join(LINES[:6]))
    assert refresh(hook, HOUR)["entries"] == kept


def test_a_list_that_is_refused_is_told_loudly_and_not_pulled_again_at_once(
    hook: ListFeedHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    first = refresh(hook)
    publish(sim, "\n".join(LINES[:4]))
    assert refresh(hook, HOUR) == first
    printed = capsys.readouterr().out
    assert "[error" in printed
    assert "shrank from 10 to 4 entries" in printed
    assert refresh(hook, HOUR * 1.9) == first
    assert pulls(sim) == [200, 200]


def test_lines_that_cannot_be_read_are_kept_aside(hook: ListFeedHook, sim: SimServer) -> None:
    assert (refresh(hook)["broken"], refresh(hook)["broken_uri"]) == (0, None)
    odd = '{"cidr":"203.0.113.300/32"}'
    publish(sim, "\n".join([*LINES[:9], odd]))
    reference = refresh(hook, HOUR)
    assert (reference["entries"], reference["broken"]) == (9, 1)
    kept = Path(reference["broken_uri"].removeprefix("file://")).read_bytes()
    assert gzip.decompress(kept).decode() == odd


def test_a_list_that_never_ends(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hook: ListFeedHook
) -> None:
    first = refresh(hook)
    publish(sim, "203.0.113.7\n" * 100_000)
    small = connected(monkeypatch, sim, largest_megabytes=1)
    assert refresh(small, HOUR) == first
    (tmp_path / "team.txt").write_text("203.0.113.7\n" * 100_000, encoding="utf-8")
    with pytest.raises(Unexpected, match="longer than 1,048,576 bytes"):
        refresh(small, source=Source("again", "plain", "/feeds/drop_v4.json", 100))
    with pytest.raises(Unexpected, match="longer than 1,048,576 bytes"):
        refresh(small, source=Source("team", "plain", f"file://{tmp_path}/team.txt", 100))


def test_a_table(hook: ListFeedHook, sim: SimServer) -> None:
    sim.seed("list_feed", {"files": {"tracker.csv": "ip,port\n203.0.113.7,443\n"}})
    assert hook.load(refresh(hook, source=Source("t", "csv:ip", "/feeds/tracker.csv", 80))) == [
        "network:203.0.113.7/32"
    ]


def test_a_copy_that_is_gone_or_not_whole(hook: ListFeedHook) -> None:
    reference = refresh(hook)
    path = Path(reference["uri"].removeprefix("file://"))
    for content in (path.read_bytes()[:-10], b"odd", None):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(Unexpected, match="the copy cannot be read"):
            hook.load(reference)


@pytest.mark.parametrize(
    "extra", [{"largest_loss": "half"}, {"largest_megabytes": 0}, {"stale_after_hours": -1}], ids=str
)
def test_a_wrong_number_of_the_connection_is_named(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]
) -> None:
    publish(sim, FULL)
    hook = connected(monkeypatch, sim, **extra)
    with pytest.raises(Unauthorized, match=next(iter(extra))):
        _ = refresh(hook), hook.stale_after


def test_a_list_that_is_gone_is_an_error(hook: ListFeedHook, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Rejected):
        refresh(hook, source=Source("gone", "plain", "/feeds/gone.txt", 100))


def test_a_list_that_is_gone_for_an_hour_is_gone_on_with(
    hook: ListFeedHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A 404 while its host is changed over: what the list names was "not checked" although its copy was there."""
    first = refresh(hook)
    sim.fault("list_feed", "status", status=404)
    assert refresh(hook, HOUR) == first
    assert "[error" in capsys.readouterr().out


def test_a_list_that_counts_differently_now_starts_anew(hook: ListFeedHook, sim: SimServer) -> None:
    refresh(hook)
    assert refresh(hook, source=Source("drop", "drop", "/feeds/drop_v4.json", 50))["score"] == 50
    assert pulls(sim) == [200, 200]


def test_a_reference_that_a_killed_worker_left_half_written(hook: ListFeedHook, home: Path) -> None:
    first = refresh(hook)
    (path,) = home.rglob("current.json")
    path.write_bytes(path.read_bytes()[:20])
    assert refresh(hook, HOUR) == first | {"fetched_at": (NOW + HOUR).isoformat()}


def test_pulling_too_often_is_refused_and_the_copy_goes_on(hook: ListFeedHook, sim: SimServer) -> None:
    sim.configure("list_feed", min_interval_seconds=3600)
    first = refresh(hook)
    assert hook.refresh(DROP, now=NOW, not_before=timedelta(0)) == first
    assert pulls(sim) == [200, 429]
    with pytest.raises(RateLimited) as caught:  # another worker without our archive
        refresh(hook, source=Source("again", "drop", "/feeds/drop_v4.json", 100))
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 3000


# --- who may read it ---------------------------------------------------------------------------------------------


def test_basic_authentication(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(sim, FULL)
    sim.configure("list_feed", basic_user="reader", basic_password="feed-password")
    with pytest.raises(Unauthorized):
        refresh(connected(monkeypatch, sim))
    with pytest.raises(Unauthorized):
        refresh(connected(monkeypatch, sim, login="reader", password="another-password"))
    assert refresh(connected(monkeypatch, sim, login="reader", password="feed-password"))["entries"] == 10


def test_a_key_in_a_header(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(sim, FULL)
    sim.configure("list_feed", header_name="Auth-Key", header_value="feed-key-1")
    with pytest.raises(Unauthorized):
        refresh(connected(monkeypatch, sim))
    with pytest.raises(Unauthorized, match="has no password"):
        refresh(connected(monkeypatch, sim, key_header="Auth-Key"))
    assert refresh(connected(monkeypatch, sim, key_header="Auth-Key", password="feed-key-1"))["entries"] == 10


def test_neither_password_nor_its_base64_is_seen(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow.sdk.log import redact

    secret = "feed-password"
    basic = base64.b64encode(f"reader:{secret}".encode()).decode()
    hook = connected(monkeypatch, sim, login="reader", password=secret)
    sim.configure("list_feed", basic_user="reader", basic_password="another")
    sim.fault("list_feed", "status", status=401, detail=f"{secret} {basic}", times=1)
    with everything_logged() as lines:
        for _ in range(2):
            hook.test_connection()
        publish(sim, FULL)
        sim.configure("list_feed", basic_password=secret)
        refresh(hook)
    text = "\n".join([*lines, capsys.readouterr().out])
    assert "Test of connection list_feed_default failed" in text
    assert secret not in text
    assert basic not in text
    assert basic not in str(redact(f"Authorization: Basic {basic}"))


# --- other places ------------------------------------------------------------------------------------------------


def test_a_list_in_object_storage(hook: ListFeedHook, sim: SimServer, tmp_path: Path) -> None:
    file = tmp_path / "team.txt"
    source = Source("team", "plain", f"file://{file}", 60)
    with pytest.raises(Unavailable, match="no such object"):
        refresh(hook, source=source)
    file.write_text("203.0.113.7\nbad.example\n", encoding="utf-8")
    first = refresh(hook, source=source)
    assert first["entries"] == 2
    assert refresh(hook, HOUR, source)["digest"] == first["digest"]
    file.unlink()
    assert refresh(hook, HOUR * 2, source)["digest"] == first["digest"]
    assert sim.calls("list_feed") == []


def test_an_object_that_cannot_be_read(hook: ListFeedHook, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        refresh(hook, source=Source("team", "plain", f"file://{tmp_path}", 60))  # a folder
    with pytest.raises(Unauthorized, match="no file system for nosuch://"):
        refresh(hook, source=Source("team", "plain", "nosuch://bucket/team.txt", 60))


# --- the connection ----------------------------------------------------------------------------------------------


def test_the_lists_of_the_connection(hook: ListFeedHook, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook.sources() == [DROP]
    with pytest.raises(Unauthorized, match="no field lists"):
        connected(monkeypatch, sim, lists="").sources()
    with pytest.raises(Unauthorized, match="lists, line 2"):
        connected(monkeypatch, sim, lists="drop drop /a | oops").sources()


def test_the_connection_test_reads_every_list(hook: ListFeedHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "list_feed: 1 lists can be read, entries: drop 10")
    assert not (settings.archive() / "lists").exists()  # a test leaves nothing behind


@pytest.mark.parametrize(
    ("kind", "options", "cause"),
    [
        ("status", {"status": 401}, "Wrong key"),
        ("status", {"status": 404}, "Wrong host"),
        ("html", {"status": 200}, "Wrong host"),
        ("status", {"status": 503}, "the vendor is down"),
    ],
)
def test_the_connection_test_names_the_cause(
    hook: ListFeedHook, sim: SimServer, kind: str, options: dict[str, Any], cause: str
) -> None:
    sim.fault("list_feed", kind, **options)
    passed, message = hook.test_connection()
    assert not passed
    assert cause in message


def test_another_answer_than_a_list_is_not_kept(hook: ListFeedHook, sim: SimServer, home: Path) -> None:
    sim.fault("list_feed", "html", status=200)
    with pytest.raises(Unexpected):
        refresh(hook)
    assert list(home.rglob("*.gz")) == []
