"""How good the decision to block is: against the demo day's answer sheet, and against real lists where there are some.

Nothing is fetched. The demo's events go through the vendors' own parsers, extraction, judgement, plan and a ledger,
hour by hour, with the simulators' data as the providers' answers. The second part takes real bad and good lists, and
says what in it is synthetic.
"""

from __future__ import annotations

import ipaddress
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from include.bench.load import Record, public
from include.bench.measure import table
from include.bench.pure import END, POLICY
from include.demo.place import ROOT, connections, make_secrets
from include.ops.policy_diff import GoodValues
from include.simulators.demo_feed import build_demo
from include.simulators.demo_feed.cast import CONFIG_ID
from include.soar.extract.case import case_of
from include.soar.gate.gate import Gate, gate_of
from include.soar.gate.index_file import shipped
from include.soar.judge.decision import Basis, decide, history_period
from include.soar.judge.verdict import gather, judge, lacking_evidence, voices
from include.soar.ledger import Ledger
from include.soar.model import (
    Answer,
    CaseBatch,
    FetchBatch,
    Finding,
    Observable,
    ObservableType,
    Observed,
    Reputation,
    ReputationBatch,
    Role,
    Severity,
    Sighting,
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

SHARED = ROOT.parent / "shared/data"
HOUR = timedelta(hours=1)
#: Crawlers, delivery networks, resolvers: what must never be blocked, by the name of the list.
GOOD_LISTS = ("googlebot", "openai-gptbot", "akamai", "cloudflare", "fastly", "public-dns-v4")
#: Among so many synthetic lists an address's count is dealt out; ipsum itself counts up to about ten.
LISTS = 10
BUCKETS = ((0, 24), (25, 49), (50, 74), (75, 89), (90, 100))


class OpenGate(Gate):
    """A gate that protects nothing: to see what the real one is good for."""

    def __init__(self) -> None:
        """Neither rules nor lists."""

    def check(self, observable: Observable) -> None:
        return None


def trusting(policy: Policy) -> Policy:
    """As a hasty team would have it: AbuseIPDB alone is enough."""
    graded = policy.document["sources"]["abuseipdb"] | {"reliability": policy.block.evidence.top_grade.value}
    sources = policy.document["sources"] | {"abuseipdb": graded}
    return stored_policy(policy.document | {"sources": sources})


def report(*, share: int) -> Iterator[str]:
    """:param share: one in this many addresses of the real lists"""
    yield from demo_day(load_policy(POLICY))
    if (SHARED / "ipsum/ipsum.txt").exists():
        yield real_lists(load_policy(POLICY[:1]), share)
    else:
        yield "1g. Against real lists: left out, they are not present on this machine\n"


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
            day.acted |= {i.observable.value for i in decision.indicators}
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


# --- real lists ----------------------------------------------------------------------------------------------------


def real_lists(policy: Policy, share: int) -> str:
    networks = [n for name in GOOD_LISTS for n in _warninglist(name)]
    good_lists = GoodValues(networks)
    counts = dict(list(_ipsum().items())[::share])
    bad = {a: n for a, n in counts.items() if not good_lists.entry(_address(a))}
    listed_good = {a: n for a, n in counts.items() if a not in bad}
    good = {str(ipaddress.ip_network(n)[0]): 0 for n in networks[::share]} | listed_good
    gate = gate_of(policy.never_block, shipped(), END)
    protected = {a for a in (*bad, *good) if gate.check(_address(a))}
    rows = []
    for words, family_size in (("ten independent lists", 1), ("the same, two and two copies", 2)):
        rules = _with_lists(policy, family_size)
        known: dict[tuple[int, ...], bool] = {}
        blocked = {a for a, n in (bad | good).items() if _would_block(a, n, rules, known)}
        for gate_words, acted in (("no gate", blocked), ("gate", blocked - protected)):
            hits, misses = len(acted & bad.keys()), len(acted & good.keys())
            precision = hits / len(acted) if acted else 1.0
            rows.append((f"{words}, {gate_words}", hits, misses, precision, hits / len(bad)))
    whole = "all" if share == 1 else f"every {share}th address"
    return table(
        f"1g. Against real lists: {len(bad):,} bad addresses, {len(good):,} known-good ones",
        ("sources", "bad blocked", "known good blocked", "precision", "recall"),
        rows,
        f"Bad: {whole} of ipsum that is on none of the good lists. It says how many lists name an address, not which.",
        f"SYNTHETIC: so many of {LISTS} made-up lists of grade C name it, dealt out by a hash. Each says 100, all are",
        "fresh, and every address attacks in one finding of high severity. Caps are left out. Recall is then nearly",
        "the share of ipsum that two or more lists name: what is measured is that the policy wants two voices.",
        f"Good: {', '.join(GOOD_LISTS)} of the MISP",
        f"warninglists: the first address of each entry, and the {len(listed_good)} of ipsum that are in them, which",
        "are the only ones that any list calls bad. The gate is made of the same lists, so that it stops them is no",
        "surprise; the rows without it say what it is worth.",
        f"The gate also refuses {len(protected & bad.keys())} of the bad: lists of others that it protects name them.",
    )


def _with_lists(policy: Policy, family_size: int) -> Policy:
    rule = {"reliability": "C", "malicious_from": 75, "suspicious_from": 25}
    sources = {f"list_{n}": rule | {"family": f"family_{n // family_size}"} for n in range(LISTS)}
    return stored_policy(policy.document | {"sources": sources})


_FINDING = Finding(
    uid="evaluation",
    source="bench",
    vendor_id="evaluation",
    title="attack",
    severity=Severity.HIGH,
    detected_at=END,
)


def _would_block(address: str, count: int, policy: Policy, known: dict[tuple[int, ...], bool]) -> bool:
    """
    Verdict and evidence say so. Without the gate, which is asked apart, and without caps.

    :param known: answers by the lists that name an address: nothing else of it has a say
    """
    dealt = sorted(range(LISTS), key=lambda n: sha256(f"{address}/{n}".encode()).digest())[:count]
    key = tuple(sorted(dealt))
    if key not in known:
        known[key] = _decided(_address(address), key, policy)
    return known[key]


def _decided(observable: Observable, lists: Sequence[int], policy: Policy) -> bool:
    said = [
        Reputation(observable=observable, provider=f"list_{n}", answer=Answer.LISTED, score=100, known_at=END)
        for n in lists
    ]
    sighting = Sighting(finding_uid=_FINDING.uid, field="attacker", role=Role.ATTACKER, seen_at=END)
    seen = Observed(observable=observable, sightings=(sighting,))
    inputs = gather(seen, {_FINDING.uid: _FINDING}, said, history=None, hit=None)
    voiced = voices(inputs, policy)
    malicious = judge(inputs, policy, voiced).standing is Standing.MALICIOUS
    return malicious and lacking_evidence(voiced, _FINDING.severity, policy) is None


def _address(text: str) -> Observable:
    return Observable(type=ObservableType.IPV6 if ":" in text else ObservableType.IPV4, value=text)


def _ipsum() -> dict[str, int]:
    lines: Iterable[str] = (SHARED / "ipsum/ipsum.txt").read_text("utf-8").splitlines()
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return {address: int(count) for address, count in pairs}


def _warninglist(name: str) -> list[str]:
    entries: list[str] = json.loads((SHARED / "misp-warninglists" / name / "list.json").read_text("utf-8"))["list"]
    return sorted(str(ipaddress.ip_network(entry, strict=False)) for entry in entries)
