"""TAXII in the workflow, against the simulator."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.simulators.taxii import TaxiiSimulator
from include.soar.model import Answer, CaseBatch, Observable, Reputation, ReputationBatch
from include.soar.vendor.errors import Unavailable
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich, Refresh

EVIL, CLEAN, NAME = address("203.0.113.7"), address("203.0.113.99"), domain("evil.example")
ASN = Observable(type="autonomous-system", value="AS64496")


def indicator(number: int, pattern: str, **change: Any) -> dict[str, Any]:
    return {
        "type": "indicator",
        "id": f"indicator--00000000-0000-4000-8000-{number:012d}",
        "created": "2026-01-01T00:00:00.000Z",
        "modified": "2026-01-02T00:00:00.000Z",
        "name": f"number {number}",
        "pattern": pattern,
        "pattern_type": "stix",
        "valid_from": "2026-01-01T00:00:00Z",
        "confidence": 90,
        "indicator_types": ["malicious-activity"],
        "_date_added": "2026-01-02T00:00:00Z",
        **change,
    }


def put(sim: SimServer, *objects: dict[str, Any], collection: str = "box") -> None:
    boxes = [{"id": collection, "title": collection, "objects": list(objects)}]
    sim.seed("taxii", {"roots": {"intel": {"title": "Shared", "collections": boxes}}})


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    user, password = TaxiiSimulator.settings["username"], TaxiiSimulator.settings["password"]
    connect(monkeypatch, "taxii_default", "taxii", sim, login=user, password=password)
    put(
        sim,
        indicator(1, "[ipv4-addr:value ISSUBSET '203.0.113.0/28']"),
        indicator(2, "[domain-name:value = 'evil.example']", confidence=60),
        indicator(3, "[process:command_line = 'x']"),
        indicator(4, f"[ipv4-addr:value = '{PROTECTED}']"),
    )
    return sim


def refresh(**options: Any) -> list[dict[str, Any]]:
    return Refresh(vendor="taxii", task_id="refresh", **options).execute(context())


def enrich(lists: list[dict[str, Any]], *observables: Observable) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="taxii", task_id="taxii", case=case, lists=lists).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "taxii"
    return {r.observable.value: r for r in batch.reputations}


def test_refresh_and_enrich(capsys: pytest.CaptureFixture[str]) -> None:
    lists = refresh()
    assert [(r["collection"], r["indicators"], r["readable"]) for r in lists] == [("box", 4, 3)]
    assert "not readable: 1 process:command_line" in capsys.readouterr().out
    answers = enrich(lists, EVIL, CLEAN, NAME, ASN, address(PROTECTED))
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL.value: (Answer.LISTED, 90),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        NAME.value: (Answer.LISTED, 60),
        ASN.value: (Answer.NOT_APPLICABLE, None),
        PROTECTED: (Answer.NOT_APPLICABLE, None),
    }


@pytest.mark.parametrize("nothing", [None, []])
def test_without_any_copy_nothing_is_said_to_be_clean(nothing: Any) -> None:
    answers = enrich(nothing, EVIL, CLEAN).values()
    assert {(r.answer, r.score) for r in answers} == {(Answer.ERROR, None)}


def test_enriching_asks_nobody_and_the_newest_copy_counts(vendor: SimServer) -> None:
    lists = refresh()
    calls = len(vendor.calls("taxii"))
    enrich(lists, EVIL, CLEAN)
    assert len(vendor.calls("taxii")) == calls
    put(vendor, indicator(5, f"[ipv4-addr:value = '{CLEAN.value}']", _date_added="2026-01-03T00:00:00Z"))
    newer = refresh(not_before=timedelta(0))
    # A stored "not listed" of an hour ago must not hide what is listed now.
    answer = enrich(newer, CLEAN)[CLEAN.value]
    assert answer.answer is Answer.LISTED
    assert answer.body_digest != enrich(lists, CLEAN)[CLEAN.value].body_digest


def test_a_run_that_is_repeated_reads_the_copy_that_it_read_before(vendor: SimServer) -> None:
    lists = refresh()
    put(vendor, indicator(5, f"[ipv4-addr:value = '{CLEAN.value}']", _date_added="2026-01-03T00:00:00Z"))
    refresh(not_before=timedelta(0))
    assert enrich(lists, CLEAN)[CLEAN.value].answer is Answer.NOT_LISTED


def test_what_no_collection_names_was_not_checked_while_one_is_in_doubt(
    vendor: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(vendor, indicator(6, "[domain-name:value = 'other.example']"), collection="second")
    vendor.fault("taxii", "status", status=500, path="second/objects/")
    answers = enrich(refresh(), EVIL, CLEAN)
    assert answers[EVIL.value].answer is Answer.LISTED
    assert answers[CLEAN.value].answer is Answer.NOT_CHECKED
    assert "second could not be read" in answers[CLEAN.value].summary
    lists = refresh(not_before=timedelta(0))
    assert enrich(lists, CLEAN)[CLEAN.value].answer is Answer.NOT_LISTED
    later = settings.now() + timedelta(hours=48)
    monkeypatch.setattr(settings, "now", lambda: later)
    stale = enrich(lists, EVIL, CLEAN)
    assert (stale[EVIL.value].answer, stale[CLEAN.value].answer) == (Answer.LISTED, Answer.NOT_CHECKED)


def test_a_copy_that_is_gone_is_in_doubt(vendor: SimServer) -> None:
    lists = refresh()
    Path(lists[0]["uri"].removeprefix("file://")).unlink()
    answers = enrich(lists, EVIL, CLEAN)
    assert {r.answer for r in answers.values()} == {Answer.NOT_CHECKED}


def test_without_any_copy_the_task_fails_and_nothing_counts_as_clean(vendor: SimServer) -> None:
    vendor.fault("taxii", "status", status=503, times=-1)
    with pytest.raises(Unavailable):
        refresh()


def test_without_a_connection_both_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_TAXII_DEFAULT")
    with pytest.raises(AirflowSkipException):
        refresh()
    with pytest.raises(AirflowSkipException):
        enrich([], EVIL)
