"""The enrichment by URLhaus, against the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.simulators.urlhaus import UrlhausSimulator
from include.soar.model import Answer, CaseBatch, Observable, ObservableType, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.stages.enrich import Enrich

EVIL, CLEAN, NAME = address("203.0.113.7"), address("203.0.113.9"), domain("evil.example")
SHA1 = Observable(type=ObservableType.FILE, value="ab" * 20)


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    connect(monkeypatch, "urlhaus_default", "urlhaus", sim, password=UrlhausSimulator.settings["api_key"])
    urls = [{"url": "http://203.0.113.7/a"}, {"url": "http://evil.example/b", "url_status": "offline"}]
    sim.seed("urlhaus", {"urls": urls})
    return sim


def enrich(*observables: Observable) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="urlhaus", task_id="urlhaus", case=case).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "urlhaus"
    return {r.observable.value: r for r in batch.reputations}


def test_what_it_indexes_is_asked_about_and_nothing_else(vendor: SimServer) -> None:
    answers = enrich(EVIL, CLEAN, NAME, SHA1, address("2001:db8::1"), address(PROTECTED), address("10.0.0.1"))
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL.value: (Answer.LISTED, 90),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        NAME.value: (Answer.LISTED, 50),
        SHA1.value: (Answer.NOT_APPLICABLE, None),
        "2001:db8::1": (Answer.NOT_APPLICABLE, None),
        PROTECTED: (Answer.NOT_APPLICABLE, None),
        "10.0.0.1": (Answer.NOT_APPLICABLE, None),
    }
    asked = {call["body"] for call in vendor.calls("urlhaus")}
    assert asked == {f"host={o.value}" for o in (EVIL, CLEAN, NAME)}


def test_a_value_that_is_refused_costs_itself_only(vendor: SimServer) -> None:
    vendor.fault("urlhaus", "merge", body=NAME.value, patch={"query_status": "invalid_host"})
    answers = enrich(EVIL, NAME, CLEAN)
    assert [answers[o.value].answer for o in (EVIL, NAME, CLEAN)] == [Answer.LISTED, Answer.ERROR, Answer.NOT_LISTED]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 401}),
        ("status", {"status": 403}),
        ("status", {"status": 503}),
        ("html", {"status": 200}),
        ("truncate", {}),
        ("reset", {}),
        ("merge", {"patch": {"query_status": None}}),
        ("merge", {"patch": {"query_status": "unknown_auth_key"}}),
    ],
    ids=["401", "403", "503", "html", "cut", "reset", "no status", "key revoked"],
)
def test_a_broken_provider_stops_nothing_and_is_never_clean(
    vendor: SimServer, kind: str, options: dict[str, Any]
) -> None:
    vendor.fault("urlhaus", kind, times=-1, **options)
    answers = enrich(EVIL, CLEAN)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}


def test_a_429_leaves_the_rest_unchecked(vendor: SimServer) -> None:
    vendor.fault("urlhaus", "status", status=429, times=-1)
    assert {r.answer for r in enrich(EVIL, CLEAN).values()} == {Answer.NOT_CHECKED}
