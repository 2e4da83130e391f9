"""What is never blocked, what is judged how, and what is acted on for how long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.soar.policy.file import load_policy, stored_policy
from include.soar.policy.rules import PolicyError
from tests.soar.examples import CONFIG, address, policy, reputation

EVIL = address("203.0.113.7")
BOTH = [reputation(EVIL, provider="abuseipdb"), reputation(EVIL, provider="list_feed")]


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
        ("block:\n  days:\n    ipv5-addr: 3", 3, "block.days.ipv5-addr: should be"),
        ("block: {evidence: {independent_sources: 1}}", 1, "block.evidence.independent_sources: should be greater"),
        ("block: {evidence: {minimum_grade: A+}}", 1, "block.evidence.minimum_grade: should be 'A', 'B'"),
        ("block: {evidence: {minimum_grade: B, top_grade: C}}", 1, "block.evidence: top_grade C is below"),
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
        ("version: 1\nblock: {}\nversion: 1", 3, "version: stands here for the second time, first in line 1"),
        ("a:\n  b: {c: 1, c: 2}", 2, "a.b.c: stands here for the second time"),
        ("block:\n  7: x", 2, "block: a key must be a plain word"),
        ("base: &base {}\nblock:\n  <<: *base", 3, "block: a key must be a plain word"),
        ("- a list", 1, "is not a mapping"),
        ("", 1, "is not a mapping"),
        ("a: 1\nb: [", 2, "expected the node content"),
        ("a: &a {b: *a}", None, "refers to itself"),
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
