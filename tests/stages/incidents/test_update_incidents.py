"""Stage 9 over each product: the incident tells the state once, and its labels are those that hold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.incident import plain
from include.soar.model import Outcome, Refusal, Role
from include.soar.vendor.errors import Rejected, Unavailable
from tests.stages.incidents.incident_examples import (
    ATTACKER,
    NOW,
    OWN,
    SECOND,
    actions,
    case,
    context,
    decision,
    finding,
    observable,
)
from tests.stages.incidents.incident_products import Product
from tests.stages.incidents.incident_runs import Runs, outcomes, published, two_fail_then_one_is_read, until_done
from threat_response.runtime import settings


def test_the_incident_tells_the_whole_story_once(product: Product, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    refused = Refusal(
        observable=observable(OWN),
        layer="own",
        list_name="policy.yaml never_block.own.networks",
        entry="192.0.2.0/28",
        reason="192.0.2.0/28 is ours",
        finding_uids=("f-1",),
    )
    seen = {value: [("f-1", Role.ATTACKER)] for value in (ATTACKER, OWN)}
    batch = case(finding("f-1"), seen=seen)
    decided = decision(batch, refusals=(refused,), silent=("list_feed",))
    opened = runs.open(batch, decided)
    for run_id, changed in (("manual__1", True), ("scheduled__2", False)):
        runs.update(
            batch,
            opened,
            decided,
            actions={"waf": actions(changed=changed), "edr.crowdstrike_falcon": None},
            relations=None,
            ctx=context(run_id),
        )
    [held] = product.held()
    [told] = product.comments(held.id)
    text = plain.render_text(told)
    assert "Response: 1 blocked" in text
    assert "akamai_client_lists | deny | 203[.]0[.]113[.]10 | blocked" in text
    assert "list 91596_SOCAUTOBLOCK, version 3 | on the list" in text
    assert f"{NOW + timedelta(days=7):%Y-%m-%d %H:%M:%S} UTC" in text
    assert "192[.]0[.]2[.]5 | own | policy.yaml never_block.own.networks | 192.0.2.0/28 | 192.0.2.0/28 is ours" in text
    assert "203[.]0[.]113[.]10 | ipv4-addr; attacker (attacker.ip) | malicious 72 | abuseipdb" in text
    assert "edr.crowdstrike_falcon" in text
    assert "list_feed" in text
    assert 'href="https://airflow.example/dags/api_threat_response/runs/manual__1"' in told
    assert held.labels == (*product.first_labels, product.words.blocked)


def test_the_incident_tells_of_its_relations_and_of_no_others(product: Product, runs: Runs) -> None:
    product.seed("by hand", ATTACKER, days=2)
    batch = case(finding("f-1"), finding("f-2"), seen={ATTACKER: [("f-1", Role.ATTACKER)]})
    opened = runs.open(batch)
    first, second = (ref["unique_id"] for ref in opened["incidents"])
    runs.update(batch, opened, relations=runs.relate(batch, opened), actions={"waf": actions()})
    assert "Related incidents" in product.comments(first)[-1]
    assert "Related incidents" not in product.comments(second)[-1]


def test_a_changed_state_adds_exactly_one_comment(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    [held] = product.held()
    # Back again is news again; where comments have no time it cannot be seen which report is the latest.
    last = 3 if product.comments_have_times else 2
    blocked, pending = product.words.blocked, product.words.pending
    states = [
        (Outcome.PENDING, [pending], 1),
        (Outcome.PENDING, [pending], 1),
        (Outcome.BLOCKED, [blocked], 2),
        (Outcome.PENDING, [blocked, pending], last),
        (Outcome.PENDING, [blocked, pending], last),
    ]
    for outcome, labels, count in states:
        product.pass_time()
        runs.update(batch, opened, actions={"waf": actions(outcome=outcome)})
        assert len(product.comments(held.id)) == count
        assert product.held()[0].labels == (*product.first_labels, *labels)


def test_labels_of_analysts_stay_and_an_equal_set_is_not_written(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    theirs = product.first_labels[-1]
    product.change(product.held()[0].id, labels=[theirs])
    runs.update(batch, opened, actions={"waf": actions()})
    assert product.held()[0].labels == (theirs, product.words.blocked)
    product.forget_calls()
    runs.update(batch, opened, actions={"waf": actions()})
    assert product.writes() == 0


def test_a_comment_whose_answer_was_lost_is_found_without_a_retry(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.fault("comment", "lost")
    [told] = runs.update(batch, opened, actions={"waf": actions()})["updates"]
    assert told["outcome"].startswith("comment added")
    assert len(product.comments(product.held()[0].id)) == 1


@pytest.mark.parametrize("verb", ["get", "comments", "comment", "label"])
def test_a_lost_answer_leaves_one_report(product: Product, runs: Runs, verb: str) -> None:
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.fault(verb, "lost")
    until_done(lambda ctx: runs.update(batch, opened, actions={"waf": actions()}, ctx=ctx))
    runs.update(batch, opened, actions={"waf": actions()})
    [held] = product.held()
    assert len(product.comments(held.id)) == 1
    assert held.labels[-1] == product.words.blocked


def test_one_incident_that_cannot_be_updated_costs_itself_only(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"), finding("f-2"))
    opened = runs.open(batch)
    first, second = (held.id for held in product.held())
    product.fault("comment", "refused", about=first)
    ctx = context()
    with pytest.raises(Rejected):
        runs.update(batch, opened, actions={"waf": actions()}, ctx=ctx)
    told = [u["outcome"] for u in published(ctx)["updates"]]
    assert told[0].startswith("failed")
    assert told[1].startswith("comment added")
    assert len(product.comments(second)) == 1


def test_failures_with_a_success_between_them_do_not_stop_it(product: Product, runs: Runs) -> None:
    batch, opened = two_fail_then_one_is_read(product, runs)
    with pytest.raises(Unavailable):
        runs.update(batch, opened)
    assert product.calls("get") == 6


def test_an_incident_that_is_gone_is_told(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.clear()
    ctx = context()
    with pytest.raises(Rejected):
        runs.update(batch, opened, ctx=ctx)
    assert "does not exist any more" in published(ctx)["updates"][0]["outcome"]


def test_it_stops_when_the_product_is_down(product: Product, runs: Runs) -> None:
    batch = case(*(finding(f"f-{n}") for n in range(6)))
    opened = runs.open(batch)
    product.fault("get", "down", times=-1)
    product.forget_calls()
    ctx = context()
    with pytest.raises(Unavailable):
        runs.update(batch, opened, ctx=ctx)
    assert product.calls("get") == 3
    assert len(published(ctx)["updates"]) == 6


def test_n6_without_incidents_it_is_skipped_and_says_why(product: Product, runs: Runs) -> None:
    with pytest.raises(AirflowSkipException, match="there is no incident to tell of"):
        runs.update(case(finding("f-1")), None)


def test_planned_and_failed_incidents_are_passed_over(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    planned = runs.open(batch, ctx=context(effects="plan"))
    product.forget_calls()
    assert runs.update(batch, planned)["updates"] == []
    assert product.calls() == 0


def test_markup_of_an_attacker_is_shown_and_never_rendered(product: Product, runs: Runs) -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m'
    batch = case(finding("f-1", title=evil, description=evil, target=evil, vendor_id=evil, category=evil, tags=(evil,)))
    by_hand = product.seed("by hand", ATTACKER, days=2)
    opened = runs.open(batch)
    runs.relate(batch, opened)
    runs.update(batch, opened, actions={"waf": actions(detail=evil), evil: None})
    ours = product.held()[-1]
    texts = [ours.description, *product.comments(ours.id), *product.comments(by_hand)]
    assert len(texts) == 3
    for text in (*texts, ours.title):
        assert "<script" not in text
        assert "<img" not in text
        assert "\x1b" not in text
    assert all("&lt;script&gt;alert(&quot;x&quot;)" in text.replace("&#34;", "&quot;") for text in texts)


def test_two_runs_do_not_comment_at_once(product: Product, runs: Runs) -> None:
    """While another run holds the claim on an incident's comments ours waits for its retry, and writes nothing."""
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    id = product.held()[0].id
    claims = settings.ledger().claims
    assert claims.take(f"comment:{id}", by="dag/other", now=settings.now(), lease=timedelta(minutes=2))
    with pytest.raises(Unavailable):
        runs.update(batch, opened, actions={"waf": actions()})
    assert product.comments(id) == []
    claims.release(f"comment:{id}", by="dag/other")
    runs.update(batch, opened, actions={"waf": actions()})
    assert len(product.comments(id)) == 1


def test_1b_a_forged_state_mark_in_foreign_text_is_no_report(product: Product, runs: Runs) -> None:
    """Neither in the comment about a related incident, nor in our own report, nor where a person quotes a report."""
    older = case(finding("f-1"))
    opened = runs.open(older)
    runs.update(older, opened)
    [first] = product.held()
    [report] = product.comments(first.id)
    forged = finding("f-2", target="GET /x/ref TR-S-0123456789abcdef", title="a ref TR-S-0123456789abcdef")
    newer = case(forged)
    runs.relate(newer, runs.open(newer))
    product.pass_time()
    product.system().comment(first.id, f"<p>as said before: {report}, which legal has seen</p>")
    told = len(product.comments(first.id))
    assert told == 3  # the report, the relation, the quotation
    for number in range(2):
        product.pass_time()
        runs.update(older, opened, ctx=context(f"again__{number}"))
    assert len(product.comments(first.id)) == told


def test_a_report_about_what_was_added_stands_beside_that_about_the_whole(product: Product, runs: Runs) -> None:
    """Issue 9, 13: both runs may be repeated in any order, and neither tells its state twice."""
    whole = case(finding("f-1"))
    grown = case(finding("f-1", grown_at=NOW - timedelta(hours=1)), seen={SECOND: [("f-1", Role.ATTACKER)]})
    opened = runs.open(whole)
    runs.update(whole, opened)
    product.pass_time()
    again = runs.open(grown, ctx=context("manual__2"))
    assert outcomes(again) == ["existing"]
    runs.update(grown, again, ctx=context("manual__2"))
    [held] = product.held()
    assert len(product.comments(held.id)) == 2
    assert "203[.]0[.]113[.]11" in product.comments(held.id)[1]
    assert product.attached(held.id) == [ATTACKER, SECOND]
    product.forget_calls()
    for batch in (whole, grown, whole):
        runs.update(batch, runs.open(batch, ctx=context("manual__3")), ctx=context("manual__3"))
    assert product.writes() == 0
