"""What is acted on, for how long, what is refused and why, and when a run stops and asks."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.soar.judge import caps
from include.soar.judge.traffic import address_of, by_address, pseudonym
from include.soar.model import (
    Answer,
    Approval,
    ApprovalAnswer,
    Decision,
    Finding,
    Indicator,
    Observable,
    ObservableType,
    Observed,
    Refusal,
    Reputation,
    Role,
    Rung,
    Severity,
    Standing,
    Step,
    Traffic,
)
from include.soar.policy.file import stored_policy
from include.soar.policy.rules import Policy
from tests.soar.deciding import decision_on
from tests.soar.examples import NOW, address, finding, gate_at, observed, policy, reputation, sighting

EVIL = address("203.0.113.7")
BOTH_SAY = (
    "2 independent sources of grade C or better: abuseipdb (grade C), list_feed (grade A)",
    "one source of grade A, severity critical: list_feed (grade A)",
)
#: The rules of one bar for every control.
CAUTIOUS = "response: {profile: cautious}"
BOTH = [reputation(EVIL, provider="abuseipdb"), reputation(EVIL, provider="list_feed")]


def mail(text: str) -> Observable:
    return Observable(type=ObservableType.EMAIL, value=text)


def network(text: str) -> Observable:
    return Observable(type=ObservableType.CIDR, value=text)


# --- decide ------------------------------------------------------------------------------------------------------


def run(
    findings: list[Finding],
    reputations: list[Reputation] | None = None,
    *,
    items: list[Observed] | None = None,
    rules: Policy | None = None,
    **more: Any,
) -> Decision:
    said = BOTH if reputations is None else reputations
    items = [observed(EVIL)] if items is None else items
    return decision_on(findings, items, said, rules or policy(), **{"now": NOW, **more})


def is_blocked(decision: Decision) -> bool:
    return any(i.rung and i.rung.is_block for i in decision.indicators)


def refusal(decision: Decision) -> Refusal:
    assert decision.indicators == ()
    (only,) = decision.refusals
    return only


def test_an_attacker_that_two_sources_list_becomes_an_indicator() -> None:
    early, late = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    item = observed(EVIL, sighting(seen=early), sighting("f2", seen=late), sighting("low", seen=NOW))
    findings = [finding("f1"), finding("f2", severity=Severity.CRITICAL), finding("low", severity=Severity.LOW)]
    decision = run(findings, items=[item], failed=["greynoise"])
    assert decision.indicators == (
        Indicator(
            observable=EVIL,
            confidence=96,
            reasons=decision.verdicts[0].reasons,
            roles=(Role.ATTACKER,),
            first_seen_at=early,
            last_seen_at=late,  # the finding of low priority does not count
            expires_at=late + timedelta(days=7),
            finding_uids=("f1", "f2"),
            steps=(
                Step(rung=Rung.WATCH, expires_at=late + timedelta(days=7), ways=decision.indicators[0].steps[0].ways),
                Step(rung=Rung.DETECT, expires_at=late + timedelta(days=7), ways=decision.indicators[0].steps[1].ways),
                Step(
                    rung=Rung.BLOCK_SHORT,
                    expires_at=late + timedelta(days=7),
                    ways=("score 100 by abuseipdb (grade C), said 0 h before the sighting, severity critical",),
                ),
                Step(rung=Rung.BLOCK_LONG, expires_at=late + timedelta(days=7), ways=BOTH_SAY),
            ),
        ),
    )
    assert decision.refusals == ()
    assert [p.high for p in decision.priorities] == [True, True, False]
    assert decision.policy_digest == policy().digest
    assert decision.silent_providers == ("greynoise",)


@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize("floor", list(Severity))
def test_the_priority_of_a_finding(severity: Severity, floor: Severity) -> None:
    decision = run([finding(severity=severity)], minimum_severity=floor)
    high = severity.rank >= floor.rank
    assert decision.priorities[0].high is high
    assert severity.value in decision.priorities[0].reason
    assert bool(decision.indicators) is high


def test_without_an_override_the_policys_severity_holds() -> None:
    assert run([finding(severity=Severity.MEDIUM)]).indicators == ()
    assert run([finding(severity=Severity.HIGH)]).indicators != ()


@pytest.mark.parametrize(
    "reputations",
    [
        [],
        [reputation(EVIL, None, answer=Answer.NOT_CHECKED)],
        [
            reputation(EVIL, None, answer=Answer.ERROR),
            reputation(EVIL, None, provider="list_feed", answer=Answer.ERROR),
        ],
        [reputation(EVIL, 0), reputation(EVIL, 0, provider="list_feed")],
        [reputation(EVIL, 74), reputation(EVIL, 89, provider="list_feed")],  # only suspicious
        [reputation(EVIL, 100, provider="someone_new")],
    ],
    ids=["none", "not checked", "errors", "clean", "suspicious", "no rule"],
)
def test_unknown_and_suspicious_are_watched_and_never_blocked(reputations: list[Reputation], tmp_path: Path) -> None:
    decision = run([finding(severity=Severity.CRITICAL)], reputations)
    assert [i.rung for i in decision.indicators] == [Rung.WATCH]
    assert "not blocked: it takes" in decision.indicators[0].enough
    assert decision.refusals == ()
    assert len(decision.verdicts) == 1
    cautious = run([finding(severity=Severity.CRITICAL)], reputations, rules=policy(tmp_path, CAUTIOUS))
    assert (cautious.indicators, cautious.refusals) == ((), ())


@pytest.mark.parametrize("role", [Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED, Role.RESOLVED])
def test_only_some_roles_are_blocked(tmp_path: Path, role: Role) -> None:
    rules = policy(tmp_path, "block: {roles: [attacker, destination, payload]}")
    refused = refusal(run([finding()], items=[observed(EVIL, sighting(role=role))], rules=rules))
    assert (refused.layer, refused.entry) == ("role", role.value)
    assert refused.finding_uids == ("f1",)


@pytest.mark.parametrize("role", [Role.ATTACKER, Role.DESTINATION, Role.PAYLOAD, Role.RESOLVED])
def test_the_roles_that_are_blocked(role: Role) -> None:
    assert run([finding()], items=[observed(EVIL, sighting(role=role))]).indicators[0].roles == (role,)


def test_a_claim_neither_prolongs_a_block_nor_adds_weight() -> None:
    """Whoever writes an address into X-Forwarded-For could otherwise keep somebody else blocked for ever."""
    seen, claimed = NOW - timedelta(days=3), NOW
    item = observed(EVIL, sighting("f1", seen=seen), sighting("f2", role=Role.CLAIM, seen=claimed))
    indicator = run([finding("f1"), finding("f2")], items=[item]).indicators[0]
    assert (indicator.first_seen_at, indicator.last_seen_at) == (seen, seen)
    assert indicator.expires_at == seen + timedelta(days=7)
    assert indicator.roles == (Role.ATTACKER,)

    findings = [finding("f1", severity=Severity.LOW), finding("f2", severity=Severity.CRITICAL)]
    decision = run(findings, [BOTH[0]], items=[item], minimum_severity=Severity.LOW)
    assert decision.indicators[0].rung is Rung.DETECT  # as an attacker it was seen in a finding of low severity only


def test_a_sighting_in_a_finding_of_low_priority_does_not_count() -> None:
    item = observed(EVIL, sighting("low"), sighting("f1", role=Role.CLAIM))
    assert refusal(run([finding("low", severity=Severity.LOW), finding("f1")], items=[item])).layer == "role"


@pytest.mark.parametrize(
    ("providers", "severity", "enough"),
    [
        (["abuseipdb"], Severity.CRITICAL, False),
        (["list_feed"], Severity.MEDIUM, False),
        (["list_feed"], Severity.HIGH, True),  # top grade
        (["abuseipdb", "list_feed"], Severity.LOW, True),
    ],
)
def test_the_evidence_rule_of_cautious(tmp_path: Path, providers: list[str], severity: Severity, enough: bool) -> None:
    reputations = [reputation(EVIL, provider=p) for p in providers]
    rules = policy(tmp_path, CAUTIOUS)
    decision = run([finding(severity=severity)], reputations, minimum_severity=Severity.LOW, rules=rules)
    if enough:
        assert len(decision.indicators) == 1
    else:
        assert refusal(decision).layer == "evidence"
        assert providers[0] in refusal(decision).reason


@pytest.mark.parametrize(
    ("value", "layer"),
    [
        ("192.0.2.1", "own"),
        ("198.51.100.201", "partner"),
        ("192.0.2.53", "well-known"),
        ("10.0.0.1", "special-purpose"),
    ],
)
def test_a_protected_address_is_refused_whatever_speaks_against_it(value: str, layer: str) -> None:
    item = observed(address(value))
    reputations = [reputation(item.observable, provider=p) for p in ("abuseipdb", "list_feed")]
    refused = refusal(run([finding(severity=Severity.CRITICAL)], reputations, items=[item]))
    assert refused.layer == layer
    assert refused.reason


def test_an_attack_from_a_protected_address_is_told_though_nobody_is_asked_about_it() -> None:
    own = address("198.51.100.130")
    silent = reputation(own, None, answer=Answer.NOT_APPLICABLE)
    [refusal] = run([finding()], [silent], items=[observed(own)]).refusals
    assert (refusal.layer, refusal.list_name) == ("well-known", "policy.yaml never_block.well_known.networks")
    claimed = observed(own, sighting(role=Role.CLAIM))
    assert run([finding()], [silent], items=[claimed]).refusals == ()
    assert run([finding(severity=Severity.LOW)], [silent], items=[observed(own)]).refusals == ()


@pytest.mark.parametrize(("age", "planned"), [(timedelta(days=6, hours=23), True), (timedelta(days=7), False)])
def test_what_was_seen_too_long_ago_may_be_someone_elses(age: timedelta, planned: bool) -> None:
    decision = run([finding()], items=[observed(EVIL, sighting(seen=NOW - age))])
    assert bool(decision.indicators) is planned
    if not planned:
        assert refusal(decision).layer == "expired"


def test_a_type_without_a_time_to_live_is_not_blocked() -> None:
    item = observed(mail("a@evil.example"))
    reputations = [reputation(item.observable, provider="list_feed")]
    assert refusal(run([finding()], reputations, items=[item])).layer == "type"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["203.0.113.7", "192.0.2.1", "10.0.0.1", "2001:db8::1", "198.51.100.200"]),
            st.sampled_from(list(Role)),
            st.integers(0, 20),
            st.sampled_from(list(Severity)),
            st.sampled_from([None, 0, 50, 80, 100]),
            st.sampled_from([None, 0, 60, 100]),
        ),
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_whatever_happens_a_block_is_earned_allowed_and_ends(rows: list[Any]) -> None:
    findings, items, reputations = [], [], []
    for number, (value, role, days, severity, first, second) in enumerate(rows):
        uid, observable = f"f{number}", address(value)
        findings.append(finding(uid, severity=severity))
        items.append(observed(observable, sighting(uid, role, NOW - timedelta(days=days))))
        for provider, score in (("abuseipdb", first), ("list_feed", second)):
            silence = Answer.NOT_CHECKED if score is None else None
            reputations.append(reputation(observable, score, provider=provider, answer=silence))
    decision = run(findings, reputations, items=items)
    rules = policy()
    for indicator in decision.indicators:
        assert gate_at(rules).check(indicator.observable) is None
        assert set(indicator.roles) <= rules.block.roles
        assert all(NOW < step.expires_at <= NOW + timedelta(days=7) for step in indicator.steps)
        assert indicator.finding_uids
        verdict = next(v for v in decision.verdicts if v.observable == indicator.observable)
        assert verdict.standing is Standing.MALICIOUS or indicator.rung is Rung.WATCH
    acted = {i.observable for i in decision.indicators}
    assert not acted & {r.observable for r in decision.refusals}
    assert decision == Decision.model_validate(decision.to_json())


# --- addresses that many share -----------------------------------------------------------------------------------

NETWORKS = "response: {rungs: {block_long: {hours: {cidr: 168}}}}"
SHARED = "block: {shared_address: {distinct_users: 3, good_requests: 100, good_share: 0.5}}"


def seen_with(uid: str, *users: str, severity: Severity = Severity.LOW, **counts: Any) -> Finding:
    return finding(uid, severity=severity, traffic=(Traffic(address=EVIL.value, users=users, **counts),))


def of_traffic(tmp_path: Path, *findings: Finding, observable: Observable = EVIL, changes: str = SHARED) -> Decision:
    """The attacker's own finding, and what the others say about its address."""
    items = [observed(observable, *(sighting(f.uid) for f in (finding("f1"), *findings)))]
    reputations = [reputation(observable, provider=p) for p in ("abuseipdb", "list_feed")]
    return run([finding("f1"), *findings], reputations, items=items, rules=policy(tmp_path, changes))


@pytest.mark.parametrize(("number", "blocked"), [(2, True), (3, False)])
def test_many_users_in_little_findings_protect_an_address(tmp_path: Path, number: int, blocked: bool) -> None:
    decision = of_traffic(tmp_path, *(seen_with(f"low{n}", f"user{n}") for n in range(number)))
    assert is_blocked(decision) is blocked
    if not blocked:
        assert decision.indicators[0].rung is Rung.DETECT  # what harms nobody is done all the same
        assert decision.indicators[0].enough.startswith("not blocked: 3 different users")
        assert (decision.held, decision.refusals) == ((), ())


def test_a_shared_address_is_asked_about_when_the_finding_is_critical(tmp_path: Path) -> None:
    """One alert of low severity with twenty made-up users must not make an attacker's address unblockable."""
    crowd = seen_with("low", *(f"user{n}" for n in range(3)))
    items = [observed(EVIL, sighting("f1"), sighting("low"))]
    findings = [finding("f1", severity=Severity.CRITICAL), crowd]
    decision = run(findings, BOTH, items=items, rules=policy(tmp_path, SHARED))
    assert [i.rung for i in decision.indicators] == [Rung.DETECT]
    (asked,) = decision.held
    assert [step.rung for step in asked.steps] == [Rung.BLOCK_SHORT, Rung.BLOCK_LONG]
    assert "3 different users" in asked.hold_reasons[0]
    settled = caps.settle(decision, answered(ApprovalAnswer.APPROVED, "jane"), now=NOW)
    assert [step.rung for step in settled.indicators[0].steps] == list(Rung)


def test_where_nothing_milder_is_possible_a_shared_address_is_refused(tmp_path: Path) -> None:
    rules = policy(tmp_path, SHARED)
    bare = {"watch": {"hours": {}}, "detect": {"hours": {}}}
    rungs = {**rules.document["response"]["rungs"]}
    for name, fields in bare.items():
        rungs[name] = rungs[name] | fields
    only_blocks = stored_policy(rules.document | {"response": rules.document["response"] | {"rungs": rungs}})
    findings = [finding("f1"), seen_with("low", "a", "b", "c")]
    refused = refusal(run(findings, BOTH, items=[observed(EVIL, sighting("f1"))], rules=only_blocks))
    assert (refused.layer, refused.list_name, refused.entry) == ("shared", "block.shared_address", "distinct_users")


def test_the_same_user_in_many_findings_is_one(tmp_path: Path) -> None:
    assert is_blocked(of_traffic(tmp_path, *(seen_with(f"low{n}", "a", "b") for n in range(20))))


@pytest.mark.parametrize(("severity", "blocked"), [(Severity.LOW, False), (Severity.MEDIUM, True)])
def test_the_users_of_a_severe_finding_are_victims(tmp_path: Path, severity: Severity, blocked: bool) -> None:
    """A credential stuffing goes with hundreds of accounts: they must not protect the one who tries them."""
    crowd = seen_with("crowd", *(f"user{n}" for n in range(300)), severity=severity)
    assert is_blocked(of_traffic(tmp_path, crowd)) is blocked


def test_a_user_of_the_attack_is_no_good_user_elsewhere(tmp_path: Path) -> None:
    little = seen_with("low", "a", "b", "c")
    assert is_blocked(of_traffic(tmp_path, little, seen_with("high", "c", severity=Severity.HIGH)))
    assert not is_blocked(of_traffic(tmp_path, little, seen_with("high", "d", severity=Severity.HIGH)))


@pytest.mark.parametrize(
    ("requests", "malicious", "blocked"),
    [
        (200, 100, False),
        (199, 100, True),  # 99 good ones
        (201, 101, True),  # 100 good ones, of which a little less than half
        (10_000, 5_000, False),
        (10_000, 10_000, True),
        (100, 101, True),  # more bad ones than there are
        (200, None, True),  # what is not said is not zero
        (None, 0, True),
        (0, 0, True),
    ],
)
def test_good_requests_protect_an_address(
    tmp_path: Path, requests: int | None, malicious: int | None, blocked: bool
) -> None:
    said = seen_with("high", severity=Severity.HIGH, requests=requests, malicious_requests=malicious)
    decision = of_traffic(tmp_path, said)
    assert is_blocked(decision) is blocked
    if not blocked:
        assert "requests in vendor-high are no part of the attack" in decision.indicators[0].enough


def test_the_traffic_of_another_address_protects_nobody(tmp_path: Path) -> None:
    others = Traffic(address="203.0.113.8", users=("a", "b", "c", "d"), requests=9_000, malicious_requests=0)
    assert is_blocked(of_traffic(tmp_path, finding("low", severity=Severity.LOW, traffic=(others,))))


def test_a_network_is_shared_by_whoever_is_in_it(tmp_path: Path) -> None:
    changes = f"{SHARED}\n{NETWORKS}"
    users = [
        finding(f"low{n}", severity=Severity.LOW, traffic=(Traffic(address=f"203.0.113.{n}", users=(f"user{n}",)),))
        for n in (1, 2, 250)
    ]
    shared = of_traffic(tmp_path, *users, observable=network("203.0.113.0/24"), changes=changes)
    assert refusal(shared).layer == "shared"
    assert is_blocked(of_traffic(tmp_path, *users, observable=network("203.0.113.0/25"), changes=changes))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 2001:DB8:0::7 ", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("203.0.113.0/24", None),
        ("evil.example", None),
        ("", None),
    ],
)
def test_an_address_in_traffic_is_spelled_as_an_observable(text: str, known: str | None) -> None:
    assert address_of(text) == known
    if known:
        assert address(known).value == known


def test_a_pseudonym_is_the_same_user_and_nothing_more() -> None:
    assert pseudonym("a", "user", "jane") == pseudonym("a", "user", "jane")
    assert (
        len({pseudonym(*parts) for parts in (("a", "user", "jane"), ("b", "user", "jane"), ("a", "token", "jane"))})
        == 3
    )
    assert "jane" not in pseudonym("a", "user", "jane")


# --- networks ----------------------------------------------------------------------------------------------------


def of_network(tmp_path: Path, text: str, changes: str) -> Decision:
    item = observed(network(text))
    reputations = [reputation(item.observable, provider=p) for p in ("abuseipdb", "list_feed")]
    return run([finding()], reputations, items=[item], rules=policy(tmp_path, changes))


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("203.0.113.0/24", True),
        ("203.0.112.0/23", False),
        ("0.0.0.0/0", False),
        ("2001:db8:1::/48", True),
        ("2001:db8::/47", False),
        ("::/0", False),
    ],
)
def test_a_network_that_is_too_wide_is_never_blocked(tmp_path: Path, text: str, blocked: bool) -> None:
    # The ranges that hold protected ones are the gate's business; here it protects none.
    changes = f"{NETWORKS}\nnever_block: {{own: {{networks: []}}}}"
    decision = of_network(tmp_path, text, changes)
    assert bool(decision.indicators) is blocked
    if not blocked and "/0" not in text:
        assert (refusal(decision).layer, refusal(decision).list_name) == ("width", "block.widest_prefix")
        assert f"/{text.partition('/')[2]} is wider" in refusal(decision).reason


def test_the_shipped_policy_blocks_no_network_at_all(tmp_path: Path) -> None:
    assert refusal(of_network(tmp_path, "203.0.113.128/32", "related: {days: 30}")).layer == "type"


# --- caps --------------------------------------------------------------------------------------------------------


def many(values: Sequence[str], rules: Policy, *, asn: dict[str, int] | None = None, **more: Any) -> Decision:
    """One attack from all these addresses, each of which two sources list."""
    items = [observed(address(value)) for value in values]
    reputations = [reputation(i.observable, provider=p) for i in items for p in ("abuseipdb", "list_feed")]
    traffic = tuple(Traffic(address=value, asn=number) for value, number in (asn or {}).items())
    return run([finding(traffic=traffic)], reputations, items=items, rules=rules, **more)


FAR_APART = [f"203.0.113.{n}" for n in (1, 2)] + ["2001:db8:1::1", "2001:db8:2::1"]


@pytest.mark.parametrize(
    ("values", "changes", "reason"),
    [
        (FAR_APART, "maximum_per_run: 4", None),
        (FAR_APART, "maximum_per_network: 2", None),
        (
            FAR_APART,
            "maximum_per_network: 1",
            "2 addresses of 203.0.113.0/24 in one run: block.maximum_per_network is 1",
        ),
        (["2001:db8:1::1", "2001:db8:1:ffff::1"], "maximum_per_network: 2", None),
        (
            ["2001:db8:1::1", "2001:db8:1:ffff::1"],
            "maximum_per_network: 1",
            "2 addresses of 2001:db8:1::/48 in one run",
        ),
        (["203.0.113.255", "198.51.100.1"], "maximum_per_network: 1", None),
    ],
)
def test_a_crowded_network_holds_itself_and_says_why(
    tmp_path: Path, values: list[str], changes: str, reason: str | None
) -> None:
    decision = many(values, policy(tmp_path, f"block: {{{changes}}}"))
    held = {address(value) for value in values if reason and value[:9] == values[0][:9]}
    assert {i.observable for i in decision.held} == held
    for indicator in decision.indicators:
        assert indicator.rung is (Rung.DETECT if indicator.observable in held else Rung.BLOCK_LONG)
    assert len(decision.indicators) == len(values)
    assert [r for r in decision.hold_reasons if reason and reason in r] == list(decision.hold_reasons)
    assert bool(decision.hold_reasons) is bool(reason)
    assert decision.refusals == ()
    assert len(decision.verdicts) == len(values)


@pytest.mark.parametrize(("most", "held"), [(2, 0), (1, 2)])
def test_the_cap_per_as_by_what_the_findings_say(tmp_path: Path, most: int, held: int) -> None:
    values = ["203.0.113.1", "198.51.100.1"]
    decision = many(values, policy(tmp_path, f"block: {{maximum_per_asn: {most}}}"), asn=dict.fromkeys(values, 64496))
    assert len(decision.held) == held
    if held:
        assert decision.hold_reasons == ("2 addresses of AS64496 in one run: block.maximum_per_asn is 1",)
    assert decision.remarks == ()


TABLE = "203.0.112.0\t203.0.113.127\t64496\tXX\tFirst, of example\n203.0.113.128\t203.0.113.255\t0\tNone\tNot routed\n"
TABLE += "2001:db8::\t2001:db8:0:ffff:ffff:ffff:ffff:ffff\t64497\tXX\tSecond\n"


@pytest.mark.parametrize("name", ["table.tsv", "table.tsv.gz"])
def test_the_cap_per_as_by_the_offline_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(TABLE.encode()) if name.endswith("gz") else TABLE.encode())
    rules = policy(tmp_path, f"block: {{maximum_per_asn: 1, asn_table: {path}}}")
    assert many(["203.0.113.1", "2001:db8::1"], rules).indicators
    decision = many(["203.0.113.1", "203.0.113.2"], rules)
    assert decision.hold_reasons == ("2 addresses of AS64496 in one run: block.maximum_per_asn is 1",)
    # What the finding says is nearer than the table.
    assert many(["203.0.113.1", "203.0.113.2"], rules, asn={"203.0.113.2": 64499}).indicators


def test_a_cap_that_cannot_be_applied_is_said(tmp_path: Path) -> None:
    decision = many(["203.0.113.1", "198.51.100.1"], policy(), asn={"203.0.113.1": 64496})
    assert [r for r in decision.remarks if "maximum_per_asn could not be applied to 1 of 2" in r and "null" in r]
    path = tmp_path / "table.tsv"
    path.write_text(TABLE, encoding="utf-8")
    decision = many(["203.0.113.200"], policy(tmp_path, f"block: {{asn_table: {path}}}"))
    assert [r for r in decision.remarks if str(path) in r]
    assert many([], policy()).remarks == ()


@given(
    st.lists(st.integers(0, 40), max_size=12, unique=True),
    st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6)),
    st.sets(st.integers(0, 40)),
)
def test_the_caps_hold_exactly_what_is_above_their_numbers(
    numbers: list[int], most: tuple[int, int, int], blocked: set[int]
) -> None:
    by_value = {f"{('198.51.100', '203.0.113', '192.0.2')[n % 3]}.{100 + n}": n for n in numbers}
    asn = {value: 64496 + n % 2 for value, n in by_value.items()}
    names = ("maximum_per_run", "maximum_per_network", "maximum_per_asn")
    rules = policy().block.model_copy(update=dict(zip(names, most, strict=True)))
    traffic = tuple(Traffic(address=value, asn=number) for value, number in asn.items())
    in_force = {address(value).key for value, n in by_value.items() if n in blocked}
    looked = caps.check_caps(
        [planned(value) for value in by_value], by_address([finding(traffic=traffic)]), rules, None, in_force=in_force
    )
    new = [value for value in by_value if address(value).key not in in_force]
    nets = [value.rpartition(".")[0] for value in new]
    systems = [asn[value] for value in new]
    crowded = {v for v in new if nets.count(v.rpartition(".")[0]) > most[1] or systems.count(asn[v]) > most[2]}
    held = {value for value in new if address(value).key in looked.reasons}
    assert crowded <= held
    assert len(held - crowded) == max(0, len(new) - len(crowded) - most[0])
    assert not looked.reasons.keys() & in_force
    assert looked.remarks == ()


def test_an_attacker_with_many_addresses_does_not_stop_the_block_of_others(tmp_path: Path) -> None:
    crowd = [f"203.0.113.{n}" for n in range(1, 22)]
    decision = many([*crowd, "198.51.100.1"], policy())
    assert {i.observable.value for i in decision.held} == set(crowd)
    blocked = [i.observable.value for i in decision.indicators if i.rung and i.rung.is_block]
    assert blocked == ["198.51.100.1"]
    assert decision.hold_reasons == ("21 addresses of 203.0.113.0/24 in one run: block.maximum_per_network is 20",)


def test_a_crowded_network_is_offered_as_one_where_networks_may_be_blocked(tmp_path: Path) -> None:
    unprotected = "never_block: {own: {networks: []}}"
    rules = policy(tmp_path, f"block: {{maximum_per_network: 1}}\n{NETWORKS}\n{unprotected}")
    decision = many(["203.0.113.1", "203.0.113.2"], rules)
    offered = decision.held[-1]
    assert (offered.observable, offered.rung) == (network("203.0.113.0/24"), Rung.BLOCK_LONG)
    assert offered.hold_reasons[0].startswith("offered in place of its 2 addresses")
    protected = policy(
        tmp_path, f"block: {{maximum_per_network: 1}}\n{NETWORKS}\nnever_block: {{own: {{networks: [203.0.113.9/32]}}}}"
    )
    assert [i.observable.is_address for i in many(["203.0.113.1", "203.0.113.2"], protected).held] == [True, True]


def test_a_crowded_network_that_was_seen_itself_is_asked_about_once(tmp_path: Path) -> None:
    rules = policy(tmp_path, f"block: {{maximum_per_network: 1}}\n{NETWORKS}\nnever_block: {{own: {{networks: []}}}}")
    values = [address("203.0.113.1"), address("203.0.113.2"), network("203.0.113.0/24")]
    said = [reputation(value, provider=p) for value in values for p in ("abuseipdb", "list_feed")]
    held = [i.observable for i in run([finding()], said, items=[observed(v) for v in values], rules=rules).held]
    assert sorted(held, key=str) == sorted(values, key=str)


def test_what_is_over_the_number_of_a_run_waits_the_weakest_evidence_first(tmp_path: Path) -> None:
    rules = policy(tmp_path, "block: {maximum_per_run: 1}")
    items = [observed(address(value)) for value in ("203.0.113.1", "203.0.113.2")]
    said = [reputation(items[0].observable, provider="abuseipdb")]
    said += [reputation(items[1].observable, provider=p) for p in ("abuseipdb", "list_feed")]
    decision = run([finding()], said, items=items, rules=rules)
    assert [i.observable for i in decision.held] == [items[0].observable]
    assert "2 new blocks in one run: block.maximum_per_run is 1" in decision.hold_reasons[0]


def planned(value: str) -> Indicator:
    return Indicator(
        observable=address(value),
        confidence=90,
        reasons=(),
        roles=(Role.ATTACKER,),
        first_seen_at=NOW,
        last_seen_at=NOW,
        expires_at=NOW + timedelta(days=7),
        finding_uids=("f1",),
        steps=(Step(rung=Rung.BLOCK_LONG, expires_at=NOW + timedelta(days=7), ways=("a test",)),),
    )


# --- what becomes of the question --------------------------------------------------------------------------------


def held_run(tmp_path: Path) -> Decision:
    return many(["203.0.113.1", "203.0.113.2"], policy(tmp_path, "block: {maximum_per_network: 1}"))


def answered(answer: ApprovalAnswer, by: str = "", at: datetime = NOW) -> Approval:
    return Approval(answer=answer, by=by, at=at)


def test_what_is_approved_is_acted_on(tmp_path: Path) -> None:
    held = held_run(tmp_path)
    settled = caps.settle(held, answered(ApprovalAnswer.APPROVED, "jane"), now=NOW)
    assert [i.rung for i in held.indicators] == [Rung.DETECT] * 2
    assert [[step.rung for step in i.steps] for i in settled.indicators] == [list(Rung)] * 2
    assert (settled.held, settled.refusals) == ((), ())
    assert settled.hold_reasons == held.hold_reasons
    assert settled.approval == answered(ApprovalAnswer.APPROVED, "jane")


def test_what_is_over_when_the_answer_comes_is_refused(tmp_path: Path) -> None:
    held = held_run(tmp_path)
    ends = held.held[0].expires_at
    in_time = caps.settle(held, answered(ApprovalAnswer.APPROVED), now=ends - timedelta(seconds=1))
    assert {i.rung for i in in_time.indicators} == {Rung.BLOCK_LONG}
    settled = caps.settle(held, answered(ApprovalAnswer.APPROVED), now=ends)
    assert settled.indicators == held.indicators
    assert [(r.layer, r.entry) for r in settled.refusals] == [("approval", "expired")] * 2


@pytest.mark.parametrize(
    ("answer", "by", "entry", "words"),
    [
        (ApprovalAnswer.REJECTED, "jane", "rejected", "rejected by jane at 2026-11-24 12:00Z"),
        (ApprovalAnswer.REJECTED, "", "rejected", "rejected by an unnamed user at"),
        (ApprovalAnswer.NOBODY, "", "unanswered", "nobody answered until 2026-11-24 12:00Z"),
    ],
)
def test_what_is_not_approved_is_refused_and_says_who_and_when(
    tmp_path: Path, answer: ApprovalAnswer, by: str, entry: str, words: str
) -> None:
    held = held_run(tmp_path)
    settled = caps.settle(held, answered(answer, by), now=NOW)
    assert (settled.indicators, settled.held) == (held.indicators, ())  # the milder steps were never held
    assert {r.observable for r in settled.refusals} == {i.observable for i in held.held}
    for refused in settled.refusals:
        assert (refused.layer, refused.list_name, refused.entry) == ("approval", "response.approval", entry)
        assert words in refused.reason
        assert refused.finding_uids == ("f1",)
    assert settled == Decision.model_validate(settled.to_json())


def test_a_person_chooses_which_items(tmp_path: Path) -> None:
    held = held_run(tmp_path)
    chosen, other = (i.observable for i in held.held)
    approval = Approval(
        answer=ApprovalAnswer.APPROVED, by="jane", at=NOW, chosen=(chosen.key,), comment="the other is a shop"
    )
    settled = caps.settle(held, approval, now=NOW)
    assert {i.observable: i.rung for i in settled.indicators} == {chosen: Rung.BLOCK_LONG, other: Rung.DETECT}
    (refused,) = settled.refusals
    assert (refused.observable, refused.entry) == (other, "rejected")
    assert refused.reason == "not among what jane chose at 2026-11-24 12:00Z: the other is a shop"


def test_the_safe_default_is_each_rungs(tmp_path: Path) -> None:
    held = held_run(tmp_path)
    settled = caps.settle(held, answered(ApprovalAnswer.NOBODY), now=NOW, acts_unanswered={Rung.BLOCK_SHORT})
    assert {i.rung for i in settled.indicators} == {Rung.BLOCK_SHORT}
    assert settled.refusals == ()
