"""What every provider that is asked over HTTP promises, by stage 3's one operator against each one's simulator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, CaseBatch, Observable, Reputation, ReputationBatch
from tests.soar.examples import observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.stages.enriching.provider_case import CASES, CLEAN, EVERYTHING, EVIL, ODD, Case, Provider
from tests.support import SimServer
from threat_response.stages.enrich import Enrich

#: Every answer that an HTTP server can spoil.
SPOILED: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 401}),
    ("status", {"status": 403}),
    ("status", {"status": 503}),
    ("html", {"status": 200}),
    ("html", {"status": 404}),
    ("truncate", {}),
    ("reset", {}),
]


class Subject(Provider):
    """A provider as stage 3 asks it."""

    def enrich(self, *observables: Observable) -> dict[Observable, Reputation]:
        found = tuple(observed(o) for o in observables)
        case = CaseBatch(window=window(), findings=(), observed=found).to_json()
        result = Enrich(vendor=self.name, task_id=self.name, case=case).execute(context())
        batch = ReputationBatch.model_validate(result)
        assert batch.provider == self.name
        assert len(batch.reputations) == len(observables)
        return {r.observable: r for r in batch.reputations}

    def asked(self) -> list[str]:
        return [value for call in self.calls() for value in self.case.asked(call)]


@pytest.fixture
def subject(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Case], Subject]:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return lambda name, case: Subject(name, case, sim, monkeypatch)


@pytest.fixture(params=CASES)
def provider(request: pytest.FixtureRequest, subject: Callable[[str, Case], Subject]) -> Subject:
    return subject(*request.param)


def test_what_it_knows_is_asked_about_once_and_nothing_else(provider: Subject) -> None:
    answers = provider.enrich(*EVERYTHING)
    said = provider.case.said
    assert {o: r.score for o, r in answers.items() if r.score is not None} == said
    assert {o: r.answer for o, r in answers.items() if o in said} == {
        o: Answer.LISTED if score else Answer.NOT_LISTED for o, score in said.items()
    }
    assert {r.answer for o, r in answers.items() if o not in said} == {Answer.NOT_APPLICABLE}
    assert all(r.summary for o, r in answers.items() if o not in said)
    asked = provider.asked()
    assert len(asked) == len(set(asked)) == len(said)
    assert not {PROTECTED, "10.0.0.1"} & set(asked)


def test_answers_are_stored_and_negative_ones_too(provider: Subject) -> None:
    first = {o: r for o, r in provider.enrich(*EVERYTHING).items() if r.score is not None}
    calls = len(provider.calls())
    assert {o: r for o, r in provider.enrich(*EVERYTHING).items() if r.score is not None} == first
    assert len(provider.calls()) == calls


def test_a_value_that_is_refused_costs_itself_only(provider: Subject) -> None:
    refused, kind, options = provider.case.refuse
    provider.fault(kind, **options)
    answers = provider.enrich(EVIL, refused)
    assert {o: r.answer for o, r in answers.items()} == {EVIL: Answer.LISTED, refused: Answer.ERROR}


def test_a_429_leaves_the_rest_unchecked_and_is_not_asked_on(provider: Subject) -> None:
    provider.fault("status", status=429, times=-1)
    assert {r.answer for r in provider.enrich(EVIL, CLEAN).values()} == {Answer.NOT_CHECKED}
    assert len(provider.calls()) == 1


@pytest.mark.parametrize(
    ("kind", "options"), SPOILED, ids=[f"{kind}-{options.get('status', '')}" for kind, options in SPOILED]
)
def test_a_broken_provider_stops_nothing_and_is_never_clean(
    provider: Subject, kind: str, options: dict[str, Any]
) -> None:
    provider.fault(kind, times=-1, **options)
    answers = provider.enrich(EVIL, CLEAN)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}
    assert len(provider.calls()) <= 4, "no more than a second try for each"


@pytest.mark.parametrize(("name", "case", "patch"), ODD)
def test_an_answer_that_says_nothing_is_no_answer(
    name: str, case: Case, patch: dict[str, Any], subject: Callable[[str, Case], Subject]
) -> None:
    provider = subject(name, case)
    provider.fault("merge", times=-1, patch=patch)
    answers = provider.enrich(EVIL, CLEAN)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}
