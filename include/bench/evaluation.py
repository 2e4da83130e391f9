"""What is done about the demo day, against its answer sheet.

Nothing is fetched. The demo's events go through the vendors' own parsers, extraction, judgement, plan and a ledger,
hour by hour, with the simulators' data as the providers' answers. How the policy fares with other attackers:
``response``.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from include.bench.load import Record, public
from include.bench.measure import table
from include.bench.pure import END, POLICY
from include.demo.place import connections, make_secrets
from include.simulators.demo_feed import build_demo
from include.simulators.demo_feed.cast import CONFIG_ID
from include.soar.extract.case import case_of
from include.soar.gate.gate import Gate, gate_of
from include.soar.gate.index_file import shipped
from include.soar.judge.decision import Basis, decide, history_period
from include.soar.ledger import Ledger
from include.soar.model import (
    Answer,
    CaseBatch,
    FetchBatch,
    Finding,
    Observable,
    Reliability,
    Reputation,
    ReputationBatch,
    Standing,
    Window,
)
from include.soar.policy.file import load_policy, stored_policy
from include.soar.policy.rules import Policy
from include.soar.vendor.wire import Response
from threat_response.vendors.abuseipdb import api as abuseipdb
from threat_response.vendors.akamai_api_security import api as api_security
from threat_response.vendors.akamai_sia import api as sia
from threat_response.vendors.list_feed import api as list_feed
from threat_response.vendors.list_feed.formats import parse_list

HOUR = timedelta(hours=1)
BUCKETS = ((0, 24), (25, 49), (50, 74), (75, 89), (90, 100))


class OpenGate(Gate):
    """A gate that protects nothing: to see what the real one is good for."""

    def __init__(self) -> None:
        """Neither rules nor lists."""

    def check(self, observable: Observable) -> None:
        return None

    def tags(self, observable: Observable) -> tuple[str, ...]:
        return ()


def trusting(policy: Policy) -> Policy:
    """As a hasty team would have it: AbuseIPDB alone is enough."""
    graded = policy.document["sources"]["abuseipdb"] | {"reliability": Reliability.A.value}
    sources = policy.document["sources"] | {"abuseipdb": graded}
    return stored_policy(policy.document | {"sources": sources})


def report() -> Iterator[str]:
    yield from demo_day(load_policy(POLICY))


# --- the demo day --------------------------------------------------------------------------------------------------


@dataclass
class Day:
    """What one policy did in a day: by value, what is acted on, and its worst standing with its confidence."""

    acted: set[str] = field(default_factory=set)
    judged: dict[str, tuple[Standing, int]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)


def demo_day(policy: Policy) -> Iterator[str]:
    demo = build_demo(END)
    truth: dict[str, Record] = demo["_truth"]["observables"]
    policies = (
        ("as shipped, with the demo's layer", policy, None),
        ("the same without the gate", policy, OpenGate()),
        ("AbuseIPDB alone is enough", trusting(policy), None),
        ("the same without the gate", trusting(policy), OpenGate()),
    )
    days = [(name, run_day(demo, rules, gate)) for name, rules, gate in policies]
    yield table(
        f"1e. Blocks of the demo day against its answer sheet: {len(truth)} values, "
        f"{sum(t['block_expected'] for t in truth.values())} to be blocked",
        ("policy", "acted on", "right", "protected or harmless", "bad, not expected", "precision", "recall"),
        [(name, *_scored(day.acted, truth)) for name, day in days],
        "Right: blocked and expected. Precision: right by acted on. Recall: right by expected.",
        f"Of all {sum(t['label'] == 'malicious' for t in truth.values())} bad values the shipped policy acts on "
        f"{sum(truth.get(v, {}).get('label') == 'malicious' for v in days[0][1].acted)}: what no list or one ordinary "
        "list knows is not blocked.",
        f"Refused by the shipped policy, by layer: {_counted(days[0][1].refused)}.",
        "The sheet and the lists were written by the same hand as the policy: this shows that the parts fit, not how",
        "good they are in the field.",
    )
    yield calibration(days[0][1], truth)


def _scored(acted: set[str], truth: Mapping[str, Record]) -> tuple[int | float, ...]:
    expected = {v for v, t in truth.items() if t["block_expected"]}
    right = len(acted & expected)
    harmless = sum(truth.get(v, {}).get("label") in ("protected", "benign") for v in acted)
    precision = right / len(acted) if acted else 1.0
    return len(acted), right, harmless, len(acted) - right - harmless, precision, right / len(expected)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counter.items())) or "nothing"


def calibration(day: Day, truth: Mapping[str, Record]) -> str:
    """Is a confidence of 80 right four times out of five? For values that some source speaks against."""
    spoken = (Standing.MALICIOUS, Standing.SUSPICIOUS)
    known = [(c, truth[v]["label"] == "malicious") for v, (s, c) in day.judged.items() if s in spoken and v in truth]
    rows = []
    for low, high in BUCKETS:
        inside = [(c, bad) for c, bad in known if low <= c <= high]
        if inside:
            mean, share = (sum(part) / len(inside) for part in zip(*inside, strict=True))
            rows.append((f"{low} to {high}", len(inside), mean, 100 * share))
    unknown = Counter(truth[v]["label"] for v, (s, _) in day.judged.items() if s is Standing.UNKNOWN and v in truth)
    benign = Counter(truth[v]["label"] for v, (s, _) in day.judged.items() if s is Standing.BENIGN and v in truth)
    return table(
        "1f. Calibration on the demo day: malicious and suspicious verdicts, each value's highest confidence",
        ("confidence", "values", "mean confidence", "truly bad, %"),
        rows,
        f"Unknown, by label: {_counted(unknown)}. Benign, by label: {_counted(benign)}.",
        "Few values, and lists that were made to be right: the table can show a gross mistake, no more.",
    )


def run_day(demo: Mapping[str, Record], policy: Policy, gate: Gate | None = None) -> Day:
    """
    Each hour is a window of its own, in order, with the ledger of those before.

    :param gate: if not the policy's
    """
    lists = _lists(demo["list_feed"]["files"])
    day = Day()
    with tempfile.TemporaryDirectory() as folder, closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        for start, findings in _hours(findings_of_day(demo)):
            case = case_of([batch_of(start, findings)])
            now = start + HOUR
            asked = gate or gate_of(policy.never_block, shipped(), now)
            since, before = history_period(case, policy)
            observables = [item.observable for item in case.observed]
            history = ledger.verdicts.history(observables, since=since, before=before, known_before=now)
            said = answers_of(case, demo, asked, now, lists)
            decision, made, _ = decide(case, said, Basis(policy, asked, None, now), history=history)
            ledger.verdicts.record(made, policy=policy, minimum_severity=None, run_id=start.isoformat(), now=now)
            day.acted |= {i.observable.value for i in decision.indicators if i.rung and i.rung.is_block}
            day.refused += Counter(r.layer for r in decision.refusals)
            for verdict in (judgement.verdict for judgement in made):
                value, worst = verdict.observable.value, day.judged.get(verdict.observable.value)
                order = list(Standing).index  # unknown, benign, suspicious, malicious
                new = (verdict.standing, verdict.confidence)
                if worst is None or (order(new[0]), new[1]) > (order(worst[0]), worst[1]):
                    day.judged[value] = new
    return day


def answers_of(
    case: CaseBatch,
    demo: Mapping[str, Record],
    gate: Gate,
    now: datetime,
    lists: list_feed.ListIndex | None = None,
) -> dict[str, ReputationBatch | None]:
    """What the demo's providers say about the values of a case."""
    lists = lists or _lists(demo["list_feed"]["files"])
    observables = [item.observable for item in case.observed]
    answers = {
        "abuseipdb": [_abuseipdb(o, demo["abuseipdb"]["addresses"], gate, now) for o in observables],
        "list_feed": [lists.reputation(o, known_at=now) for o in observables],
    }
    return {p: ReputationBatch(provider=p, reputations=tuple(r)) for p, r in answers.items()}


def findings_of_day(demo: Mapping[str, Record]) -> list[Finding]:
    """Every readable event, once: of an incident that was listed again, its last state."""
    security = demo["akamai_api_security"]
    found = [
        api_security.parse(kind[:-1], public(record))
        for kind in ("incidents", "findings")
        for record in sorted(security[kind], key=lambda r: r["lastUpdate"])
        if record["_story"] != "broken_record"
    ]
    rows = demo["akamai_sia"]["configs"][CONFIG_ID]
    found += [sia.parse_row(public(row)) for row in rows if row["_story"] != "broken_record"]
    return list({finding.uid: finding for finding in found}.values())


def _hours(findings: Sequence[Finding]) -> Iterator[tuple[datetime, list[Finding]]]:
    for hours in range(24, 0, -1):
        start = END - hours * HOUR
        yield start, [f for f in findings if start <= f.detected_at < start + HOUR]


def batch_of(start: datetime, findings: Sequence[Finding]) -> FetchBatch:
    window = Window(start_at=start, end_at=start + HOUR, chosen_by="bench")
    return FetchBatch(
        source="bench", window=window, pages=1, records=len(findings), archive=(), digest="", findings=tuple(findings)
    )


def _abuseipdb(observable: Observable, seeded: Record, gate: Gate, now: datetime) -> Reputation:
    """What the operator would give: addresses that are nobody's business are not asked about."""
    if not observable.is_address or gate.private(observable):
        answer = {"observable": observable, "provider": abuseipdb.VENDOR, "answer": Answer.NOT_APPLICABLE}
        return Reputation.model_validate({**answer, "known_at": now})
    unseeded = {"abuseConfidenceScore": 0, "totalReports": 0, "numDistinctUsers": 0}
    data = {"ipAddress": observable.value, **(seeded.get(observable.value) or unseeded)}
    return abuseipdb.parse_check(observable, Response(200, {}, json.dumps({"data": data}).encode()), known_at=now)


def _lists(files: Mapping[str, str]) -> list_feed.ListIndex:
    """The lists that the demo's connection names."""
    named = connections(0, make_secrets())["list_feed_default"]["extra"]["lists"]
    return list_feed.ListIndex(
        (source, parse_list(source, files[Path(source.location).name].encode())[0])
        for source in list_feed.parse_sources(named)
    )
