"""The evaluation's own parts, and its one hard claim: the demo day is decided as its answer sheet says."""

from __future__ import annotations

from typing import Any

from include.bench import evaluation
from include.bench.evaluation import Day, OpenGate, calibration
from include.bench.pure import END, POLICY
from include.bench.response.measured import policy_of
from include.simulators.demo_feed import build_demo
from include.simulators.demo_feed.cast import CONFIG_ID, THINLY_LISTED
from include.soar.model import Standing
from include.soar.policy.file import load_policy, stored_policy
from include.soar.policy.rules import Policy


def test_the_demo_day_is_decided_as_its_answer_sheet_says() -> None:
    demo, policy = build_demo(END), load_policy(POLICY)
    truth = demo["_truth"]["observables"]
    day = evaluation.run_day(demo, policy)
    expected = {value for value, answer in truth.items() if answer["block_expected"]}
    assert expected <= day.acted
    assert {truth[value]["label"] for value in day.acted} == {"malicious"}
    cautious = evaluation.run_day(demo, stored_policy(_with_profile(policy, "cautious")))
    assert cautious.acted == expected
    assert cautious.refused["evidence"] >= len(THINLY_LISTED)
    for value, answer in truth.items():
        standing, _ = day.judged[value]
        if answer["label"] == "malicious":
            assert standing is not Standing.BENIGN, value
        elif answer["label"] == "benign":
            assert standing is Standing.UNKNOWN, value


def _with_profile(policy: Policy, profile: str) -> dict[str, Any]:
    return policy.document | {"response": policy_of(profile).document["response"]}


def test_without_the_gate_and_with_too_much_trust_good_values_are_hit() -> None:
    """Or the table would compare a gate with nothing."""
    demo = build_demo(END)
    security = demo["akamai_api_security"]
    bait = ("search_crawler", "partner_nat", "cdn_edge")
    security["incidents"] = [i for i in security["incidents"] if i["_story"] in bait]
    demo |= {"akamai_sia": {"configs": {CONFIG_ID: []}}}
    day = evaluation.run_day(
        demo, evaluation.trusting(stored_policy(_with_profile(load_policy(POLICY), "cautious"))), OpenGate()
    )
    labels = [demo["_truth"]["observables"].get(value, {}).get("label") for value in day.acted]
    assert labels.count("protected") >= 3


def test_calibration_counts_each_value_in_its_bucket() -> None:
    truth = {f"v{n}": {"label": "malicious" if n < 3 else "protected"} for n in range(5)}
    day = Day(judged={f"v{n}": (Standing.MALICIOUS, c) for n, c in enumerate((95, 90, 60, 50, 0))})
    day.judged["v4"] = (Standing.BENIGN, 90)
    rows = [line.split() for line in calibration(day, truth).splitlines()]
    assert ["50", "to", "74", "2", "55", "50"] in rows
    assert ["90", "to", "100", "2", "92.5", "100"] in rows
    assert any("Benign, by label: 1 protected." in " ".join(row) for row in rows)
