"""
The contract of stages 4, 5 and 9's product, case by case, over every product of ``PRODUCTS``: what the stages rely on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from include.soar.incident import marks
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, VendorError, WriteInPlanMode
from tests.stages.incidents.incident_examples import ATTACKER, EVIL, NOW, SECOND, finding, observable
from tests.stages.incidents.incident_products import Product
from threat_response.stages.incident_system import Case, Draft, IncidentSystem, State
from threat_response.stages.open_incidents import OpenIncidents
from threat_response.stages.relate import Relate
from threat_response.stages.update_incidents import UpdateIncidents

MARK = marks.marker("f-1")
LONG_AGO = NOW - timedelta(days=400)
MARKUP = '<p>a &amp; b <a href="https://soc.example/x?a=1&amp;b=2">seen</a>: ref TR-S-0123456789abcdef</p>'


def draft(title: str = f"it happened [{MARK}]") -> Draft:
    return Draft(finding=finding(), title=title, description=MARKUP, attackers=(ATTACKER,))


def case_of(system: IncidentSystem, id: str) -> Case:
    case = system.get(id)
    assert case is not None
    return case


# --- cases --------------------------------------------------------------------------------------------------


def test_what_is_created_is_there_whole(product: Product) -> None:
    system = product.system()
    title = f"Ünïcode ‹b› 'quoted' & \"double\", long {'x' * 120} [{MARK}]"
    created = system.create(draft(title))
    case = case_of(system, created.id)
    assert (case.id, case.readable_id, case.title) == (created.id, created.readable_id, title)
    assert case.state is State.OPEN
    assert case.description is not None
    assert "TR-S-0123456789abcdef" in case.description
    assert abs(case.created_at - NOW) < timedelta(hours=1)
    assert [(c.id, c.title, c.state) for c in system.created_since(LONG_AGO)] == [(created.id, title, State.OPEN)]


def test_a_create_is_not_idempotent_and_need_not_be(product: Product) -> None:
    system = product.system()
    assert system.create(draft()).id != system.create(draft()).id
    assert len(system.created_since(LONG_AGO)) == 2


def test_a_listing_has_cases_of_any_state_oldest_first_from_its_time_on(product: Product) -> None:
    states = ["open", "closed", "merged" if product.merges else "open"]
    made = [
        product.seed(f"{state} [{MARK}]", days=days, state=state) for state, days in zip(states, (2, 4, 3), strict=True)
    ]
    product.seed("too old", days=6)
    listed = product.system().created_since(NOW - timedelta(days=5))
    assert [case.id for case in listed] == [made[1], made[2], made[0]]
    assert [case.state.value for case in listed] == [states[1], states[2], states[0]]
    assert [case.order for case in listed] == sorted(case.order for case in listed)


def test_there_is_no_such_case(product: Product) -> None:
    assert product.system().get(product.nowhere) is None


def test_a_duplicate_is_closed_with_a_note_and_the_other_stays_open(product: Product) -> None:
    system = product.system()
    kept, duplicate = (case_of(system, product.seed(f"x [{MARK}]", days=days)) for days in (2, 1))
    system.close_as_duplicate(duplicate, kept, f"<p>duplicate of {kept.name}</p>")
    assert case_of(system, kept.id).state is State.OPEN
    assert case_of(system, duplicate.id).state is State.CLOSED
    assert case_of(system, duplicate.id).title == duplicate.title
    assert any(f"duplicate of {kept.name}" in comment.text for comment in system.comments(duplicate.id))


def test_labels_are_given_as_a_whole(product: Product) -> None:
    system = product.system()
    created = system.create(draft())
    first = case_of(system, created.id).labels
    assert first == product.first_labels
    words = system.words
    assert words.blocked != words.pending
    for labels in ([*first, words.blocked, words.pending], [words.pending], []):
        system.label(created.id, labels)
        assert sorted(case_of(system, created.id).labels) == sorted(labels)
    assert case_of(system, created.id).description is not None, "a change of labels costs nothing else"


def test_every_comment_can_be_read_back_as_it_was_added(product: Product) -> None:
    system = product.system()
    first, second = (system.create(draft()).id for _ in range(2))
    assert system.comments(first) == []
    for number in range(3):
        product.pass_time()
        system.comment(first, f"<p>{number}</p>")
    texts = [comment.text for comment in system.comments(first)]
    assert len(texts) == 3
    assert all(any(f"<p>{number}</p>" in text for text in texts) for number in range(3))
    assert system.comments(second) == []
    times = [comment.created_at for comment in system.comments(first)]
    assert all((at is not None) == product.comments_have_times for at in times)


def test_references_in_a_comment_are_found_again(product: Product) -> None:
    system = product.system()
    created = system.create(draft())
    system.comment(created.id, MARKUP)
    [comment] = system.comments(created.id)
    assert marks.STATE_REFERENCE.findall(comment.text) == ["TR-S-0123456789abcdef"]


def test_a_page_is_a_web_address_or_nothing(product: Product) -> None:
    system = product.system()
    page = system.page(system.create(draft()))
    assert page is None or page.startswith(("http://", "https://"))


# --- threat intel and links ---------------------------------------------------------------------------------


def test_what_can_be_attached_is_told_by_its_type(product: Product) -> None:
    system = product.system()
    product.forget_calls()
    assert system.can_attach(observable(ATTACKER))
    assert system.can_attach(observable(EVIL))
    assert not system.can_attach(observable(product.not_attachable))
    assert product.calls() == 0


def test_values_are_attached_to_this_case_only(product: Product) -> None:
    system = product.system()
    mine, other = (system.create(draft()).id for _ in range(2))
    wanted = [observable(value) for value in (ATTACKER, "2001:db8::1", EVIL)]
    assert system.attached(mine, wanted) == set()
    assert system.attach(mine, wanted[:2]) == {}
    assert system.attached(mine, wanted) == {o.key for o in wanted[:2]}
    assert system.attach(mine, wanted[2:]) == {}
    for fresh in (system, product.system()):
        assert fresh.attached(mine, wanted) == {o.key for o in wanted}
        assert fresh.attached(mine, wanted[:1]) == {wanted[0].key}
        assert fresh.attached(other, wanted) == set()
    assert product.attached(mine) == sorted(o.value for o in wanted)


def test_a_value_that_is_refused_is_named_and_costs_itself_only(product: Product) -> None:
    system = product.system()
    created = system.create(draft())
    good, bad = observable(ATTACKER), observable("no_such_name")
    refused = system.attach(created.id, [good, bad])
    assert {key: type(error) for key, error in refused.items()} == {bad.key: Rejected}
    assert system.attached(created.id, [good, bad]) == {good.key}


def test_cases_that_share_a_value_are_found_in_any_state(product: Product) -> None:
    both = product.seed("both", ATTACKER, SECOND, days=3)
    closed = product.seed("closed", ATTACKER, days=300, state="closed")
    product.seed("neither", "203.0.113.77")
    one, two, three = (observable(value) for value in (ATTACKER, SECOND, "203.0.113.77"))
    system = product.system()
    mine = system.create(draft()).id
    assert system.sharing(mine, [one, two, three]) == {}, "nothing is attached to this case yet"
    system.attach(mine, [one, two])
    assert system.sharing(mine, [one, two, three]) == {both: (one, two), closed: (one,)}
    assert system.sharing(mine, [two]) == {both: (two,)}
    later = system.create(draft()).id
    system.attach(later, [two])
    assert system.sharing(mine, [two]) == {both: (two,), later: (two,)}


def test_a_link_is_seen_from_both_ends(product: Product) -> None:
    system = product.system()
    first, second, third = (system.create(draft()).id for _ in range(3))
    system.attach(first, [observable(ATTACKER)])
    assert system.linked(first) == set()
    system.link(first, second)
    system.link(third, first)
    assert system.linked(first) == {second, third}
    assert system.linked(second) == system.linked(third) == {first}
    assert len(product.links()) == 2


# --- writes, and what goes wrong ----------------------------------------------------------------------------

WRITES: dict[str, Callable[[IncidentSystem, Case, Case], object]] = {
    "create": lambda system, case, other: system.create(draft()),
    "comment": lambda system, case, other: system.comment(case.id, MARKUP),
    "label": lambda system, case, other: system.label(case.id, [system.words.blocked]),
    "attach": lambda system, case, other: system.attach(case.id, [observable(ATTACKER)]),
    "link": lambda system, case, other: system.link(case.id, other.id),
}
READS: dict[str, Callable[[IncidentSystem, Case, Case], object]] = {
    "list": lambda system, case, other: system.created_since(LONG_AGO),
    "get": lambda system, case, other: system.get(case.id),
    "comments": lambda system, case, other: system.comments(case.id),
    "attached": lambda system, case, other: system.attached(case.id, [observable(ATTACKER)]),
}
ERRORS: dict[str, type[VendorError]] = {"down": Unavailable, "denied": Unauthorized, "limited": RateLimited}


def two_cases(product: Product) -> tuple[Case, Case]:
    system = product.system()
    case, other = (case_of(system, product.seed(f"x [{MARK}]", days=days)) for days in (2, 1))
    return case, other


def close_as_duplicate(system: IncidentSystem, case: Case, other: Case) -> None:
    system.close_as_duplicate(other, case, "<p>duplicate</p>")


@pytest.mark.parametrize("verb", [*WRITES, "close"])
def test_plan_mode_refuses_every_write_and_sends_nothing(product: Product, verb: str) -> None:
    case, other = two_cases(product)
    system = product.system(writes_allowed=False)
    before = product.held()
    product.forget_calls()
    with pytest.raises(WriteInPlanMode):
        {**WRITES, "close": close_as_duplicate}[verb](system, case, other)
    assert not system.writes_allowed
    assert product.writes() == 0
    assert product.held() == before


def test_plan_mode_reads(product: Product) -> None:
    case, other = two_cases(product)
    system = product.system(writes_allowed=False)
    for read in READS.values():
        read(system, case, other)
    assert [c.id for c in system.created_since(LONG_AGO)] == [case.id, other.id]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("verb", [*READS, *WRITES])
def test_what_goes_wrong_is_one_of_the_five_errors(product: Product, verb: str, kind: str) -> None:
    case, other = two_cases(product)
    product.fault(verb, kind, times=-1)
    with pytest.raises(ERRORS[kind]) as raised:
        {**READS, **WRITES}[verb](product.system(), case, other)
    assert raised.value.vendor == product.vendor == product.system().name


@pytest.mark.parametrize("verb", ["create", "comment", "label", "link"])
def test_what_the_product_refuses_is_rejected(product: Product, verb: str) -> None:
    case, other = two_cases(product)
    product.fault(verb, "refused")
    with pytest.raises(Rejected, match="paused"):
        WRITES[verb](product.system(), case, other)


@pytest.mark.parametrize("verb", ["comments", "comment", "label", "attached", "linked"])
def test_a_case_that_does_not_exist_is_rejected(product: Product, verb: str) -> None:
    system = product.system()
    calls: dict[str, Callable[[], object]] = {
        "comments": lambda: system.comments(product.nowhere),
        "comment": lambda: system.comment(product.nowhere, MARKUP),
        "label": lambda: system.label(product.nowhere, []),
        "attached": lambda: system.attached(product.nowhere, [observable(ATTACKER)]),
        "linked": lambda: system.linked(product.nowhere),
    }
    with pytest.raises(Rejected):
        calls[verb]()


def test_a_lost_answer_is_unavailable_although_it_happened(product: Product) -> None:
    system = product.system()
    product.fault("create", "lost")
    with pytest.raises(Unavailable):
        system.create(draft())
    [case] = system.created_since(LONG_AGO)
    product.fault("comment", "lost")
    with pytest.raises(Unavailable):
        system.comment(case.id, MARKUP)
    assert len(system.comments(case.id)) == 1


def test_the_later_stages_run_although_one_incident_could_not_be_opened() -> None:
    nothing = {"vendor": "memory_cases", "case": None, "decision": None}
    later = [
        Relate(task_id="relate", incidents=None, **nothing),
        UpdateIncidents(task_id="update_incidents", incidents=None, **nothing),
    ]
    assert [task.trigger_rule for task in later] == ["all_done", "all_done"]
    first = OpenIncidents(task_id="open_incidents", **nothing)
    assert (first.trigger_rule, first.conn_id) == ("all_success", "memory_cases_default")
    assert set(first.template_fields) == {"conn_id", "case", "decision"}
    assert set(later[0].template_fields) == {"conn_id", "case", "decision", "incidents"}
    results = {"incidents", "relations", "actions", "approved", "approved_actions"}
    assert set(later[1].template_fields) == {"conn_id", "case", "decision", *results}


def test_without_its_connection_a_person_must_act(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{product.conn_id.upper()}")
    with pytest.raises(Unauthorized, match=f"there is no connection '{product.conn_id}'"):
        product.system()
