"""Stage 4 over each product: what it holds afterwards, and after everything again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.soar.incident import marks
from include.soar.model import IncidentBatch, IncidentOutcome, Role, Severity, Standing
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from tests.stages.incidents.incident_examples import (
    ATTACKER,
    EVIL,
    NOW,
    OWN,
    SECOND,
    actions,
    case,
    context,
    decision,
    finding,
)
from tests.stages.incidents.incident_products import MemoryProduct, Product
from tests.stages.incidents.incident_runs import Runs, outcomes, published, until_done
from threat_response.runtime import settings
from threat_response.stages.base import worst

MARK = marks.marker("f-1")


def attached(product: Product) -> list[str]:
    return [value for held in product.held() for value in product.attached(held.id)]


def test_an_incident_per_high_priority_finding(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"), finding("f-2", source="akamai_sia", severity=Severity.CRITICAL), finding("f-3"))
    opened = IncidentBatch.model_validate(runs.open(batch, decision(batch, low=("f-3",))))
    assert [(r.finding_uid, r.outcome) for r in opened.incidents] == [
        ("f-1", IncidentOutcome.CREATED),
        ("f-2", IncidentOutcome.CREATED),
    ]
    first, second = product.held()
    assert first.title == f"{product.title_source}: Credential stuffing f-1 [{MARK}]"
    assert (first.state, first.labels) == ("open", product.first_labels)
    assert "203[.]0[.]113[.]10" in first.description
    sources = product.system().words.sources
    assert second.title.startswith(f"{sources['akamai_sia']}: ")
    ref = opened.incidents[0]
    assert (ref.unique_id, ref.marker, ref.title) == (first.id, MARK, first.title)
    assert ref.created_at is not None
    assert product.comments(first.id) == product.comments(second.id) == []


def test_nothing_of_high_priority_asks_nothing(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    assert runs.open(batch, decision(batch, low=("f-1",)))["incidents"] == []
    assert product.calls() == 0


def test_a_repeated_run_writes_nothing(product: Product, runs: Runs) -> None:
    batch = case(*(finding(f"f-{n}") for n in range(3)))
    assert outcomes(runs.open(batch)) == ["created"] * 3
    product.forget_calls()
    assert outcomes(runs.open(batch, ctx=context("manual__2"))) == ["existing"] * 3
    assert product.writes() == 0


@pytest.mark.parametrize("state", ["closed", "merged"])
def test_a_closed_or_merged_incident_counts(product: Product, runs: Runs, state: str) -> None:
    product.seed(f"renamed [{MARK}]", state=state if product.merges else "closed")
    assert outcomes(runs.open(case(finding("f-1")))) == ["existing"]
    assert len(product.held()) == 1


def test_a_mark_written_by_an_attacker_is_nobodys(product: Product, runs: Runs) -> None:
    forged = f"path /[{marks.marker('f-2')}]"
    batch = case(finding("f-1", title=forged), finding("f-2"))
    assert outcomes(runs.open(batch)) == ["created", "created"]
    assert outcomes(runs.open(batch)) == ["existing", "existing"]


# --- the ledger is a help and not the truth -----------------------------------------------------------------


def test_the_ledger_may_be_lost(product: Product, runs: Runs, tmp_path: Path) -> None:
    batch = case(finding("f-1"))
    runs.open(batch)
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    assert outcomes(runs.open(batch)) == ["existing"]
    assert len(product.held()) == 1


def test_the_ledger_helps_when_an_analyst_changed_the_title(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    runs.open(batch)
    product.change(product.held()[0].id, title="mine now")
    assert outcomes(runs.open(batch)) == ["existing"]
    assert len(product.held()) == 1


def test_the_ledger_is_not_believed(product: Product, runs: Runs) -> None:
    """It names an incident that is another tenant's now, or none: then ours is opened."""
    batch = case(finding("f-1"), finding("f-2"))
    runs.open(batch)
    first = product.held()[0].id
    product.clear()
    assert product.seed("another tenant's") == first
    assert outcomes(runs.open(batch)) == ["created", "created"]
    assert len(product.held()) == 3


def test_two_runs_that_overlap_open_one_incident(product: Product, runs: Runs) -> None:
    """The second comes while the first's claim is alive: it waits for the retry, and then finds the incident."""
    batch = case(finding("f-1"))
    claims = settings.ledger().claims
    assert claims.take(f"incident:{MARK}", by="dag/first", now=settings.now(), lease=timedelta(minutes=5))
    ctx = context("second")
    with pytest.raises(Unavailable, match="another run"):
        runs.open(batch, ctx=ctx)
    assert outcomes(published(ctx)) == ["failed"]
    assert product.held() == []
    claims.release(f"incident:{MARK}", by="dag/first")
    assert outcomes(runs.open(batch, ctx=context("first"))) == ["created"]
    assert outcomes(runs.open(batch, ctx=context("second"))) == ["existing"]
    assert len(product.held()) == 1


def test_a_claim_of_a_dead_run_ends(product: Product, runs: Runs) -> None:
    an_hour_ago = settings.now() - timedelta(hours=1)
    settings.ledger().claims.take(f"incident:{MARK}", by="dead", now=an_hour_ago, lease=timedelta(minutes=5))
    assert outcomes(runs.open(case(finding("f-1")))) == ["created"]


# --- two incidents of one finding ---------------------------------------------------------------------------


def test_of_two_incidents_the_younger_is_closed(product: Product, runs: Runs) -> None:
    """Both of two racing tasks created; whoever reads back sees both and keeps the older."""
    for hours in (20, 10):
        product.seed(f"x [{MARK}]", days=hours / 24)
    for _ in range(2):
        opened = IncidentBatch.model_validate(runs.open(case(finding("f-1"))))
        older, younger = product.held()
        assert opened.incidents[0].unique_id == older.id
        assert (older.state, younger.state) == ("open", "closed")
        kept = opened.incidents[0].readable_id or older.id
        assert product.comments(younger.id) == [f"<p>duplicate of {kept}</p>"]
    assert len(product.held()) == 2


def test_a_duplicate_that_cannot_be_closed_is_told_and_closed_by_the_next_run(product: Product, runs: Runs) -> None:
    for hours in (20, 10):
        product.seed(f"x [{MARK}]", days=hours / 24)
    product.fault("close", "refused")
    ctx = context()
    with pytest.raises(Rejected):
        runs.open(case(finding("f-1")), ctx=ctx)
    [ref] = IncidentBatch.model_validate(published(ctx)).incidents
    assert ref.outcome is IncidentOutcome.EXISTING
    assert "could not be closed" in ref.detail
    runs.open(case(finding("f-1")))
    assert [held.state for held in product.held()] == ["open", "closed"]


@pytest.mark.parametrize("lost", [False, True])
def test_our_own_is_closed_when_another_was_first(product: Product, runs: Runs, lost: bool) -> None:
    """Another's incident appears between our look and our read-back, whether or not we got our create's answer."""
    product.seed(f"x [{MARK}]", days=0.1)
    product.hide_once()
    if lost:
        product.fault("create", "lost")
    [ref] = IncidentBatch.model_validate(runs.open(case(finding("f-1")))).incidents
    theirs, ours = product.held()
    assert (ref.unique_id, ref.outcome) == (theirs.id, IncidentOutcome.CREATED if lost else IncidentOutcome.EXISTING)
    assert (theirs.state, ours.state) == ("open", "closed")
    assert product.comments(ours.id) == [f"<p>duplicate of {ref.readable_id or ref.unique_id}</p>"]
    assert ref.detail.startswith("duplicate ")
    assert ref.detail.endswith(" closed")
    assert (product.attached(theirs.id), product.attached(ours.id)) == ([ATTACKER], [])
    row = settings.ledger().incidents.get(ref.marker)
    assert row is not None
    assert row.unique_id == theirs.id


# --- answers that are lost, wrong or missing ----------------------------------------------------------------


def test_a_lost_answer_to_a_create_makes_no_second_incident(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"), finding("f-2"))
    product.fault("create", "lost")
    assert outcomes(runs.open(batch)) == ["created", "created"]
    assert outcomes(runs.open(batch)) == ["existing", "existing"]
    assert len(product.held()) == 2
    assert attached(product) == [ATTACKER, ATTACKER]


@pytest.mark.parametrize("verb", ["list", "create", "attach", "attached"])
def test_a_lost_answer_anywhere_leaves_one_of_each(product: Product, runs: Runs, verb: str) -> None:
    batch = case(finding("f-1"), seen={ATTACKER: [("f-1", Role.ATTACKER)], SECOND: [("f-1", Role.ATTACKER)]})
    product.fault(verb, "lost")
    until_done(lambda ctx: runs.open(batch, ctx=ctx))
    runs.open(batch, ctx=context("again"))
    assert len(product.held()) == 1
    assert attached(product) == [ATTACKER, SECOND]


@pytest.mark.parametrize("product", ["memory_cases"], indirect=True)
def test_a_list_that_lags_makes_no_second_incident(product: MemoryProduct, runs: Runs) -> None:
    """What was created is found by its id, and by the next run through the ledger."""
    product.store.lag = 4
    batch = case(finding("f-1"))
    assert outcomes(runs.open(batch)) == ["created"]
    assert outcomes(runs.open(batch, ctx=context("manual__2"))) == ["existing"]
    assert len(product.held()) == 1
    assert attached(product) == [ATTACKER]


@pytest.mark.parametrize("product", ["memory_cases"], indirect=True)
def test_our_own_is_closed_although_the_list_does_not_show_it_yet(product: MemoryProduct, runs: Runs) -> None:
    product.seed(f"x [{MARK}]", days=0.1)
    product.hide_once()
    product.store.lag = 4
    assert outcomes(runs.open(case(finding("f-1")))) == ["existing"]
    assert [held.state for held in product.held()] == ["open", "closed"]


def test_a_create_that_never_arrived_is_left_to_the_retry(product: Product, runs: Runs) -> None:
    product.fault("create", "down")
    ctx = context()
    batch = case(finding("f-1"), finding("f-2"))
    with pytest.raises(Unavailable):
        runs.open(batch, ctx=ctx)
    assert outcomes(published(ctx)) == ["failed", "created"]
    assert outcomes(runs.open(batch)) == ["created", "existing"]


def test_a_read_back_that_fails_still_tells_of_the_incident(product: Product, runs: Runs) -> None:
    """The next try looks whether it is the only one."""
    product.fault("create", "lost", about="f-2")
    product.fault("list", "down", skip=1)
    batch = case(finding("f-1"), finding("f-2"))
    ctx = context()
    with pytest.raises(Unavailable):
        runs.open(batch, ctx=ctx)
    assert outcomes(published(ctx)) == ["created", "failed"]
    assert outcomes(runs.open(batch)) == ["existing", "existing"]
    assert len(product.held()) == 2


def test_one_refused_finding_costs_itself_only(product: Product, runs: Runs) -> None:
    product.fault("create", "refused", about="f-1", times=-1)
    ctx = context()
    with pytest.raises(Rejected):
        runs.open(case(finding("f-1"), finding("f-2")), ctx=ctx)
    assert outcomes(published(ctx)) == ["failed", "created"]
    assert attached(product) == [ATTACKER]


@pytest.mark.parametrize(
    ("kind", "error", "creates"), [("denied", Unauthorized, 1), ("limited", RateLimited, 1), ("down", Unavailable, 3)]
)
def test_it_stops_asking_when_asking_is_useless(
    product: Product, runs: Runs, kind: str, error: type[VendorError], creates: int
) -> None:
    """Refused key: once. Spent quota: once. Down: three times."""
    product.fault("create", kind, times=-1)
    ctx = context()
    with pytest.raises(error):
        runs.open(case(*(finding(f"f-{n}") for n in range(6))), ctx=ctx)
    assert product.calls("create") == (product.denied_creates if kind == "denied" else creates)
    assert outcomes(published(ctx)) == ["failed"] * 6


@pytest.mark.parametrize("kind", ["down", "denied", "limited"])
def test_without_a_look_nothing_is_created(product: Product, runs: Runs, kind: str) -> None:
    product.fault("list", kind, times=-1)
    ctx = context()
    with pytest.raises(VendorError):
        runs.open(case(finding("f-1"), finding("f-2")), ctx=ctx)
    assert outcomes(published(ctx)) == ["failed", "failed"]
    assert product.held() == []


def test_without_a_connection_the_task_fails_and_says_why(
    product: Product, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{product.conn_id.upper()}")
    with pytest.raises(Unauthorized, match=f"there is no connection '{product.conn_id}'"):
        runs.open(case(finding("f-1")))


def test_plan_mode_writes_nothing(product: Product, runs: Runs) -> None:
    """Of all three stages."""
    batch = case(finding("f-1"), finding("f-2"))
    product.seed("older", ATTACKER, days=2)
    opened = runs.open(case(finding("f-1")))
    product.forget_calls()
    planned = runs.open(batch, ctx=context(effects="plan"))
    assert outcomes(planned) == ["existing", "planned"]
    related = runs.relate(batch, planned, ctx=context(effects="plan"))
    assert [r["outcome"] for r in related["relations"]] == ["planned"]
    done = runs.update(batch, planned, actions={"waf": actions()}, ctx=context(effects="plan"))
    assert [u["outcome"] for u in done["updates"]] == ["planned: a comment would be added"]
    assert product.writes() == 0
    assert settings.ledger().incidents.get(marks.marker("f-2")) is None
    assert opened["incidents"][0]["unique_id"] == planned["incidents"][0]["unique_id"]


def test_plan_mode_says_of_a_duplicate_that_it_would_be_closed(product: Product, runs: Runs) -> None:
    for hours in (20, 10):
        product.seed(f"x [{MARK}]", days=hours / 24)
    [ref] = IncidentBatch.model_validate(runs.open(case(finding("f-1")), ctx=context(effects="plan"))).incidents
    assert ref.detail.endswith("would be closed")
    assert [held.state for held in product.held()] == ["open", "open"]


# --- threat intel -------------------------------------------------------------------------------------------


def test_bad_values_are_attached_and_protected_or_claimed_ones_never(product: Product, runs: Runs) -> None:
    batch = case(
        finding("f-1"),
        seen={
            ATTACKER: [("f-1", Role.ATTACKER)],
            EVIL: [("f-1", Role.DESTINATION)],
            "203.0.113.99": [("f-1", Role.CLAIM)],
            "203.0.113.98": [("f-1", Role.VICTIM)],
            OWN: [("f-1", Role.ATTACKER)],  # never_block.own of the demo's policy
            "198.51.100.201": [("f-1", Role.ATTACKER)],  # a partner's
            "10.0.0.8": [("f-1", Role.ATTACKER)],
        },
    )
    runs.open(batch)
    assert attached(product) == [ATTACKER, EVIL]


def test_what_the_product_does_not_know_as_threat_intel_is_passed_over(product: Product, runs: Runs) -> None:
    value = product.not_attachable
    batch = case(finding("f-1"), seen={ATTACKER: [("f-1", Role.ATTACKER)], value: [("f-1", Role.DESTINATION)]})
    assert outcomes(runs.open(batch)) == ["created"]
    assert attached(product) == [ATTACKER]


@pytest.mark.parametrize(
    ("standing", "expected"),
    [(Standing.SUSPICIOUS, [ATTACKER]), (Standing.UNKNOWN, []), (Standing.BENIGN, [])],
)
def test_a_value_that_is_not_judged_bad_is_not_threat_intel(
    product: Product, runs: Runs, standing: Standing, expected: list[str]
) -> None:
    batch = case(finding("f-1"))
    runs.open(batch, decision(batch, standing=standing))
    assert attached(product) == expected


def test_a_value_found_later_is_attached_to_the_incident_that_exists(product: Product, runs: Runs) -> None:
    runs.open(case(finding("f-1")))
    runs.open(case(finding("f-1"), seen={value: [("f-1", Role.ATTACKER)] for value in (ATTACKER, SECOND)}))
    assert attached(product) == [ATTACKER, SECOND]


def test_a_refused_value_is_told_and_the_others_are_attached(product: Product, runs: Runs) -> None:
    seen = {ATTACKER: [("f-1", Role.ATTACKER)], "no_such_name": [("f-1", Role.DESTINATION)]}
    ctx = context()
    with pytest.raises(Rejected):
        runs.open(case(finding("f-1"), seen=seen), ctx=ctx)
    [ref] = IncidentBatch.model_validate(published(ctx)).incidents
    assert (ref.outcome, ref.detail) == (IncidentOutcome.CREATED, "1 indicators were refused")
    assert attached(product) == [ATTACKER]


def test_an_attachment_that_does_not_hold_is_noticed(product: Product, runs: Runs) -> None:
    product.forget_attached()
    ctx = context()
    with pytest.raises(Unexpected, match="not there"):
        runs.open(case(finding("f-1")), ctx=ctx)
    assert outcomes(published(ctx)) == ["created"]


def test_the_worst_error_is_what_a_person_must_mend_then_what_a_retry_can() -> None:
    kinds = [Rejected, Unavailable, RateLimited, Unexpected, Unauthorized]
    errors = [kind("v", "o", "r") for kind in kinds]
    for n in range(len(errors), 0, -1):
        assert type(worst(errors[:n])) is kinds[n - 1]


def test_the_oldest_is_looked_for_a_day_before_the_event(product: Product, runs: Runs) -> None:
    """Product's and event's clocks may differ."""
    detected = NOW - timedelta(hours=2)
    product.seed(f"renamed [{MARK}]", days=(NOW - detected + timedelta(hours=23)) / timedelta(days=1))
    assert outcomes(runs.open(case(finding("f-1", detected_at=detected)))) == ["existing"]


# --- marks are ours only where the incident is ours (faults/attack.md 1c) -----------------------------------


@pytest.mark.parametrize("description", ["opened by the mail rule", f"Follow-up of [{MARK}], see {MARK}"])
def test_1c_a_copied_title_swallows_no_finding(product: Product, runs: Runs, description: str) -> None:
    theirs = product.seed(f"mail: something [{MARK}]", days=0.1, description=description)
    batch = case(finding("f-1"))
    assert outcomes(runs.open(batch)) == ["created"]
    product.forget_calls()
    [ref] = IncidentBatch.model_validate(runs.open(batch, ctx=context("manual__2"))).incidents
    assert (ref.outcome, ref.unique_id != theirs) == (IncidentOutcome.EXISTING, True)
    assert product.writes() == 0
    assert [held.state for held in product.held()] == ["open", "open"]
    assert (product.comments(theirs), product.attached(theirs)) == ([], [])


def test_1c_an_analysts_follow_up_is_not_closed_as_a_duplicate(product: Product, runs: Runs, tmp_path: Path) -> None:
    """Neither one that only copies the title, nor a whole copy that was given a title of its own."""
    batch = case(finding("f-1"))
    runs.open(batch)
    [ours] = product.held()
    product.seed(f"Follow-up: legal hold, {ours.title}", days=-0.1, description="d")
    copy = product.seed(f"Follow-up: costs, {ours.title}", days=-0.1, description=ours.description)
    product.change(copy, labels=list(ours.labels))
    for ledger in (True, False):
        if not ledger:
            for file in tmp_path.glob("ledger.db*"):
                file.unlink()
        [ref] = IncidentBatch.model_validate(runs.open(batch, ctx=context("manual__2"))).incidents
        assert (ref.unique_id, ref.detail) == (ours.id, "")
    assert [held.state for held in product.held()] == ["open", "open", "open"]
