"""What is never blocked, what is judged how, and what is acted on for how long."""

from __future__ import annotations

import gzip
import ipaddress
import json
import os
import re
from pathlib import Path

import pytest

from include.soar.model import ObservableType, Rung
from include.soar.policy.file import asn_table, load_policy, stored_policy
from include.soar.policy.rules import PolicyError
from tests.soar.examples import CONFIG, address, policy, reputation

EVIL = address("203.0.113.7")
BOTH = [reputation(EVIL, provider="abuseipdb"), reputation(EVIL, provider="list_feed")]


SHORT = "response:\n  rungs:\n    block_short:\n      evidence:\n      - {}"

# --- the policy file ---------------------------------------------------------------------------------------------


def test_the_shipped_policies_load() -> None:
    shipped = load_policy([CONFIG / "policy.yaml"])
    assert not shipped.never_block.documentation_ranges_are_real
    assert policy().never_block.documentation_ranges_are_real
    assert policy().digest != shipped.digest
    assert load_policy([CONFIG / "policy.yaml"]).digest == shipped.digest


@pytest.mark.parametrize("profile", ["cautious", "balanced", "strict"])
def test_one_line_chooses_a_profile_and_what_the_policy_says_itself_lies_over_it(tmp_path: Path, profile: str) -> None:
    chosen = policy(tmp_path, f"response: {{profile: {profile}, rungs: {{block_long: {{hours: {{ipv4-addr: 100}}}}}}}}")
    assert chosen.response.rungs.block_long.hours[ObservableType.IPV4] == 100
    assert chosen.response.rungs.block_long.hours[ObservableType.FILE] == 2160
    assert stored_policy(json.loads(json.dumps(chosen.document))) == chosen
    assert chosen.response.rungs_of("watch") == {Rung.WATCH}
    assert chosen.response.rungs_of("block.waf") == {Rung.BLOCK_SHORT, Rung.BLOCK_LONG}
    assert chosen.response.rungs_of("block.edr") == {Rung.DETECT, Rung.BLOCK_SHORT, Rung.BLOCK_LONG}


def test_one_number_of_hours_is_for_every_type_but_networks(tmp_path: Path) -> None:
    hours = policy(tmp_path, "response: {rungs: {watch: {hours: 5}}}").response.rungs.watch.hours
    assert hours[ObservableType.EMAIL] == 5
    assert ObservableType.CIDR not in hours


def test_a_control_can_be_switched_off(tmp_path: Path) -> None:
    response = policy(tmp_path, "response: {switched_off: [crowdstrike_falcon]}").response
    assert (response.is_off("crowdstrike_falcon"), response.is_off("splunk")) == (True, False)


def test_a_later_file_lies_over_the_earlier_one(tmp_path: Path) -> None:
    changed = policy(tmp_path, "block: {maximum_per_run: 3}\nnever_block: {own: {networks: [192.0.2.128/25]}}")
    assert changed.block.maximum_per_run == 3
    assert changed.block.roles == policy().block.roles
    assert changed.never_block.own.networks == ("192.0.2.128/25",)  # a list is replaced, not added to
    assert changed.never_block.own.domains == ("shop.example",)


@pytest.mark.parametrize(
    ("changes", "line", "problem"),
    [
        ("block:\n  maximum_per_run: 0", 2, "block.maximum_per_run: should be greater than or equal to 1, not 0"),
        ("block:\n  maximum_per_run: '5'", 2, "block.maximum_per_run: should be a valid integer, not '5'"),
        ("block:\n  maximum_per_run: yes", 2, "block.maximum_per_run: should be a valid integer, not True"),
        ("block:\n\n  maximum_per_night: 5", 3, "block.maximum_per_night: there is no such field"),
        ("block:\n  roles: [attacker,\n    claim]", 2, "block.roles: claim can never be blocked"),
        ("block: {roles: [victim]}", 1, "block.roles: victim can never be blocked"),
        ("block: {roles: [internal]}", 1, "block.roles: internal can never be blocked"),
        ("block: {roles: [mentioned]}", 1, "block.roles: mentioned can never be blocked"),
        ("block:\n  roles:\n  - attacker\n  - bystander", 4, "block.roles[1]: should be"),
        ("block:\n  days:\n    cidr: 3", 2, "block.days: is now response.rungs.block_long.hours"),
        ("block: {evidence: {independent_sources: 2}}", 1, "block.evidence: is now response.rungs.block_long.evidence"),
        ("block: {approval: {wait_hours: 2}}", 1, "block.approval: is now response.approval"),
        ("response: {profile: daring}", 1, "response.profile: 'daring' is none of balanced, cautious, strict"),
        ("response:\n  rungs: {watch: {hours: {ipv5-addr: 3}}}", 2, "response.rungs.watch.hours.ipv5-addr: should be"),
        (SHORT.format("{way: any_source, grade: C}"), 5, "evidence[0]: any_source does not lead to this rung: "),
        (SHORT.format("{way: hunch}"), 5, "response.rungs.block_short.evidence[0]: hunch does not lead to this rung: "),
        (SHORT.format("{grade: C}"), 5, "evidence[0]: does not say which way to evidence it is"),
        (SHORT.format("{way: repetition, times: 1}"), 5, "response.rungs.block_short.evidence[0].days: is missing"),
        (
            SHORT.format("{way: independent_sources, sources: 1, grade: C}"),
            5,
            "response.rungs.block_short.evidence[0].sources: should be greater than or equal to 2, not 1",
        ),
        (
            "response: {rungs: {watch: {evidence: [{way: role, roles: [claim], severity: high}]}}}",
            1,
            "response.rungs.watch.evidence[0].roles: claim can never be acted on",
        ),
        ("response: {rungs: {block_short: {hours: 200}}}", 1, "a long block of ipv4-addr is shorter than a short one"),
        ("response: {escalation: {hours: [24, 4]}}", 1, "response.escalation.hours: a later block must not be shorter"),
        ("response: {approval: {unanswered: {block: act}}}", 1, "response.approval.unanswered.block: should be"),
        ("sources: {list_feed: {lists: {ipsum: {reliability: Z}}}}", 1, "sources.list_feed.lists.ipsum.reliability: "),
        ("priority: {minimum_severity: urgent}", 1, "priority.minimum_severity: should be"),
        ("sources:\n  abuseipdb:\n    weight: 0.5", 3, "sources.abuseipdb.weight: there is no such field"),
        ("sources:\n  new:\n    reliability: A", 2, "sources.new.malicious_from: is missing"),
        ("sources: {abuseipdb: {suspicious_from: 80}}", 1, "sources.abuseipdb: suspicious_from 80 is above"),
        ("sources: {abuseipdb: {reliability: G}}", 1, "sources.abuseipdb.reliability: should be"),
        ("verdict: {reliability: {B: 101}}", 1, "verdict.reliability.B: should be less than or equal to 100, not 101"),
        ("verdict: {reliability: {B: 10}}", 1, "verdict.reliability: a better grade must not weigh less"),
        ("verdict: {reliability: null}", 1, "verdict.reliability: should be a mapping"),
        ("verdict: {half_life_days: {url: 0}}", 1, "verdict.half_life_days.url: should be greater"),
        ("verdict: {half_life_days: {url: .inf}}", 1, "verdict.half_life_days.url: should be"),
        ("verdict: {finding: {roles: [claim]}}", 1, "verdict.finding.roles: claim can never add weight"),
        ("verdict: {stale_below: -1}", 1, "verdict.stale_below: should be greater than or equal to 0, not -1"),
        ("reputation_hours: {listed: .nan}", 1, "reputation_hours.listed: should be"),
        (
            "never_block: {own: {networks: [192.0.2.1/24]}}",
            1,
            "never_block.own.networks[0]: 192.0.2.1/24 has host bits",
        ),
        ("never_block: {own: {networks: [everything]}}", 1, "never_block.own.networks[0]: 'everything' does not"),
        ("never_block: {own: {domains: ['https://shop.example/']}}", 1, "never_block.own.domains[0]: "),
        ("never_block: {own: {domains: ['']}}", 1, "never_block.own.domains[0]: "),
        ("version: null", 1, "version: should be a valid integer, not None"),
        ("version: 1\nblock: {}\nversion: 1", 3, "version: given for the second time, first in line 1"),
        ("a:\n  b: {c: 1, c: 2}", 2, "a.b.c: given for the second time"),
        ("block:\n  7: x", 2, "block: a key must be a plain word"),
        ("base: &base {}\nblock:\n  <<: *base", 3, "block: a key must be a plain word"),
        ("- a list", 1, "is not a mapping"),
        ("", 1, "is not a mapping"),
        ("a: 1\nb: [", 2, "expected the node content"),
        ("a: &a {b: *a}", None, "contains itself"),
        ("a: 1\n---\nb: 2", 2, "but found another document"),
    ],
)
def test_a_wrong_policy_is_refused_by_file_line_and_field(
    tmp_path: Path, changes: str, line: int | None, problem: str
) -> None:
    path = tmp_path / "changes.yaml"
    path.write_text(changes, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy([CONFIG / "policy.yaml", path])
    place = f"{path}:{line}: " if line else f"{path}: "
    assert str(caught.value).startswith(place)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            "response:\n  switched_off: [splunk, splink]",
            "2: response.switched_off[1]: 'splink' is none of akamai, splunk",
        ),
        (
            "response:\n  rungs:\n    watch:\n      controls: [watch, block.fw]",
            "4: response.rungs.watch.controls[1]: 'block.fw' is none of block.edr, block.waf, watch",
        ),
    ],
)
def test_a_control_that_there_is_not_is_refused_by_line(tmp_path: Path, changes: str, problem: str) -> None:
    """A slip would leave on what was to be off, or leave a rung without its control, and say nothing."""
    path = tmp_path / "changes.yaml"
    path.write_text(changes, encoding="utf-8")
    known = {"block.waf": ("akamai",), "block.edr": ("akamai",), "watch": ("splunk",)}
    with pytest.raises(PolicyError) as caught:
        load_policy([CONFIG / "policy.yaml", path], controls=known)
    assert str(caught.value) == f"{path}:{problem}"
    load_policy([CONFIG / "policy.yaml"], controls=known)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ("response: {rungs: {watch: {hours: 8761}}}", "response.rungs.watch.hours"),
        ("response: {rungs: {watch: {hours: 0}}}", "response.rungs.watch.hours"),
        ("response: {escalation: {clean_days: 3651}}", "response.escalation.clean_days"),
        (SHORT.format("{way: repetition, times: 1, days: 3651}"), "response.rungs.block_short.evidence[0].days"),
        ("related: {days: 3651}", "related.days"),
        ("verdict: {history: {days: 1000000000}}", "verdict.history.days"),
        ("reputation_hours: {listed: 8761}", "reputation_hours.listed"),
        ("enrichment: {carry_over: {days: 1.0e+9}}", "enrichment.carry_over.days"),
        ("enrichment: {breaker: {first_minutes: 44641}}", "enrichment.breaker.first_minutes"),
        ("enrichment: {breaker: {longest_minutes: 1.0e+300}}", "enrichment.breaker.longest_minutes"),
        (
            "enrichment: {quotas: {abuseipdb: [{name: check, calls: 1, seconds: 2678401}]}}",
            "enrichment.quotas.abuseipdb[0].seconds",
        ),
        (
            "enrichment: {quotas: {abuseipdb: [{name: check, calls: 100000001, seconds: 60}]}}",
            "enrichment.quotas.abuseipdb[0].calls",
        ),
    ],
)
def test_a_time_or_number_that_no_calendar_holds_is_refused(tmp_path: Path, changes: str, field: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(tmp_path, changes)
    assert f": {field}" in str(caught.value)
    assert re.search(r"should be (less|greater) than", str(caught.value))


def test_the_last_day_of_the_calendar_is_no_end(tmp_path: Path) -> None:
    entry = "{value: 198.51.100.7, until: '9999-12-31', owner: soc, reason: a partner}"
    with pytest.raises(PolicyError, match=r"until: '9999-12-31' is no day on which .* ends"):
        policy(tmp_path, f"never_block: {{allow: [{entry}]}}")


def test_every_problem_is_named_with_the_layer_that_it_comes_from(tmp_path: Path) -> None:
    base = (CONFIG / "policy.yaml").read_text("utf-8").replace("malicious_from: 75", "malicious_from: 750", 1)
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    (tmp_path / "over.yaml").write_text("sources:\n  abuseipdb: {suspicious_from: 0}\nrelated: {days: 0}\n", "utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy([tmp_path / "base.yaml", tmp_path / "over.yaml"])
    line = 1 + base[: base.index("malicious_from: 750")].count("\n")
    assert [message.split(": ")[:2] for message in str(caught.value).splitlines()] == [
        [f"{tmp_path}/base.yaml:{line}", "sources.abuseipdb.malicious_from"],
        [f"{tmp_path}/over.yaml:2", "sources.abuseipdb.suspicious_from"],
        [f"{tmp_path}/over.yaml:3", "related.days"],
    ]


def test_a_policy_is_the_same_after_it_was_stored() -> None:
    rules = policy()
    stored = json.loads(json.dumps(rules.document))
    assert stored_policy(stored) == rules
    assert stored_policy(stored).digest == rules.digest
    del stored["verdict"]["stale_below"]
    with pytest.raises(PolicyError, match=r"the stored policy: verdict\.stale_below: is missing"):
        stored_policy(stored)


def test_how_a_policy_is_written_does_not_change_its_digest(tmp_path: Path) -> None:
    same = "block: {roles: [resolved, payload, destination, attacker]}\nverdict: {history: {benign: 50, days: 90}}"
    assert policy(tmp_path, same).digest == policy().digest
    assert policy(tmp_path, "verdict: {history: {benign: 51}}").digest != policy().digest


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.yaml"):
        load_policy([tmp_path / "nowhere.yaml"])
    (tmp_path / "latin1.yaml").write_bytes("a: \u00fc".encode("latin-1"))
    with pytest.raises(PolicyError, match=r"latin1\.yaml"):
        load_policy([tmp_path / "latin1.yaml"])


TABLE = "203.0.112.0\t203.0.113.127\t64496\tXX\tFirst, of example\n203.0.113.128\t203.0.113.255\t0\tNone\tNot routed\n"
TABLE += "2001:db8::\t2001:db8:0:ffff:ffff:ffff:ffff:ffff\t64497\tXX\tSecond\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        ("203.0.113.0\t203.0.113.255\tAS64496\n", "line 1: 'AS64496' is no AS number"),
        ("203.0.113.0\t203.0.113.255\n", "line 1: not range_start"),
        (f"{TABLE}203.0.113.0\t203.0.113.300\t1\n", "line 4: "),
        (f"{TABLE}203.0.113\t203.0.113.1\t1\n", "line 4: '203.0.113' is no address"),
        ("203.0.113.9\t203.0.113.1\t1\n", "line 1: 203.0.113.9 to 203.0.113.1 is no range"),
        ("203.0.113.9\t2001:db8::1\t1\n", "is no range"),
        (f"{TABLE}203.0.113.100\t203.0.113.110\t1\n", "two ranges hold 203.0.113.100"),
    ],
)
def test_an_as_table_that_is_missing_or_wrong_is_named(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "table.tsv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        asn_table(policy(tmp_path, f"block: {{asn_table: {path}}}").block)
    assert str(caught.value).startswith(f"block.asn_table: {path}: ")
    assert problem in str(caught.value)


def test_an_as_table_is_read_again_once_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    block = policy(tmp_path, f"block: {{asn_table: {path}}}").block
    first = asn_table(block)
    assert first is not None
    assert (len(first), first.get(ipaddress.ip_address("203.0.113.7"))) == (2, 64496)
    assert asn_table(block) is first
    path.write_bytes(gzip.compress(TABLE.replace("64496", "64511").encode()))
    os.utime(path, ns=(1, 1))
    again = asn_table(block)
    assert again is not None
    assert again.get(ipaddress.ip_address("203.0.113.7")) == 64511
    assert asn_table(policy().block) is None


def test_an_as_table_has_an_absolute_path(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is not an absolute path"):
        policy(tmp_path, "block: {asn_table: nowhere.tsv}")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            "version: 1\nnever_block: {allow: [{value: 203.0.113.7, until: 2026-02-31}]}",
            "2: never_block.allow[0].until",
        ),
        ("block: {maximum_per_run: " + "1" * 5000 + "}", "1: block.maximum_per_run"),
        ("related: {days: !!bool x}", "1: related.days: is not what its tag says"),
        ("related: {days: !!timestamp x}", "1: related.days: is not what its tag says"),
        ('related: {days: "\\ud800"}', "1: the policy: holds a character that no text can hold"),
    ],
    ids=["date", "digits", "bool", "timestamp", "surrogate"],
)
def test_n16_a_value_that_yaml_cannot_make_is_named_as_any_other(tmp_path: Path, text: str, where: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        load_policy([CONFIG / "policy.yaml", own])
    assert str(refused.value).startswith(f"{own}:{where}")
