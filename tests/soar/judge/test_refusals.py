"""The rules that refuse a block: each is asked only when those before it let the observable pass."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from include.soar.judge.decision import decide, decide_inputs
from include.soar.judge.refusals import REFUSALS
from include.soar.judge.verdict import ACT, HOLD, LEAVE, REFUSE, Earlier
from include.soar.model import Answer, Observable, ObservableType, Observed, Refusal, Role, Severity, Traffic
from tests.soar.deciding import basis, batches, case_of_observed
from tests.soar.examples import NOW, address, finding, observed, policy, reputation, sighting

LONG_AGO = NOW - timedelta(days=30)
WIDE = Observable(type=ObservableType.CIDR, value="203.0.112.0/22")
CROWD = finding(
    "low", severity=Severity.LOW, traffic=(Traffic(address="203.0.113.7", users=tuple(f"u{n}" for n in range(30))),)
)


def test_an_observable_that_every_rule_would_refuse_is_refused_by_one_after_the_other(tmp_path: Path) -> None:
    """Each step takes away the reason of the rule that refused, and of no other."""
    protecting = "never_block: {own: {networks: [203.0.112.0/22]}}"
    unprotected, timed = "never_block: {own: {networks: []}}", "response: {rungs: {block_long: {hours: {cidr: 168}}}}"
    wide_allowed = f"{unprotected}\nblock: {{widest_prefix: {{ipv4: 16, ipv6: 48}}}}"
    claim, attack = sighting(role=Role.CLAIM, seen=LONG_AGO), sighting(seen=LONG_AGO)
    cautious = "response: {profile: cautious}"
    timed_cautious = "response: {profile: cautious, rungs: {block_long: {hours: {cidr: 168}}}}"
    steps = [
        ("own", protecting, claim, ["abuseipdb"], True, True),
        ("width", unprotected, claim, ["abuseipdb"], True, True),
        ("role", wide_allowed, claim, ["abuseipdb"], True, True),
        ("lifted", f"{wide_allowed}\n{cautious}", attack, ["abuseipdb"], True, True),
        ("evidence", f"{wide_allowed}\n{cautious}", attack, ["abuseipdb"], True, False),
        ("type", f"{wide_allowed}\n{cautious}", attack, ["abuseipdb", "list_feed"], True, False),
        ("shared", f"{wide_allowed}\n{timed}", attack, ["abuseipdb", "list_feed"], True, False),
        ("expired", f"{wide_allowed}\n{timed_cautious}", attack, ["abuseipdb", "list_feed"], False, False),
    ]
    layers = []
    for number, (_, changes, seen, providers, crowded, lifted) in enumerate(steps):
        (folder := tmp_path / str(number)).mkdir()
        item = Observed(observable=WIDE, sightings=(seen,))
        said = [reputation(WIDE, provider=provider, known_at=LONG_AGO) for provider in providers]
        findings = [finding(seen=LONG_AGO), *([CROWD] if crowded else [])]
        earlier = {WIDE.key: Earlier(lifted_at=NOW, lifted_by="jane", lifted_why="a partner")} if lifted else {}
        case, on = case_of_observed(findings, [item]), basis(policy(folder, changes), NOW)
        (refusal,) = decide(case, batches(said), on, earlier=earlier).decision.refusals
        layers.append(refusal.layer)
    assert layers == [layer for layer, *_ in steps]
    assert len(steps) == len(REFUSALS)


VALUES = ["203.0.113.7", "203.0.113.8", "192.0.2.1", "10.0.0.1", "2001:db8::1", "198.51.100.200"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(VALUES),
            st.sampled_from(list(Role)),
            st.integers(0, 12),
            st.sampled_from(list(Severity)),
            st.sampled_from([None, 0, 60, 100]),
            st.sampled_from([None, 0, 60, 100]),
        ),
        max_size=6,
        unique_by=lambda row: row[0],
    ),
    st.integers(1, 3),
)
def test_the_ledger_is_told_what_was_decided_and_it_can_be_decided_again_from_that(
    rows: list[tuple[str, Role, int, Severity, int | None, int | None]], most: int
) -> None:
    findings, items, said = [], [], []
    for number, (value, role, days, severity, *scores) in enumerate(rows):
        seen = NOW - timedelta(days=days)
        findings.append(finding(f"f{number}", severity=severity, seen=seen))
        items.append(observed(address(value), sighting(f"f{number}", role, seen)))
        for provider, score in zip(("abuseipdb", "list_feed"), scores, strict=True):
            answer = Answer.ERROR if score is None else None
            said.append(reputation(address(value), score, provider=provider, answer=answer, known_at=seen))
    rules = policy()
    capped = rules.model_copy(update={"block": rules.block.model_copy(update={"maximum_per_run": most})})
    on = basis(capped, NOW)
    decision, judgements, _ = decide(case_of_observed(findings, items), batches(said), on)
    assert [j.verdict for j in judgements] == list(decision.verdicts)
    assert [j.inputs.observed for j in judgements] == items
    plans = {outcome: tuple(j.plan for j in judgements if j.outcome == outcome) for outcome in (ACT, HOLD, REFUSE)}
    assert plans == {ACT: decision.indicators, HOLD: decision.held, REFUSE: decision.refusals}
    assert all(isinstance(j.plan, Refusal) is (j.outcome == REFUSE) for j in judgements)
    assert all(j.plan is None for j in judgements if j.outcome == LEAVE)
    again, same = decide_inputs(
        findings, [j.inputs for j in judgements], on, silent_providers=decision.silent_providers
    )
    assert (again, same) == (decision, judgements)
