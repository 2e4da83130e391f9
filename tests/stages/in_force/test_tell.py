"""The incidents concerned are told once, whatever becomes of the tries, and only those."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from include.soar.incident import marks
from include.soar.model import Action, ActionBatch, Observable, Outcome, Reached, Verb
from include.soar.vendor.errors import Unavailable
from tests.stages.incidents.incident_examples import NOW
from tests.stages.incidents.incident_products import Product
from threat_response.runtime import settings
from threat_response.stages.in_force.tell import TellIncidents

EVIL = Observable(type="ipv4-addr", value="198.51.100.7")
WORSE = Observable(type="ipv4-addr", value="198.51.100.8")
ENDS = NOW + timedelta(hours=4)


def action(outcome: Outcome, observable: Observable = EVIL, control: str = "waf", **more: Any) -> Action:
    verb = Verb.DENY if outcome is Outcome.BLOCKED else Verb.LIFT
    return Action(control=control, verb=verb, observable=observable, outcome=outcome, expires_at=ENDS, **more)


def blocked(product: Product, name: str, *observables: Observable) -> str:
    """An incident, and what the ledger knows to be in force because of it."""
    id = product.seed(f"Attack [{marks.marker(name)}]")
    ledger = settings.ledger()
    ledger.incidents.record(marks.marker(name), name, unique_id=id, readable_id=f"INC-{name}", now=NOW)
    batch = ActionBatch(control="waf", actions=tuple(action(Outcome.BLOCKED, o) for o in observables))
    told = {observable.key: [f"INC-{name}"] for observable in observables}
    ledger.actions.record(batch, run_id="r/1", now=NOW, incidents=told)
    return id


def lifted(*observables: Observable, outcome: Outcome = Outcome.LIFTED) -> dict[str, Any]:
    actions = tuple(action(outcome, o, reached=Reached.GONE) for o in observables)
    batch = ActionBatch(control="waf", actions=actions)
    settings.ledger().actions.record(batch, run_id="r/2", now=NOW)
    return {"waf": batch.to_json(), "edr": None}


def tell(product: Product, actions: Any, asked: Any = None) -> dict[str, str]:
    run = SimpleNamespace(dag_id="d", run_id="r", run_type="manual", start_date=NOW, run_after=NOW, conf={})
    task = TellIncidents(task_id="tell", vendor=product.vendor, actions=actions, asked=asked)
    given = task.execute({"dag_run": run, "params": {}, "ti": SimpleNamespace(xcom_push=lambda **_: None)})
    return dict(given["told"])


def test_each_incident_that_told_of_the_block_is_told_of_its_end_and_no_other(product: Product) -> None:
    first, other = blocked(product, "a", EVIL), blocked(product, "b", WORSE)
    both = blocked(product, "c", EVIL, WORSE)
    told = tell(product, lifted(EVIL), {"by": "ada", "reason": "a customer <script>"})
    assert told == {first: "comment added", both: "comment added"}
    assert product.comments(other) == []
    [text] = product.comments(first)
    for words in ("1 lifted", "ada", "a customer &lt;script&gt;", "198[.]51[.]100[.]7"):
        assert words in text
    assert WORSE.value.replace(".", "[.]") not in text


def test_a_repeat_adds_nothing_whether_the_removal_or_its_absence_is_told(product: Product) -> None:
    id = blocked(product, "a", EVIL)
    tell(product, lifted(EVIL))
    assert tell(product, lifted(EVIL)) == {id: "comment is there already"}
    assert tell(product, lifted(EVIL, outcome=Outcome.GONE)) == {id: "comment is there already"}
    assert len(product.comments(id)) == 1


def test_what_is_in_force_again_and_ends_again_is_told_again(product: Product) -> None:
    id = blocked(product, "a", EVIL)
    tell(product, lifted(EVIL))
    again = action(Outcome.LIFTED, reached=Reached.GONE).model_copy(update={"expires_at": ENDS + timedelta(days=1)})
    tell(product, {"waf": ActionBatch(control="waf", actions=(again,)).to_json()})
    assert len(product.comments(id)) == 2


@pytest.mark.parametrize("kind", ["down", "lost"])
def test_a_comment_that_failed_is_added_by_the_retry_once(product: Product, kind: str) -> None:
    id = blocked(product, "a", EVIL)
    actions = lifted(EVIL)
    product.fault("comment", kind)
    try:
        tell(product, actions)
    except Unavailable:
        assert kind == "down"
    tell(product, actions)
    assert len(product.comments(id)) == 1


def test_one_incident_that_cannot_be_told_costs_the_others_nothing(product: Product) -> None:
    first, second = blocked(product, "a", EVIL), blocked(product, "b", EVIL)
    product.fault("comment", "refused", about=first)
    with pytest.raises(Exception, match="paused"):
        tell(product, lifted(EVIL))
    assert [len(product.comments(id)) for id in (first, second)] == [0, 1]


def test_nothing_changed_asks_nobody(product: Product) -> None:
    product.forget_calls()
    assert tell(product, {"waf": ActionBatch(control="waf", actions=()).to_json(), "edr": None}) == {}
    assert tell(product, None) == {}
    assert product.calls() == 0
