"""The enrichment by MISP, against the simulator."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.simulators.misp import MispSimulator
from include.soar.model import Answer, CaseBatch, Observable, ObservableType, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich

EVIL, SIX, CLEAN = address("203.0.113.7"), address("2001:db8::1"), address("203.0.113.9")
NAME = domain("evil.example")
HASH = Observable(type=ObservableType.FILE, value="c8372a6127166207f570d10e9ba99fd1")
ASN = Observable(type=ObservableType.ASN, value="AS64496")
KEY = MispSimulator.settings["api_key"]


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    connect(monkeypatch, "misp_default", "misp", sim, password=KEY, values_a_call=2)
    attributes = [
        {"type": "ip-src", "value": EVIL.value, "to_ids": True},
        {"type": "ip-dst", "value": SIX.value, "to_ids": True},
        {"type": "hostname", "value": NAME.value, "to_ids": True},
        {"type": "filename|md5", "value": f"x.exe|{HASH.value}", "to_ids": True},
        {"type": "ip-src", "value": PROTECTED, "to_ids": True},
    ]
    sim.seed("misp", {"events": [{"info": "a campaign", "threat_level_id": "2", "Attribute": attributes}]})
    return sim


def enrich(*observables: Observable) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="misp", task_id="misp", case=case).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "misp"
    return {r.observable.value: r for r in batch.reputations}


def asked(sim: SimServer) -> list[list[str]]:
    return [call["body"]["value"] for call in sim.calls("misp")]


def test_all_values_in_lists_and_nothing_else(vendor: SimServer) -> None:
    answers = enrich(EVIL, SIX, CLEAN, NAME, HASH, ASN, address(PROTECTED), address("10.0.0.1"))
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL.value: (Answer.LISTED, 75),
        SIX.value: (Answer.LISTED, 75),
        NAME.value: (Answer.LISTED, 75),
        HASH.value: (Answer.LISTED, 75),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        ASN.value: (Answer.NOT_APPLICABLE, None),
        PROTECTED: (Answer.NOT_APPLICABLE, None),
        "10.0.0.1": (Answer.NOT_APPLICABLE, None),
    }
    assert sorted(len(values) for values in asked(vendor)) == [1, 2, 2]
    assert {value for values in asked(vendor) for value in values} == {o.value for o in (EVIL, SIX, CLEAN, NAME, HASH)}


def test_a_value_that_misp_refuses_costs_itself(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "misp_default", "misp", vendor, password=KEY)
    vendor.configure("misp", refuses=CLEAN.value)
    answers = enrich(EVIL, SIX, CLEAN, NAME, HASH)
    assert {value for value, r in answers.items() if r.answer is Answer.ERROR} == {CLEAN.value}
    assert all(answers[o.value].answer is Answer.LISTED for o in (EVIL, SIX, NAME, HASH))


def test_a_value_that_would_be_a_pattern_is_not_asked(vendor: SimServer) -> None:
    pattern = Observable(type=ObservableType.URL, value="https://evil.example/100%")
    answers = enrich(EVIL, pattern)
    assert answers[pattern.value].answer is Answer.ERROR
    assert answers[EVIL.value].answer is Answer.LISTED
    assert asked(vendor) == [[EVIL.value]]


def test_a_limit_in_the_middle_keeps_the_answers_and_the_rest_is_asked_later(
    vendor: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.configure("misp", searches_per_quarter_hour=1)
    answers = enrich(EVIL, SIX, NAME)
    assert sorted(r.answer for r in answers.values()) == [Answer.LISTED, Answer.LISTED, Answer.NOT_CHECKED]
    later = settings.now() + timedelta(minutes=16)
    monkeypatch.setattr(settings, "now", lambda: later)
    vendor.world.clock.set(later)
    assert {r.answer for r in enrich(EVIL, SIX, NAME).values()} == {Answer.LISTED}
