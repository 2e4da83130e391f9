"""Stage 5 over each product: which older incidents are related, once, and what is left after an error."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.incident import marks
from include.soar.model import RelationBatch
from include.soar.vendor.errors import Rejected, Unavailable, Unexpected
from tests.stages.incidents.incident_examples import ATTACKER, SECOND, case, context, finding, observable
from tests.stages.incidents.incident_products import MemoryProduct, Product
from tests.stages.incidents.incident_runs import Runs, published, two_fail_then_one_is_read, until_done


def pair(one: str, other: str) -> tuple[str, str]:
    return min(one, other), max(one, other)


def test_older_incidents_with_a_shared_indicator_are_related_once(product: Product, runs: Runs) -> None:
    by_hand = product.seed("by hand", ATTACKER, days=2)
    other = product.seed("something else", SECOND, days=2)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    ours = opened["incidents"][0]
    for _ in range(2):
        [relation] = RelationBatch.model_validate(runs.relate(batch, opened)).relations
        assert (relation.outcome, relation.detail) == ("related", "")
        assert (relation.incident_id, relation.related_id) == (ours["unique_id"], by_hand)
        assert relation.shared == (observable(ATTACKER),)
        [told] = product.comments(by_hand)
        assert marks.relation_reference(by_hand, ours["unique_id"]) in told
        assert (ours["readable_id"] or ours["marker"]) in told
        assert product.comments(other) == product.comments(ours["unique_id"]) == []
        assert product.links() == [pair(by_hand, ours["unique_id"])]


def test_which_incidents_are_related(product: Product, runs: Runs) -> None:
    product.seed("too old", ATTACKER, days=31)
    product.seed("closed", ATTACKER, days=3, state="closed")
    if product.merges:
        product.seed("merged", ATTACKER, days=3, state="merged")
    for day in range(4, 16):
        product.seed(f"{day} days", ATTACKER, days=day)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.seed("younger", ATTACKER, days=-0.01)
    found = RelationBatch.model_validate(runs.relate(batch, opened)).relations
    titles = {held.id: held.title for held in product.held()}
    # policy.related: 30 days, the 10 most recent
    assert [titles[r.related_id] for r in found] == ["closed", *(f"{day} days" for day in range(4, 13))]
    assert all(len(product.comments(r.related_id)) == 1 for r in found)
    again = RelationBatch.model_validate(runs.relate(batch, opened)).relations
    assert {r.related_id for r in again} == {r.related_id for r in found}


def test_3j_a_scanners_old_incidents_are_not_read_again_and_again(product: Product, runs: Runs) -> None:
    """Sixty older incidents share the address: each is read once in all runs, and then only those that are told."""
    for day in range(60):
        product.seed(f"{day} days", ATTACKER, days=1 + day / 3)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    reads = []
    for _ in range(2):
        product.forget_calls()
        found = RelationBatch.model_validate(runs.relate(batch, opened)).relations
        titles = {held.id: held.title for held in product.held()}
        assert [titles[r.related_id] for r in found] == [f"{day} days" for day in range(10)]
        reads.append(product.calls("get"))
    assert reads == [61, 11]
    # An incident of ours is known from its making.
    batch = case(finding("f-2"))
    opened = runs.open(batch)
    product.forget_calls()
    assert len(RelationBatch.model_validate(runs.relate(batch, opened)).relations) == 10
    assert product.calls("get") == 11


def test_3j_what_was_read_before_a_failure_is_not_read_again(product: Product, runs: Runs) -> None:
    older = sorted(product.seed(f"{day} days", ATTACKER, days=day) for day in range(1, 6))
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.fault("get", "down", about=older[3])
    with pytest.raises(Unavailable):
        runs.relate(batch, opened)
    product.forget_calls()
    assert len(RelationBatch.model_validate(runs.relate(batch, opened)).relations) == 5
    # The new one and the five that are told, none of them twice.
    assert product.calls("get") == 6


def test_an_older_incident_that_cannot_be_read_costs_itself_only(product: Product, runs: Runs) -> None:
    older = [product.seed(f"{day} days", ATTACKER, days=day) for day in range(1, 4)]
    batch = case(finding("f-1"), finding("f-2"))
    opened = runs.open(batch)
    product.fault("get", "refused", about=older[1], times=-1)
    ctx = context()
    with pytest.raises(Rejected):
        runs.relate(batch, opened, ctx=ctx)
    found = RelationBatch.model_validate(published(ctx)).relations
    assert {older[0], older[2]} <= {relation.related_id for relation in found}
    assert older[1] not in {relation.related_id for relation in found}
    assert len(product.comments(older[0])) == len(product.comments(older[2])) == 2


@pytest.mark.parametrize("product", ["cyware_respond"], indirect=True)
def test_3j_an_incident_that_was_merged_since_gives_its_place_to_an_older_one(product: Product, runs: Runs) -> None:
    ids = [product.seed(f"{day} days", ATTACKER, days=day) for day in range(1, 13)]
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    runs.relate(batch, opened)
    product.change(ids[0], status="merged")
    again = RelationBatch.model_validate(runs.relate(batch, opened)).relations
    assert [r.related_id for r in again] == ids[1:11]


def test_another_incident_of_the_same_finding_is_not_related(product: Product, runs: Runs) -> None:
    product.seed(f"a copy [{marks.marker('f-1')}]", ATTACKER, days=3)
    batch = case(finding("f-1"))
    assert runs.relate(batch, runs.open(batch))["relations"] == []


def test_incidents_of_one_run_are_related_too_each_pair_once(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"), finding("f-2"), finding("f-3"))
    opened = runs.open(batch)
    first, second, third = (ref["unique_id"] for ref in opened["incidents"])
    for _ in range(2):
        assert len(runs.relate(batch, opened)["relations"]) == 3
        assert product.links() == sorted([pair(first, second), pair(first, third), pair(second, third)])
        assert sorted(len(product.comments(id)) for id in (first, second, third)) == [0, 1, 2]


@pytest.mark.parametrize("verb", ["get", "comments", "comment", "link", "attached"])
def test_a_lost_answer_leaves_one_comment_and_one_link(product: Product, runs: Runs, verb: str) -> None:
    by_hand = product.seed("by hand", ATTACKER, days=2)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.fault(verb, "lost")
    until_done(lambda ctx: runs.relate(batch, opened, ctx=ctx))
    runs.relate(batch, opened)
    assert len(product.comments(by_hand)) == 1
    assert len(product.links()) == 1


@pytest.mark.parametrize("verb", ["comment", "link"])
def test_a_write_whose_answer_was_lost_is_found_without_a_retry(product: Product, runs: Runs, verb: str) -> None:
    product.seed("by hand", ATTACKER, days=2)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.fault(verb, "lost")
    assert [r["outcome"] for r in runs.relate(batch, opened)["relations"]] == ["related"]


def test_a_comment_that_is_refused_still_leaves_the_link(product: Product, runs: Runs) -> None:
    product.seed("by hand", ATTACKER, days=2)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.fault("comment", "refused")
    ctx = context()
    with pytest.raises(Rejected):
        runs.relate(batch, opened, ctx=ctx)
    [relation] = RelationBatch.model_validate(published(ctx)).relations
    assert relation.outcome == "failed"
    assert "paused" in relation.detail
    assert len(product.links()) == 1


def test_a_link_that_is_refused_still_leaves_the_comment(product: Product, runs: Runs) -> None:
    by_hand = product.seed("by hand", ATTACKER, days=2)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.fault("link", "refused")
    ctx = context()
    with pytest.raises(Rejected):
        runs.relate(batch, opened, ctx=ctx)
    [relation] = RelationBatch.model_validate(published(ctx)).relations
    assert (relation.outcome, "paused" in relation.detail) == ("failed", True)
    assert (len(product.comments(by_hand)), product.links()) == (1, [])


@pytest.mark.parametrize("product", ["memory_cases"], indirect=True)
def test_a_link_that_does_not_hold_is_noticed(product: MemoryProduct, runs: Runs) -> None:
    product.seed("by hand", ATTACKER, days=2)
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.forget_attached()
    ctx = context()
    with pytest.raises(Unexpected, match="not there when read back"):
        runs.relate(batch, opened, ctx=ctx)
    assert [r["outcome"] for r in published(ctx)["relations"]] == ["failed"]


def test_it_stops_when_the_product_is_down(product: Product, runs: Runs) -> None:
    """One failure to read each incident; after three the others are left to the retry."""
    batch = case(*(finding(f"f-{n}") for n in range(6)))
    opened = runs.open(batch)
    product.fault("get", "down", times=-1)
    product.forget_calls()
    with pytest.raises(Unavailable):
        runs.relate(batch, opened)
    assert product.calls("get") == 3


def test_failures_with_a_success_between_them_do_not_stop_it(product: Product, runs: Runs) -> None:
    batch, opened = two_fail_then_one_is_read(product, runs)
    with pytest.raises(Unavailable):
        runs.relate(batch, opened)
    assert product.calls("get") == 6


def test_an_incident_that_is_gone_is_told(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    product.clear()
    with pytest.raises(Unexpected, match="does not exist any more"):
        runs.relate(batch, opened)


def test_n6_without_incidents_it_is_skipped_and_says_why(product: Product, runs: Runs) -> None:
    with pytest.raises(AirflowSkipException, match="there is no incident to tell of"):
        runs.relate(case(finding("f-1")), None)


def test_planned_and_failed_incidents_are_passed_over(product: Product, runs: Runs) -> None:
    batch = case(finding("f-1"))
    planned = runs.open(batch, ctx=context(effects="plan"))
    product.forget_calls()
    assert runs.relate(batch, planned)["relations"] == []
    assert product.calls() == 0
