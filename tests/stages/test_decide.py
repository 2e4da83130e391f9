"""The decide task: who takes part, what the ledger is told, and what a retry reads."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import TriggerRule

from include.soar.extract.findings import observe
from include.soar.model import (
    Action,
    ActionBatch,
    CaseBatch,
    Decision,
    Observable,
    Outcome,
    Reached,
    ReputationBatch,
    Rung,
    Verb,
    Window,
)
from tests.soar.examples import address, finding, mention, reputation
from tests.stages.controls import POLICY, PROTECTED
from threat_response.runtime import settings
from threat_response.stages.decide import Decide, earlier_of
from threat_response.stages.extract import Extract

EVIL = address("203.0.113.7")
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path / "home"))


def context(run_type: str = "scheduled", run_id: str = "run-1") -> Any:
    run = SimpleNamespace(run_type=run_type, run_id=run_id, dag_id="d", run_after=settings.now(), start_date=None)
    return {"dag_run": run, "params": {}}


def case(*, hours_ago: int = 1) -> dict[str, Any]:
    end = settings.now().replace(minute=0, second=0, microsecond=0) - (hours_ago - 1) * HOUR
    one = finding(f"f-{hours_ago}", seen=end - HOUR / 2, mentions=(mention(EVIL.value),))
    window = Window(start_at=end - HOUR, end_at=end, chosen_by="a test")
    return CaseBatch(window=window, findings=(one,), observed=observe([one])).to_json()


def listed(*providers: str) -> dict[str, Any]:
    now = settings.now()
    return {
        name: ReputationBatch(provider=name, reputations=(reputation(EVIL, provider=name, known_at=now),)).to_json()
        for name in providers
    }


def decide(case: Any, answers: dict[str, Any], run: Any = None) -> Decision:
    return Decision.model_validate(Decide(task_id="decide", case=case, answers=answers).execute(run or context()))


def test_both_stages_run_although_what_they_wait_for_failed() -> None:
    assert Extract(task_id="extract", batches=[]).trigger_rule == TriggerRule.ALL_DONE
    assert Decide(task_id="decide", case=None, answers={}).trigger_rule == TriggerRule.ALL_DONE
    strict = Decide(task_id="strict", case=None, answers={}, trigger_rule=TriggerRule.ALL_SUCCESS)
    assert strict.trigger_rule == TriggerRule.ALL_SUCCESS


def test_a_provider_without_a_connection_takes_no_part_and_one_that_failed_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GREYNOISE_DEFAULT", '{"conn_type": "greynoise"}')
    decision = decide(case(), listed("abuseipdb") | {"greynoise": None, "virustotal": None})
    assert decision.silent_providers == ("greynoise",)


def test_the_ledger_keeps_each_verdict_with_what_it_followed_from() -> None:
    decision = decide(case(), listed("abuseipdb", "list_feed"))
    (indicator,) = decision.indicators
    (row,) = settings.ledger().verdicts.of_run("d/run-1")
    assert (row.observable, row.outcome, row.plan) == (EVIL.key, "act", indicator.to_json())
    assert row.policy_digest == decision.policy_digest


def test_a_retry_decides_the_same_and_a_later_finding_meets_the_history() -> None:
    said = listed("abuseipdb", "list_feed")
    earlier = decide(case(hours_ago=5), said)
    assert decide(case(hours_ago=5), said) == earlier
    later = decide(case(), listed("abuseipdb", "list_feed"), context(run_id="run-2"))
    assert not [reason for reason in earlier.verdicts[0].reasons if reason.startswith("history")]
    assert [reason for reason in later.verdicts[0].reasons if reason.startswith("history: judged malicious 1 ×")]


@pytest.mark.parametrize(("run_type", "outcome"), [("scheduled", "cancelled"), ("backfill", "blocked")])
def test_what_is_in_force_and_protected_is_cancelled_by_a_run_that_may_block(run_type: str, outcome: str) -> None:
    now = settings.now()
    protected: Observable = address(PROTECTED)
    blocked = Action(control="waf", verb=Verb.DENY, observable=protected, outcome=Outcome.BLOCKED)
    settings.ledger().actions.record(ActionBatch(control="waf", actions=(blocked,)), run_id="r", now=now)
    decide(case(), {}, context(run_type))
    assert [row.outcome for row in settings.ledger().actions.rows()] == [outcome]


@pytest.mark.parametrize(
    ("outcome", "rung", "is_blocked", "earlier_blocks"),
    [
        (Outcome.BLOCKED, Rung.BLOCK_SHORT, True, 1),
        (Outcome.WATCHED, Rung.WATCH, False, 0),
        (Outcome.FAILED, Rung.BLOCK_SHORT, False, 0),
    ],
)
def test_what_we_did_earlier_about_a_value(outcome: Outcome, rung: Rung, is_blocked: bool, earlier_blocks: int) -> None:
    ledger, now = settings.ledger(), settings.now()
    verb = Verb.WATCH if rung is Rung.WATCH else Verb.DENY
    done = Action(
        control="waf",
        verb=verb,
        observable=EVIL,
        outcome=outcome,
        rung=rung,
        reached=None if outcome is Outcome.FAILED else Reached.ACTIVE,
        changed=outcome is not Outcome.FAILED,
        expires_at=None if outcome is Outcome.FAILED else now + HOUR,
    )
    ledger.actions.record(ActionBatch(control="waf", actions=(done,)), run_id="r", now=now)
    asked = [EVIL, address("203.0.113.8")]
    found = earlier_of(ledger, asked, since=now - HOUR, now=now)
    told = found.get(EVIL.key)
    assert (bool(told and told.is_blocked), len(told.blocked_at) if told else 0) == (is_blocked, earlier_blocks)
    assert found.keys() <= {EVIL.key}
    # What has ended is blocked no longer, but it counts as an earlier block.
    later = earlier_of(ledger, asked, since=now - HOUR, now=now + 2 * HOUR).get(EVIL.key)
    assert (bool(later and later.is_blocked), len(later.blocked_at) if later else 0) == (False, earlier_blocks)
    assert earlier_of(ledger, asked, since=now + HOUR, now=now + 2 * HOUR) == {}


def test_what_a_person_removed_at_one_control_is_that_controls_matter() -> None:
    ledger, now = settings.ledger(), settings.now()
    ledger.actions.removed_by_person("waf", EVIL.key, at=now, detail="it is not there any more", run_id="r")
    assert earlier_of(ledger, [EVIL], since=now - HOUR, now=now) == {}
