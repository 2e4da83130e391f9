"""Stage 9 and a person's answer, which every incident concerned tells once. What is in force is never "not blocked"."""

from __future__ import annotations

from datetime import timedelta

from include.soar.incident import plain
from include.soar.model import (
    Action,
    ActionBatch,
    Approval,
    ApprovalAnswer,
    Decision,
    Outcome,
    Reached,
    Refusal,
    Role,
    Rung,
    Verb,
)
from tests.stages.incidents.incident_examples import ATTACKER, NOW, SECOND, actions, case, decision, finding, observable
from tests.stages.incidents.incident_products import Product
from tests.stages.incidents.incident_runs import Runs
from threat_response.runtime import settings

ANSWERED = Approval(answer=ApprovalAnswer.APPROVED, by="jane", at=NOW, comment="seen it before")
WORDS = "Held before blocking, then approved by jane at"


def told(product: Product) -> list[list[str]]:
    """The text of every comment, by incident."""
    return [[plain.render_text(markup) for markup in product.comments(held.id)] for held in product.held()]


def waits_and_acts(decided: Decision, waits: str) -> tuple[Decision, Decision]:
    """The decision that holds one value, and what a person's approval of it gives."""
    held = tuple(i for i in decided.indicators if i.observable.value == waits)
    acts = tuple(i for i in decided.indicators if i.observable.value != waits)
    waiting = decided.model_copy(update={"indicators": acts, "held": held, "hold_reasons": ("a cap",)})
    approved = decided.model_copy(update={"indicators": held, "hold_reasons": ("a cap",), "approval": ANSWERED})
    return waiting, approved


def test_what_did_not_wait_is_told_at_once_and_the_answer_afterwards_with_all_of_it(
    product: Product, runs: Runs
) -> None:
    batch = case(finding("f-1"), seen={value: [("f-1", Role.ATTACKER)] for value in (ATTACKER, SECOND)})
    waiting, approved = waits_and_acts(decision(batch), SECOND)
    opened = runs.open(batch, waiting)
    first = {"waf": actions()}
    runs.update(batch, opened, waiting, actions=first)
    product.pass_time()
    then = {"waf": actions(SECOND)}
    for _ in range(2):
        runs.update(batch, opened, waiting, actions=first, approved=approved.to_json(), approved_actions=then)
    [[before, after]] = told(product)
    assert "Response: 1 blocked" in before
    assert "Held: 1 values of this run wait for a person, 1 of this event" in before
    assert "Response: 2 blocked" in after
    assert WORDS in after
    assert "seen it before" in after
    assert "Held: " not in after


def test_n13_who_approved_is_told_in_every_incident_though_all_of_it_was_in_force(product: Product, runs: Runs) -> None:
    """The state was told an hour before: that somebody approved it now is news all the same, once."""
    batch = case(finding("f-1"), finding("f-2"))
    plain_decision = decision(batch)
    waiting, approved = waits_and_acts(plain_decision, ATTACKER)
    opened = runs.open(batch, plain_decision)
    runs.update(batch, opened, plain_decision, actions={"waf": actions()})
    product.pass_time()
    for _ in range(2):
        runs.update(batch, opened, waiting, approved=approved.to_json(), approved_actions={"waf": actions()})
        product.pass_time()
    assert [sum(WORDS in text for text in texts) for texts in told(product)] == [1, 1]
    # A run of the same window that asks nobody has nothing new to tell.
    product.forget_calls()
    runs.update(batch, opened, plain_decision, actions={"waf": actions()})
    assert product.writes() == 0


def test_an_incident_that_the_answer_does_not_concern_says_nothing_of_it(product: Product, runs: Runs) -> None:
    seen = {ATTACKER: [("f-1", Role.ATTACKER)], SECOND: [("f-2", Role.ATTACKER)]}
    batch = case(finding("f-1"), finding("f-2"), seen=seen)
    waiting, approved = waits_and_acts(decision(batch), SECOND)
    opened = runs.open(batch, waiting)
    runs.update(batch, opened, waiting, approved=approved.to_json(), approved_actions={"waf": actions(SECOND)})
    concerned = {ref["unique_id"]: ref["finding_uid"] == "f-2" for ref in opened["incidents"]}
    for held in product.held():
        text = "".join(map(plain.render_text, product.comments(held.id)))
        assert (WORDS in text) is concerned[held.id]


def test_a_control_that_was_not_needed_for_the_answer_keeps_what_it_did(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    waiting, approved = waits_and_acts(decision(batch), ATTACKER)
    opened = runs.open(batch, waiting)
    later = {"waf": None, "edr": None}
    runs.update(
        batch,
        opened,
        waiting,
        actions={"waf": actions(), "edr": None},
        approved=approved.to_json(),
        approved_actions=later,
    )
    [[text]] = told(product)
    assert "Response: 1 blocked" in text
    assert "Stages that did not take part: edr" in text


def test_what_a_person_lifted_before_the_answer_is_not_told_as_blocked(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"), seen={value: [("f-1", Role.ATTACKER)] for value in (ATTACKER, SECOND)})
    waiting, approved = waits_and_acts(decision(batch), SECOND)
    opened = runs.open(batch, waiting)
    first = ActionBatch.model_validate(actions())
    [blocked] = first.actions
    lifted = blocked.model_copy(update={"verb": Verb.LIFT, "outcome": Outcome.LIFTED, "reached": Reached.GONE})
    log, now = settings.ledger().actions, settings.now()
    log.record(first, run_id="r", now=now)
    log.record(first.model_copy(update={"actions": (lifted,)}), run_id="l", now=now, by="anna", reason="a customer")
    more = {"approved": approved.to_json(), "approved_actions": {"waf": actions(SECOND)}}
    runs.update(batch, opened, waiting, actions={"waf": actions()}, **more)
    [[text]] = told(product)
    assert "Response: 1 blocked, 1 lifted" in text


def test_n17_a_block_in_force_is_told_until_it_is_lifted(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    refusal = Refusal(
        observable=observable(ATTACKER), layer="role", entry="claim", reason="only claimed", finding_uids=("f-1",)
    )
    refused = decision(batch, refusals=(refusal,)).model_copy(update={"indicators": ()})
    action = Action(
        control="akamai_client_lists",
        verb=Verb.DENY,
        observable=observable(ATTACKER),
        outcome=Outcome.BLOCKED,
        rung=Rung.BLOCK_LONG,
        reached=Reached.ACTIVE,
        expires_at=settings.now() + timedelta(days=7),
    )
    ledger, now = settings.ledger(), settings.now()
    ledger.actions.record(ActionBatch(control=action.control, actions=(action,)), run_id="r", now=now)
    opened = runs.open(batch, refused)
    for _ in range(2):
        runs.update(batch, opened, refused)
        product.pass_time()
    [[text]] = told(product)
    assert "No new block, and in force by an earlier one" in text
    assert "akamai_client_lists, block long" in text
    assert "Not blocked, and why" not in text
    lifted = action.model_copy(update={"verb": Verb.LIFT, "outcome": Outcome.LIFTED, "reached": Reached.GONE})
    ledger.actions.record(ActionBatch(control=action.control, actions=(lifted,)), run_id="r", now=now)
    runs.update(batch, opened, refused)
    [[_, text]] = told(product)
    assert "Not blocked, and why" in text
    assert "in force by an earlier one" not in text
