"""Extract and decide: JSON in, JSON out, and the same out for the same in."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from include.soar.extract.case import NothingFetched
from include.soar.model import (
    Answer,
    CaseBatch,
    Decision,
    FetchBatch,
    Finding,
    Observable,
    RejectedRecord,
    Reputation,
    ReputationBatch,
    Severity,
)
from tests.soar.deciding import blocked, decided
from tests.soar.examples import NOW, address, at, finding, mention, policy, reputation, window
from threat_response.stages.decide import counts
from threat_response.stages.extract import Extract

EVIL, OTHER = address("203.0.113.7"), address("203.0.113.8")


def batch(source: str, *findings: Finding, **more: Any) -> dict[str, Any]:
    fields = {
        "source": source,
        "window": window(),
        "pages": 1,
        "records": len(findings),
        "archive": (),
        "digest": "d",
        "findings": findings,
    }
    return FetchBatch.model_validate(fields | more).to_json()


def said(*reputations: Reputation, provider: str = "abuseipdb") -> dict[str, Any]:
    return ReputationBatch(provider=provider, reputations=reputations).to_json()


def listed(*observables: Observable, score: int = 100) -> dict[str, Any]:
    return said(*(reputation(o, score, provider="list_feed") for o in observables), provider="list_feed")


def extract(batches: list[Any]) -> dict[str, Any]:
    # A backfill: it takes up nothing that earlier runs have left.
    run = SimpleNamespace(run_type="backfill", run_id="r", dag_id="d")
    context: Any = {"dag_run": run, "params": {}}
    return Extract(task_id="extract", batches=batches).execute(context)


def numbers(case: dict[str, Any], decision: dict[str, Any]) -> dict[str, int]:
    return counts(CaseBatch.model_validate(case), Decision.model_validate(decision))


def case(*findings: Finding) -> dict[str, Any]:
    return extract([batch("a", *findings)])


def decide(the_case: dict[str, Any], answers: dict[str, dict[str, Any] | None], **more: Any) -> dict[str, Any]:
    return decided(the_case, answers, policy(), now=NOW, **more).decision.to_json()


# --- extract -----------------------------------------------------------------------------------------------------


def test_the_batches_of_all_sources_become_one_case() -> None:
    rejected = RejectedRecord(source="b", record="page 1, row 3", field="severity", problem="unknown word")
    early = finding("2", seen=at("2026-11-24T10:05"), mentions=(mention("203.0.113.7"),))
    late = finding("1", seen=at("2026-11-24T10:30"), mentions=(mention("203.0.113.7 203.0.113.8"),))
    other = window("2026-11-24T09:00", "2026-11-24T10:30")
    result = extract([batch("a", late), None, batch("b", early, window=other, rejected=(rejected,))])
    read = CaseBatch.model_validate(result)
    assert [f.uid for f in read.findings] == ["2", "1"]  # by time
    assert [o.observable for o in read.observed] == [EVIL, OTHER]
    assert [s.finding_uid for s in read.observed[0].sightings] == ["2", "1"]
    assert (read.window.start_at, read.window.end_at) == (other.start_at, window().end_at)
    assert read.rejected == (rejected,)
    assert json.loads(json.dumps(result)) == result


def test_the_same_batches_give_the_same_bytes_in_whatever_order() -> None:
    batches = [
        batch(name, *(finding(f"{name}{n}", mentions=(mention(f"203.0.113.{n} x{n}.example"),)) for n in range(20)))
        for name in "ab"
    ]
    assert json.dumps(extract(batches)) == json.dumps(extract(batches))
    assert extract(batches) == extract(batches[::-1])


def test_a_finding_that_two_batches_hold_counts_once_with_its_last_word() -> None:
    before, after = finding("1", title="before"), finding("1", title="after")
    read = CaseBatch.model_validate(extract([batch("a", before), batch("b", after)]))
    assert [f.title for f in read.findings] == ["after"]


def test_a_quiet_window_is_a_case_without_findings() -> None:
    read = CaseBatch.model_validate(extract([batch("a"), None]))
    assert (read.findings, read.observed) == ((), ())


@pytest.mark.parametrize("batches", [[], [None], [None, None]])
def test_no_source_at_all_must_not_look_like_a_quiet_night(batches: list[None]) -> None:
    with pytest.raises(NothingFetched, match="no source"):
        extract(batches)


def test_a_batch_of_another_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        extract([{**batch("a"), "schema_version": 2}])


# --- decide ------------------------------------------------------------------------------------------------------


def test_answers_of_all_providers_meet_at_their_observable() -> None:
    the_case = case(finding("1", mentions=(mention("203.0.113.7 203.0.113.8"),)))
    answers = {
        "abuseipdb": said(reputation(EVIL, 100), reputation(OTHER, 0)),
        "list_feed": said(
            reputation(EVIL, 100, provider="list_feed"),
            reputation(OTHER, 0, provider="list_feed"),
            provider="list_feed",
        ),
    }
    decision = Decision.model_validate(decide(the_case, answers))
    assert [(v.observable, v.standing.value) for v in decision.verdicts] == [(EVIL, "malicious"), (OTHER, "unknown")]
    assert [r.provider for r in decision.verdicts[0].reputations] == ["abuseipdb", "list_feed"]
    assert blocked(decision) == [EVIL]
    assert decision.silent_providers == ()


@pytest.mark.parametrize("answer", [Answer.NOT_CHECKED, Answer.ERROR])
def test_a_silent_provider_is_named_and_blocks_nothing(answer: Answer) -> None:
    the_case = case(finding("1", severity=Severity.CRITICAL, mentions=(mention("203.0.113.7"),)))
    silent = said(reputation(EVIL, None, answer=answer))
    decision = Decision.model_validate(decide(the_case, {"abuseipdb": silent}))
    assert decision.silent_providers == ("abuseipdb",)
    assert (blocked(decision), decision.held) == ([], ())


def test_a_provider_that_gave_nothing_at_all_is_named_too() -> None:
    the_case = case(finding("1", mentions=(mention("203.0.113.7"),)))
    decision = Decision.model_validate(decide(the_case, {"list_feed": None, "abuseipdb": None}))
    assert decision.silent_providers == ("abuseipdb", "list_feed")
    assert [v.standing.value for v in decision.verdicts] == ["unknown"]
    assert (blocked(decision), decision.held) == ([], ())


def test_a_provider_that_was_asked_nothing_is_not_silent() -> None:
    the_case = case(finding("1", mentions=(mention("203.0.113.7"),)))
    nothing = said(reputation(EVIL, None, answer=Answer.NOT_APPLICABLE))
    assert decide(the_case, {"abuseipdb": nothing, "list_feed": listed()})["silent_providers"] == []


def test_a_runs_own_severity_overrides_the_policys() -> None:
    the_case = case(finding("1", severity=Severity.LOW, mentions=(mention("203.0.113.7"),)))
    answers = {"list_feed": listed(EVIL), "abuseipdb": said(reputation(EVIL))}
    assert decide(the_case, answers)["indicators"] == []
    assert len(decide(the_case, answers, minimum_severity=Severity.LOW)["indicators"]) == 1


def test_an_answer_of_another_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        decide(case(), {"list_feed": {**listed(), "schema_version": 2}})


def test_counts_are_the_runs_numbers() -> None:
    the_case = case(
        finding("1", mentions=(mention("203.0.113.7 203.0.113.8 192.0.2.1"),)), finding("2", severity=Severity.LOW)
    )
    assert numbers(the_case, decide(the_case, {"list_feed": listed(EVIL, address("192.0.2.1"))})) == {
        "findings": 2,
        "carried_over": 0,
        "high_priority": 1,
        "observables": 3,
        "verdict_malicious": 2,
        "verdict_unknown": 1,
        "indicators": 2,
        "watch": 1,
        "detect": 0,
        "block_short": 0,
        "block_long": 1,
        "held": 0,
        "refused": 1,
        "rejected_records": 0,
    }
    empty = case()
    assert numbers(empty, decide(empty, {}))["indicators"] == 0
