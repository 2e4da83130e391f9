"""The incident that README and docs/pictures show, made from the demo's fixture: no run, the same each time.

``python -m include.demo.sample_incident`` writes it; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from include.bench.evaluation import answers_of, batch_of, findings_of_day
from include.bench.pure import END, POLICY
from include.demo.place import ROOT
from include.simulators.demo_feed import build_demo
from include.soar.extract.case import case_of
from include.soar.gate.gate import gate_of
from include.soar.gate.index_file import shipped
from include.soar.incident import marks, texts
from include.soar.incident.clean import Link
from include.soar.incident.inputs import State
from include.soar.incident.plain import render_text
from include.soar.judge.decision import Basis, decide
from include.soar.model import Action, Indicator, Outcome, Reached, Relation, Rung, Verb
from include.soar.policy.file import load_policy

PLACE = ROOT / "docs/pictures/incident.txt"
SOURCE, CATEGORY = "Akamai API Security", "bola"
#: Per control: what it does, what became of it, its degree, where a person can check, and its words.
DONE: dict[str, tuple[Verb, Outcome, Rung, dict[str, str | int | None], str]] = {
    "akamai_client_lists": (
        Verb.DENY,
        Outcome.BLOCKED,
        Rung.BLOCK_LONG,
        {"list": "91596_SOCAUTOBLOCK", "version": 4, "network": "PRODUCTION", "active_version": 4},
        "PRODUCTION enforces version 4 of the list",
    ),
    "crowdstrike_falcon": (
        Verb.CONTAIN,
        Outcome.DETECT_ONLY,
        Rung.BLOCK_LONG,
        {"action": "detect"},
        "detected on all hosts: a custom indicator cannot block an address or a domain",
    ),
    "splunk": (Verb.WATCH, Outcome.WATCHED, Rung.WATCH, {"collection": "threat_watchlist"}, "in threat_watchlist"),
}


def sample() -> str:
    """Title, description and state comment as plain text, of the first finding of the demo day about object ids."""
    policy, demo = load_policy(POLICY), build_demo(END)
    gate = gate_of(policy.never_block, shipped(), END)
    found = sorted(findings_of_day(demo), key=lambda finding: (finding.detected_at, finding.uid))
    finding = next(
        f for f in found if f.category == CATEGORY and f.severity.rank >= policy.priority.minimum_severity.rank
    )
    case = case_of([batch_of(finding.detected_at, [finding])])
    decision, _, _ = decide(case, answers_of(case, demo, gate, END), Basis(policy, gate, None, END))
    mark = marks.marker(finding.uid)
    actions = [action(control, indicator) for control in DONE for indicator in decision.indicators]
    state = State(
        actions=actions,
        relations=[related(indicator) for indicator in decision.indicators[:1]],
        skipped=(),
        run=Link("api_threat_response/scheduled__2026-03-04T12:00:00+00:00"),
        at=END,
        reference=texts.state_reference(case, decision, finding, actions),
    )
    parts = (
        f"INC113  {texts.title(finding, SOURCE, mark)}",
        "DESCRIPTION",
        render_text(texts.description(case, decision, finding, source=SOURCE, mark=mark)),
        "COMMENT",
        render_text(texts.state_report(case, decision, finding, state)),
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def action(control: str, indicator: Indicator) -> Action:
    verb, outcome, rung, proof, detail = DONE[control]
    return Action(
        control=control,
        verb=verb,
        observable=indicator.observable,
        outcome=outcome,
        detail=detail,
        expires_at=indicator.expires_at,
        proof=proof,
        rung=rung,
        reached=Reached.ACTIVE,
    )


def related(indicator: Indicator) -> Relation:
    return Relation(
        incident_id="i-113",
        related_id="i-105",
        related_readable_id="INC105",
        shared=(indicator.observable,),
        outcome="related",
        detail="",
    )


def main(place: Path = PLACE) -> int:
    place.write_text(sample(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
