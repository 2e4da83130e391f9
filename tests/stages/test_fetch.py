"""The contract of stage 1, with the smallest source that can have it: an operator over a tiny HTTP server."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException

from include.soar.model import (
    FetchBatch,
    Finding,
)
from include.soar.vendor.errors import (
    RateLimited,
    RecordProblem,
    Unauthorized,
    Unavailable,
    VendorError,
)
from tests.soar.examples import at
from tests.stages import tiny
from tests.stages.tiny import Printed, TinyHook, TinyServer, context, json_answer
from threat_response.runtime import settings
from threat_response.stages.fetch import Fetch, Page

# --- stage 1: fetch ----------------------------------------------------------------------------------------------


class TinyFetch(Fetch):
    vendor = "tiny"

    hook_class = TinyHook

    def read(self, hook: TinyHook, start_at: datetime, end_at: datetime) -> list[Page]:
        pages = []
        total = 1
        while len(pages) < total:
            answer = hook.get("/events", since=start_at.isoformat(), until=end_at.isoformat(), page=str(len(pages)))
            total = answer["pages"]
            pages.append(Page(len(pages), json.dumps(answer).encode(), answer["events"]))
        return pages

    def parse(self, record: Any) -> Finding:
        if record.get("severity") == "purple":
            raise RecordProblem("severity", "unknown word\nwith a line end")
        return Finding(
            uid=record["id"],
            source=self.vendor,
            vendor_id=record["id"],
            title=record.get("title", "title"),
            severity=record.get("severity", "high"),
            detected_at=record["time"],
        )

    def name_of(self, record: Any) -> str | None:
        return record.get("id")


def event(uid: str, time: str, **more: Any) -> dict[str, Any]:
    return {"id": uid, "time": f"2026-01-02T{time}:00Z", **more}


def serve(server: TinyServer, *pages: list[dict[str, Any]]) -> None:
    """These pages, filtered by time as a vendor does."""

    def answer(seen: tiny.Seen) -> tiny.Answer:
        query = dict(seen.query)
        shown = [
            e for e in pages[int(query["page"])] if query["since"] <= e["time"].replace("Z", "+00:00") < query["until"]
        ]
        return json_answer({"pages": len(pages), "events": shown})

    server.always = answer


def fetch(*args: Any, **kwargs: Any) -> FetchBatch:
    return FetchBatch.model_validate(TinyFetch(task_id="fetch").execute(context(*args, **kwargs)))


def uids(batch: FetchBatch) -> list[str]:
    return [f.uid for f in batch.findings]


def test_fetch_reads_the_window_and_its_overlap_and_archives_what_came(server: TinyServer, tmp_path: Path) -> None:
    serve(server, [event("c", "10:59"), event("a", "10:00")], [event("b", "10:30")])
    batch = fetch()
    assert uids(batch) == ["a", "b", "c"]  # by time
    assert (batch.pages, batch.records, batch.rejected) == (2, 3, ())
    assert dict(server.seen[0].query)["since"] == "2026-01-02T07:00:00+00:00"  # three hours back
    assert dict(server.seen[0].query)["until"] == "2026-01-02T11:00:00+00:00"
    raw = [gzip.decompress(Path(uri.removeprefix("file://")).read_bytes()) for uri in batch.archive]
    assert [[e["id"] for e in json.loads(page)["events"]] for page in raw] == [["c", "a"], ["b"]]
    (row,) = settings.ledger().windows.rows()
    assert (row.source, row.findings, row.records, row.pages) == ("tiny", 3, 3, 2)
    assert row.run_id == "response/scheduled-2026-01-02T10:00"
    assert (row.digest, row.start_at) == (batch.digest, at("2026-01-02T10:00"))


def test_a_window_fetched_again_gives_the_same_and_leaves_no_second_copy(server: TinyServer, tmp_path: Path) -> None:
    serve(server, [event("a", "10:00")])
    first = fetch()
    assert fetch() == first
    assert len(list(tmp_path.rglob("page-*.json.gz"))) == 1
    assert len(settings.ledger().windows.rows()) == 1
    serve(server, [event("a", "10:00"), event("b", "10:01")])
    assert uids(fetch()) == ["a", "b"]
    assert len(list(tmp_path.rglob("page-*.json.gz"))) == 2  # both readings can be looked at


def test_a_record_that_cannot_be_read_costs_itself_only(server: TinyServer, printed: Printed) -> None:
    serve(
        server,
        [event("a", "10:00"), event("bad\n2026 INFO forged", "10:01", severity="purple")],
        [event("b", "10:02", severity="unheard of"), {"id": None, "time": "2026-01-02T10:03:00Z"}, event("c", "10:04")],
    )
    batch = fetch()
    assert uids(batch) == ["a", "c"]
    assert (batch.records, settings.ledger().windows.rows()[0].rejected) == (5, 3)
    assert [(r.record, r.field) for r in batch.rejected] == [
        ("bad 2026 INFO forged", "severity"),
        ("b", "severity"),
        ("page 1, row 1", "uid"),
    ]
    assert batch.rejected[0].problem == "unknown word with a line end"
    assert all(r.kept_at in batch.archive for r in batch.rejected)
    lines = [line for line in printed() if "Left out tiny record" in line]
    assert len(lines) == 3
    assert "forged" in lines[0]


def test_the_same_event_twice_counts_once_with_its_last_word(server: TinyServer) -> None:
    serve(server, [event("a", "10:00", title="before")], [event("a", "10:00", title="after")])
    batch = fetch()
    assert [(f.uid, f.title) for f in batch.findings] == [("a", "after")]
    assert batch.records == 2


def test_a_late_event_counts_once_in_the_first_window_that_sees_it(server: TinyServer) -> None:
    on_time, late = event("on-time", "10:10"), event("late", "10:20")
    serve(server, [on_time])
    assert uids(fetch("2026-01-02T10:00", "2026-01-02T11:00")) == ["on-time"]
    serve(server, [on_time, late, event("next", "11:30")])
    eleven = ("2026-01-02T11:00", "2026-01-02T12:00")
    assert uids(fetch(*eleven)) == ["late", "next"]  # not "on-time" again
    assert uids(fetch(*eleven)) == ["late", "next"]  # a repeated run gets its own again
    assert uids(fetch("2026-01-02T12:00", "2026-01-02T13:00")) == []
    assert [row.findings for row in settings.ledger().windows.rows("tiny")] == [1, 2, 0]


def test_an_event_later_than_the_overlap_is_not_read(server: TinyServer) -> None:
    serve(server, [event("too-late", "06:59"), event("late", "07:00")])
    assert uids(fetch()) == ["late"]
    short = TinyFetch(task_id="fetch", overlap=timedelta(0)).execute(context())
    assert uids(FetchBatch.model_validate(short)) == []


def test_an_explicit_window_is_read(server: TinyServer) -> None:
    serve(server, [event("a", "08:15")])
    batch = fetch(run_type="manual", window_start="2026-01-02T08:00:00Z", window_end="2026-01-02T08:30:00Z")
    assert uids(batch) == ["a"]
    assert batch.window.key == "20260102T080000Z-20260102T083000Z"


def test_a_source_that_is_not_complete_yet_is_waited_for(server: TinyServer) -> None:
    class Slow(TinyFetch):
        settled_after = timedelta(minutes=20)

    end = datetime.now(UTC).replace(second=0, microsecond=0)
    run = context() | {"data_interval_start": end - timedelta(hours=1), "data_interval_end": end}
    with pytest.raises(AirflowRescheduleException) as caught:
        Slow(task_id="fetch").execute(run)
    assert caught.value.reschedule_date == end + timedelta(minutes=20)
    assert server.seen == []


def test_a_source_without_a_connection_is_skipped(unconnected: TinyServer) -> None:
    with pytest.raises(AirflowSkipException, match="source tiny is skipped: there is no connection 'tiny_default'"):
        TinyFetch(task_id="fetch").execute(context())
    assert unconnected.seen == []


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (503, Unavailable), (429, RateLimited)])
def test_a_source_that_fails_leaves_no_window_behind(server: TinyServer, status: int, kind: type[VendorError]) -> None:
    server.script = [json_answer({"pages": 2, "events": [event("a", "10:00")]}), tiny.Answer(status)]
    with pytest.raises(kind):
        TinyFetch(task_id="fetch").execute(context())
    assert settings.ledger().windows.rows() == []
    assert settings.ledger().windows.claim_findings([_finding("a")], window_key="other", now=settings.now()) == {
        "a": "other"
    }


def _finding(uid: str) -> Finding:
    return TinyFetch(task_id="x").parse(event(uid, "10:00"))


def test_making_an_operator_reads_no_connection_and_every_field_is_templated(unconnected: TinyServer) -> None:
    operator = TinyFetch(task_id="t")
    assert operator.conn_id == "tiny_default"
    assert all(hasattr(operator, name) for name in operator.template_fields)
    assert "conn_id" in operator.template_fields
