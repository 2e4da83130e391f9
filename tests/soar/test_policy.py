"""What is never blocked, what is judged how, and what is acted on for how long."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.soar.gate import Hit, NetworkTable, unwrap
from include.soar.model import (
    Answer,
    Decision,
    Finding,
    Indicator,
    Observable,
    ObservableType,
    Observed,
    Refusal,
    Reputation,
    Role,
    Severity,
    Standing,
)
from include.soar.observables import parse_url
from include.soar.plan import decide
from include.soar.policy import Policy, PolicyError, load_policy
from include.soar.verdicts import judge
from tests.soar.examples import CONFIG, NOW, address, domain, finding, observed, policy, reputation, sighting

EVIL = address("203.0.113.7")
BOTH = [reputation(EVIL, provider="abuseipdb"), reputation(EVIL, provider="list_feed")]


def url(text: str) -> Observable:
    found = parse_url(text)
    assert found is not None
    return found


def mail(text: str) -> Observable:
    return Observable(type=ObservableType.EMAIL, value=text)


# --- the policy file ---------------------------------------------------------------------------------------------


def test_the_shipped_policies_load() -> None:
    shipped = load_policy([CONFIG / "policy.yaml"])
    assert not shipped.never_block.documentation_ranges_are_real
    assert policy().never_block.documentation_ranges_are_real
    assert policy().digest != shipped.digest
    assert load_policy([CONFIG / "policy.yaml"]).digest == shipped.digest


def test_a_later_file_lies_over_the_earlier_one(tmp_path: Path) -> None:
    changed = policy(tmp_path, "block: {maximum_per_run: 3}\nnever_block: {own: {networks: [192.0.2.128/25]}}")
    assert changed.block.maximum_per_run == 3
    assert changed.block.days == policy().block.days
    assert changed.never_block.own.networks == ("192.0.2.128/25",)  # a list is replaced, not added to
    assert changed.never_block.own.domains == ("shop.example",)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ("block: {maximum_per_run: 0}", "block.maximum_per_run"),
        ("block: {maximum_per_night: 5}", "block.maximum_per_night"),
        ("block: {roles: [attacker, claim]}", "block.roles"),
        ("block: {roles: [victim]}", "block.roles"),
        ("block: {roles: [internal]}", "block.roles"),
        ("block: {roles: [mentioned]}", "block.roles"),
        ("block: {roles: [bystander]}", "block.roles"),
        ("block: {days: {ipv5-addr: 3}}", "block.days"),
        ("priority: {minimum_severity: urgent}", "priority.minimum_severity"),
        ("sources: {abuseipdb: {weight: 2}}", "sources.abuseipdb.weight"),
        ("sources: {new: {weight: 1}}", "sources.new.malicious_from"),
        ("never_block: {own: {networks: [192.0.2.1/24]}}", "never_block.own.networks"),
        ("never_block: {own: {networks: [everything]}}", "never_block.own.networks"),
        ("never_block: {own: {domains: ['https://shop.example/']}}", "never_block.own.domains"),
        ("never_block: {own: {domains: ['']}}", "never_block.own.domains"),
        ("version: null", "version"),
        ("- a list", "is not a mapping"),
        ("", "is not a mapping"),
        ("a: [", "changes.yaml"),
    ],
)
def test_a_wrong_policy_is_refused_by_file_and_field(tmp_path: Path, changes: str, named: str) -> None:
    (tmp_path / "changes.yaml").write_text(changes, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy([CONFIG / "policy.yaml", tmp_path / "changes.yaml"])
    assert named in str(caught.value)
    assert "changes.yaml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.yaml"):
        load_policy([tmp_path / "nowhere.yaml"])
    (tmp_path / "latin1.yaml").write_bytes("a: \u00fc".encode("latin-1"))
    with pytest.raises(PolicyError, match=r"latin1\.yaml"):
        load_policy([tmp_path / "latin1.yaml"])


# --- the never-block gate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ("0.0.0.0", "0.0.0.0/8"),
        ("10.0.0.1", "10.0.0.0/8"),
        ("100.64.0.1", "100.64.0.0/10"),
        ("100.127.255.255", "100.64.0.0/10"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("169.254.169.254", "169.254.0.0/16"),
        ("172.31.255.255", "172.16.0.0/12"),
        ("192.0.0.8", "192.0.0.0/24"),
        ("192.88.99.1", "192.88.99.0/24"),
        ("192.168.1.1", "192.168.0.0/16"),
        ("198.19.255.255", "198.18.0.0/15"),
        ("224.0.0.1", "224.0.0.0/4"),
        ("239.255.255.250", "224.0.0.0/4"),
        ("240.0.0.1", "240.0.0.0/4"),
        ("255.255.255.255", "240.0.0.0/4"),
        ("::", "::/128"),
        ("::1", "::1/128"),
        ("64:ff9b:1::1", "64:ff9b:1::/48"),
        ("100::1", "100::/64"),
        ("2001::1", "2001::/23"),  # Teredo
        ("fc00::1", "fc00::/7"),
        ("fd12:3456::1", "fc00::/7"),
        ("fe80::1", "fe80::/10"),
        ("fec0::1", "fec0::/10"),
        ("ff02::1", "ff00::/8"),
        # The same in every disguise.
        ("::ffff:10.0.0.1", "10.0.0.0/8"),
        ("::ffff:127.0.0.1", "127.0.0.0/8"),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8"),
        ("64:ff9b::169.254.169.254", "169.254.0.0/16"),
        ("2002:a00:1::1", "10.0.0.0/8"),
        ("2002:c0a8:101::", "192.168.0.0/16"),
        ("2002:e000:1::", "224.0.0.0/4"),
    ],
)
def test_special_purpose_addresses(value: str, entry: str) -> None:
    observable = address(str(ipaddress.ip_address(value)))
    for rules in (policy(), load_policy([CONFIG / "policy.yaml"])):
        hit = rules.gate.check(observable)
        assert hit is not None
        assert (hit.layer, hit.entry) == ("special-purpose", entry)
        assert rules.gate.private(observable) == hit


@pytest.mark.parametrize(
    ("value", "layer"),
    [
        ("192.0.2.1", "own"),
        ("192.0.2.15", "own"),
        ("192.0.2.16", None),
        ("198.51.100.199", None),
        ("198.51.100.200", "partner"),
        ("198.51.100.207", "partner"),
        ("198.51.100.208", None),
        ("192.0.2.53", "well-known"),
        ("192.0.2.54", None),
        ("::ffff:192.0.2.1", "own"),
        ("64:ff9b::192.0.2.1", "own"),
        ("2002:c000:201::5", "own"),
        ("64:ff9b::198.51.100.200", "partner"),
        ("2002:c000:235::", "well-known"),
        ("64:ff9b::203.0.113.7", None),
        ("2002:cb00:7107::", None),
        ("2001:db8::1", None),
    ],
)
def test_own_partner_and_well_known_addresses_in_every_disguise(value: str, layer: str | None) -> None:
    hit = policy().gate.check(address(str(ipaddress.ip_address(value))))
    assert (hit.layer if hit else None) == layer


def test_documentation_ranges_mean_nothing_outside_of_the_demo() -> None:
    gate = load_policy([CONFIG / "policy.yaml"]).gate
    for value in ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "64:ff9b::203.0.113.1"):
        hit = gate.check(address(str(ipaddress.ip_address(value))))
        assert hit is not None, value
        assert hit.layer == "special-purpose"
    assert gate.check(domain("evil.example")) is not None
    assert gate.check(address("8.8.8.8")) is None


def test_a_network_of_ipv6_is_protected_too(tmp_path: Path) -> None:
    gate = policy(tmp_path, "never_block: {own: {networks: ['2001:db8:5::/48', '64:ff9b::cb00:7100/120']}}").gate
    assert gate.check(address("2001:db8:5::9")) is not None
    assert gate.check(address("2001:db8:6::9")) is None
    assert gate.check(address("64:ff9b::cb00:7107")) is not None  # by its plain form


@pytest.mark.parametrize(
    ("observable", "layer"),
    [
        (domain("shop.example"), "own"),
        (domain("a.b.shop.example"), "own"),
        (domain("notshop.example"), None),
        (domain("shop.example.evil.example"), None),
        (domain("partner.example"), "partner"),
        (url("https://www.shop.example/login"), "own"),
        (url("https://SHOP.example:8443/"), "own"),
        (url("https://shop.example."), "own"),
        (url("https://shop.example@evil.example/"), None),
        (url("https://evil.example/https://shop.example/"), None),
        (url("https://evil.example/?@shop.example"), None),
        (url("https://evil.example#@shop.example"), None),
        (url("http://192.0.2.1:8080/"), "own"),
        (url("http://[::ffff:192.0.2.1]/"), "own"),
        (url("http://[64:ff9b::c000:201]:80/"), "own"),
        (url("http://10.0.0.1/"), "special-purpose"),
        (url("http://user:pass@127.0.0.1/"), "special-purpose"),
        (mail("a@mail.shop.example"), "own"),
        (mail("shop.example@evil.example"), None),
        (domain("printer.local"), "special-purpose"),
        (domain("x.onion"), "special-purpose"),
        (domain("7.113.0.203.in-addr.arpa"), "special-purpose"),
        (domain("router.home.arpa"), "special-purpose"),
        (domain("notlocal.example"), None),
        (Observable(type=ObservableType.FILE, value="a" * 30 + "b9"), None),
    ],
    ids=lambda value: value.value[:40] if isinstance(value, Observable) else str(value),
)
def test_names_and_hosts(observable: Observable, layer: str | None) -> None:
    hit = policy().gate.check(observable)
    assert (hit.layer if hit else None) == layer


@pytest.mark.parametrize(
    "written", ["Shop.Example", "shop.example.", ".shop.example", "*.shop.example", " shop.example "]
)
def test_a_protected_domain_protects_however_it_is_written(tmp_path: Path, written: str) -> None:
    gate = policy(tmp_path, f"never_block: {{own: {{domains: ['{written}']}}}}").gate
    assert gate.check(domain("www.shop.example")) is not None


def test_a_protected_domain_may_be_written_with_its_own_letters(tmp_path: Path) -> None:
    gate = policy(tmp_path, "never_block: {own: {domains: [bücher.example]}}").gate
    assert gate.check(domain("www.xn--bcher-kva.example")) is not None


def test_well_known_values_may_be_asked_about_but_ours_and_partners_may_not() -> None:
    gate = policy().gate
    assert gate.check(address("192.0.2.53")) is not None
    assert gate.private(address("192.0.2.53")) is None
    for value in ("192.0.2.1", "198.51.100.200", "10.0.0.1"):
        assert gate.private(address(value)) is not None
    assert gate.private(EVIL) is None


def test_unwrap_leaves_other_addresses_alone() -> None:
    for text in ("203.0.113.7", "2001:db8::1", "64:ff9c::a00:1"):
        assert unwrap(ipaddress.ip_address(text)) == ipaddress.ip_address(text)


# --- the network table against a naive scan ----------------------------------------------------------------------

# Few bits and long prefixes in a narrow range, so that networks nest, touch and repeat.
NETWORKS4 = st.builds(
    lambda number, length: ipaddress.ip_network((0xCB007100 + number, length), strict=False),
    st.integers(0, 255),
    st.integers(22, 32),
)
NETWORKS6 = st.builds(
    lambda number, length: ipaddress.ip_network(((0x20010DB8 << 96) + number, length), strict=False),
    st.integers(0, 255),
    st.integers(118, 128),
)
EDGES = st.sampled_from(["0.0.0.0/0", "::/0", "255.255.255.255/32", "0.0.0.0/32", "ffff::/16", "::/128"])
NETWORKS = NETWORKS4 | NETWORKS6 | EDGES.map(ipaddress.ip_network)
ADDRESSES = st.one_of(
    st.integers(0xCB007100 - 300, 0xCB007100 + 600).map(ipaddress.IPv4Address),
    st.integers(0, 600).map(lambda n: ipaddress.IPv6Address((0x20010DB8 << 96) + n)),
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
)


@given(st.lists(NETWORKS, max_size=12), st.lists(ADDRESSES, min_size=1, max_size=20))
def test_the_table_agrees_with_a_naive_scan(
    networks: list[Any], addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> None:
    table = NetworkTable((n, Hit(layer="x", entry=str(n), reason="")) for n in networks)
    edges = [edge for n in networks for edge in (n.network_address, n.broadcast_address)]
    for one in [*addresses, *edges]:
        holding = [n for n in networks if n.version == one.version and one in n]
        longest = max(holding, key=lambda n: n.prefixlen, default=None)
        hit = table.get(one)
        assert (hit.entry if hit else None) == (str(longest) if longest else None)


# --- judge -------------------------------------------------------------------------------------------------------


def verdict_of(*reputations: Reputation) -> Any:
    return judge(EVIL, reputations, policy())


@pytest.mark.parametrize(
    ("answers", "standing", "confidence"),
    [
        ([], Standing.UNKNOWN, 0),
        ([("abuseipdb", 100)], Standing.MALICIOUS, 80),
        ([("abuseipdb", 75)], Standing.MALICIOUS, 60),
        ([("abuseipdb", 74)], Standing.SUSPICIOUS, 59),
        ([("abuseipdb", 25)], Standing.SUSPICIOUS, 20),
        ([("abuseipdb", 24)], Standing.UNKNOWN, 0),
        ([("abuseipdb", 0)], Standing.UNKNOWN, 0),
        ([("list_feed", 100)], Standing.MALICIOUS, 90),
        ([("abuseipdb", 100), ("list_feed", 100)], Standing.MALICIOUS, 98),  # 1 - 0.2 * 0.1
        ([("abuseipdb", 0), ("list_feed", 100)], Standing.MALICIOUS, 90),  # a clean answer takes nothing away
        ([("abuseipdb", 50), ("list_feed", 100)], Standing.MALICIOUS, 94),
        ([("someone_new", 100)], Standing.UNKNOWN, 0),  # a source without a rule has no voice
    ],
)
def test_the_verdict_of_scores(answers: list[tuple[str, int]], standing: Standing, confidence: int) -> None:
    verdict = verdict_of(*(reputation(EVIL, score, provider=provider) for provider, score in answers))
    assert (verdict.standing, verdict.confidence) == (standing, confidence)
    assert len(verdict.reasons) >= max(1, len(answers))


@pytest.mark.parametrize("silence", [Answer.NOT_CHECKED, Answer.ERROR, Answer.NOT_APPLICABLE])
def test_silence_is_never_clean_and_never_malicious(silence: Answer) -> None:
    silent = reputation(EVIL, None, answer=silence)
    verdict = verdict_of(silent)
    assert (verdict.standing, verdict.confidence) == (Standing.UNKNOWN, 0)
    assert "no source could be asked" in verdict.reasons
    assert any(silence.value in reason for reason in verdict.reasons)
    # Beside a real answer it changes nothing.
    assert verdict_of(silent, reputation(EVIL, 100, provider="list_feed")).confidence == 90
    assert "no source speaks against it" in verdict_of(silent, reputation(EVIL, 0, provider="list_feed")).reasons


def test_nothing_makes_a_value_benign() -> None:
    """No provider here vouches for a value: "nothing against it" is not "good"."""
    scores = [reputation(EVIL, 0, provider=p) for p in ("abuseipdb", "list_feed")]
    assert verdict_of(*scores).standing is Standing.UNKNOWN


def test_a_score_counts_only_where_the_provider_lists_the_value() -> None:
    odd = Reputation(observable=EVIL, provider="list_feed", answer=Answer.NOT_LISTED, score=100, known_at=NOW)
    assert verdict_of(odd).standing is Standing.UNKNOWN
    # ... and is no second voice either.
    decision = run([finding(severity=Severity.LOW)], [odd, BOTH[0]], minimum_severity=Severity.LOW)
    assert decision.indicators == ()


@given(st.lists(st.tuples(st.sampled_from(["abuseipdb", "list_feed"]), st.integers(0, 100)), max_size=2))
def test_a_verdict_does_not_depend_on_the_order_of_answers(answers: list[tuple[str, int]]) -> None:
    given_so = [reputation(EVIL, score, provider=provider) for provider, score in dict(answers).items()]
    verdict = verdict_of(*given_so)
    assert verdict == verdict_of(*reversed(given_so))
    assert 0 <= verdict.confidence <= 100
    assert (verdict.standing is Standing.UNKNOWN) == (verdict.confidence == 0)


# --- decide ------------------------------------------------------------------------------------------------------


def run(
    findings: list[Finding],
    reputations: list[Reputation] | None = None,
    *,
    items: list[Observed] | None = None,
    rules: Policy | None = None,
    **more: Any,
) -> Decision:
    by_key: dict[str, list[Reputation]] = {}
    for one in BOTH if reputations is None else reputations:
        by_key.setdefault(one.observable.key, []).append(one)
    return decide(findings, items or [observed(EVIL)], by_key, rules or policy(), **{"now": NOW, **more})


def refusal(decision: Decision) -> Refusal:
    assert decision.indicators == ()
    (only,) = decision.refusals
    return only


def test_an_attacker_that_two_sources_list_becomes_an_indicator() -> None:
    early, late = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    item = observed(EVIL, sighting(seen=early), sighting("f2", seen=late), sighting("low", seen=NOW))
    findings = [finding("f1"), finding("f2", severity=Severity.CRITICAL), finding("low", severity=Severity.LOW)]
    decision = run(findings, items=[item], silent_providers=["list_feed"])
    assert decision.indicators == (
        Indicator(
            observable=EVIL,
            confidence=98,
            reasons=decision.verdicts[0].reasons,
            roles=(Role.ATTACKER,),
            first_seen_at=early,
            last_seen_at=late,  # the finding of low priority does not count
            expires_at=late + timedelta(days=7),
            finding_uids=("f1", "f2"),
        ),
    )
    assert decision.refusals == ()
    assert [p.high for p in decision.priorities] == [True, True, False]
    assert decision.policy_digest == policy().digest
    assert decision.silent_providers == ("list_feed",)


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
def test_unknown_and_suspicious_are_never_blocked(reputations: list[Reputation]) -> None:
    decision = run([finding(severity=Severity.CRITICAL)], reputations)
    assert (decision.indicators, decision.refusals) == ((), ())
    assert len(decision.verdicts) == 1


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
    assert refusal(decision).layer == "evidence"


def test_a_sighting_in_a_finding_of_low_priority_does_not_count() -> None:
    item = observed(EVIL, sighting("low"), sighting("f1", role=Role.CLAIM))
    assert refusal(run([finding("low", severity=Severity.LOW), finding("f1")], items=[item])).layer == "role"


@pytest.mark.parametrize(
    ("providers", "severity", "enough"),
    [
        (["abuseipdb"], Severity.MEDIUM, False),
        (["abuseipdb"], Severity.HIGH, True),
        (["list_feed"], Severity.LOW, True),  # top grade
        (["abuseipdb", "list_feed"], Severity.LOW, True),
    ],
)
def test_the_evidence_rule(providers: list[str], severity: Severity, enough: bool) -> None:
    reputations = [reputation(EVIL, provider=p) for p in providers]
    decision = run([finding(severity=severity)], reputations, minimum_severity=Severity.LOW)
    if enough:
        assert len(decision.indicators) == 1
    else:
        assert (refusal(decision).layer, refusal(decision).entry) == ("evidence", "abuseipdb")


def test_one_source_is_one_voice_however_often_it_speaks() -> None:
    twice = [reputation(EVIL), reputation(EVIL)]
    decision = run([finding(severity=Severity.LOW)], twice, minimum_severity=Severity.LOW)
    assert refusal(decision).layer == "evidence"


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


@pytest.mark.parametrize(("most", "blocked"), [(3, 3), (2, 0)])
def test_more_than_the_cap_is_a_mistake_and_blocks_nothing(tmp_path: Path, most: int, blocked: int) -> None:
    items = [observed(address(f"203.0.113.{n}")) for n in (1, 2, 3)]
    reputations = [reputation(i.observable, provider="list_feed") for i in items]
    rules = policy(tmp_path, f"block: {{maximum_per_run: {most}}}")
    decision = run([finding()], reputations, items=items, rules=rules)
    assert len(decision.indicators) == blocked
    assert [r.layer for r in decision.refusals] == ["cap"] * (3 - blocked)
    assert len(decision.verdicts) == 3


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
    decision = run(findings, reputations, items=items or [observed(EVIL)])
    rules = policy()
    for indicator in decision.indicators:
        assert rules.gate.check(indicator.observable) is None
        assert set(indicator.roles) <= rules.block.roles
        assert NOW < indicator.expires_at <= NOW + timedelta(days=7)
        assert indicator.finding_uids
        verdict = next(v for v in decision.verdicts if v.observable == indicator.observable)
        assert verdict.standing is Standing.MALICIOUS
    acted = {i.observable for i in decision.indicators}
    assert not acted & {r.observable for r in decision.refusals}
    assert decision == Decision.model_validate(decision.to_json())


def test_a_hit_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Hit(layer="a", entry="b", reason="c").layer = "d"  # type: ignore[misc]
