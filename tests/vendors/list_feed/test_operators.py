"""Block lists in the workflow, against the simulator."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import Answer, CaseBatch, Observable, ReputationBatch
from include.soar.vendor.errors import Unauthorized, Unavailable
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich, Refresh

LISTS = "drop drop /feeds/drop_v4.json | team plain /feeds/team.txt 60"
FILES = {
    "drop_v4.json": '{"cidr":"203.0.113.0/28","sblid":"SBL1","rir":"apnic"}\n{"type":"metadata","records":1}\n',
    "team.txt": "bad.example\n203.0.113.7\n",
}
EVIL, CLEAN = address("203.0.113.7"), address("203.0.113.99")


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    connect(monkeypatch, "list_feed_default", "list_feed", sim, lists=LISTS)
    sim.seed("list_feed", {"files": FILES})
    return sim


def refresh(**options: Any) -> list[dict[str, Any]]:
    return Refresh(vendor="list_feed", task_id="refresh", **options).execute(context())


def enrich(lists: list[dict[str, Any]], *observables: Observable) -> dict[str, tuple[Answer, int | None]]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="list_feed", task_id="list_feed", case=case, lists=lists).execute(context())
    return {r.observable.value: (r.answer, r.score) for r in ReputationBatch.model_validate(result).reputations}


def test_refresh_and_enrich() -> None:
    lists = refresh()
    assert [(r["name"], r["entries"], r["score"]) for r in lists] == [("drop", 1, 100), ("team", 2, 60)]
    answers = enrich(lists, EVIL, CLEAN, domain("www.bad.example"), address(PROTECTED))
    assert answers == {
        EVIL.value: (Answer.LISTED, 100),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        "www.bad.example": (Answer.LISTED, 60),
        PROTECTED: (Answer.NOT_APPLICABLE, None),
    }


@pytest.mark.parametrize("nothing", [None, []])
def test_without_any_list_nothing_is_said_to_be_clean(nothing: Any) -> None:
    """As where a person marked a refresh that failed as a success: there is no copy, and nothing was looked up."""
    assert enrich(nothing, EVIL, CLEAN) == {EVIL.value: (Answer.ERROR, None), CLEAN.value: (Answer.ERROR, None)}


def test_enriching_asks_nobody_and_the_newest_list_counts(vendor: SimServer) -> None:
    lists = refresh()
    calls = len(vendor.calls("list_feed"))
    enrich(lists, EVIL, CLEAN)
    assert len(vendor.calls("list_feed")) == calls
    vendor.seed("list_feed", {"files": {"team.txt": "bad.example\n203.0.113.7\n203.0.113.99\n"}})
    newer = refresh(not_before=timedelta(0))
    # A stored "not listed" of an hour ago must not hide what is listed now.
    assert enrich(newer, CLEAN)[CLEAN.value] == (Answer.LISTED, 60)


def test_a_run_that_is_repeated_reads_the_copy_that_it_read_before(vendor: SimServer) -> None:
    lists = refresh()
    vendor.seed("list_feed", {"files": {"team.txt": "bad.example\nworse.example\n"}})
    refresh(not_before=timedelta(0))
    assert enrich(lists, domain("worse.example"))["worse.example"] == (Answer.NOT_LISTED, 0)


def test_without_any_copy_the_task_fails_and_nothing_counts_as_clean(vendor: SimServer) -> None:
    vendor.fault("list_feed", "status", status=503, times=-1)
    with pytest.raises(Unavailable):
        refresh()


def test_a_list_without_a_copy_costs_itself_only(vendor: SimServer) -> None:
    vendor.fault("list_feed", "status", path="team.txt", status=404, times=-1)
    lists = refresh()
    assert [(r["name"], r["uri"] is None) for r in lists] == [("drop", False), ("team", True)]
    # What another list names is listed; the rest was not checked, since the missing list might name it.
    assert enrich(lists, EVIL, CLEAN) == {
        EVIL.value: (Answer.LISTED, 100),
        CLEAN.value: (Answer.NOT_CHECKED, None),
    }


def test_a_key_that_one_list_refuses_is_a_persons_business(vendor: SimServer) -> None:
    vendor.fault("list_feed", "status", path="team.txt", status=401)
    with pytest.raises(Unauthorized):
        refresh()


def test_a_list_that_nobody_could_read_for_days_says_so(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh()
    now = settings.now()
    monkeypatch.setattr(settings, "now", lambda: now + timedelta(hours=49))
    vendor.fault("list_feed", "status", path="team.txt", status=503, times=-1)
    lists = refresh()
    assert enrich(lists, EVIL, CLEAN, domain("bad.example")) == {
        EVIL.value: (Answer.LISTED, 100),
        CLEAN.value: (Answer.NOT_CHECKED, None),
        "bad.example": (Answer.LISTED, 60),
    }
    connect(monkeypatch, "list_feed_default", "list_feed", vendor, lists=LISTS, stale_after_hours=72)
    assert enrich(lists, CLEAN)[CLEAN.value] == (Answer.NOT_LISTED, 0)


def test_a_copy_that_was_deleted_is_no_empty_list(tmp_path: Path) -> None:
    lists = refresh()
    next(path for path in tmp_path.rglob("*.gz") if path.parent.name == "team").unlink()
    assert enrich(lists, EVIL, CLEAN)[CLEAN.value] == (Answer.NOT_CHECKED, None)


def test_without_a_connection_both_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_LIST_FEED_DEFAULT")
    with pytest.raises(AirflowSkipException):
        refresh()
    with pytest.raises(AirflowSkipException):
        enrich([], EVIL)
