"""From everything known about an observable to one verdict. Pure, and without a clock: ages end at the last sighting.

All arithmetic is in whole percent, halves rounded up, and only printed numbers are calculated with. So a person can
check a verdict by hand, and the same inputs give the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import prod
from typing import Any

from include.soar.gate.layers import Hit
from include.soar.model import (
    Answer,
    Finding,
    Frozen,
    Indicator,
    Instant,
    Observable,
    ObservableType,
    Observed,
    Refusal,
    Reputation,
    SchemaVersion,
    Severity,
    Sighting,
    Standing,
    Text,
    Verdict,
    digest,
)
from include.soar.policy.rules import Policy, SourcePolicy


class History(Frozen):
    """
    What we decided earlier about an observable, over other findings.

    :param malicious: how many verdicts called it malicious; the others likewise
    :param blocked: how many decisions to act on it a control is known to have followed
    """

    malicious: int = 0
    malicious_last_at: Instant | None = None
    blocked: int = 0
    blocked_last_at: Instant | None = None
    benign: int = 0
    benign_last_at: Instant | None = None


class Earlier(Frozen):
    """
    What we did earlier about an observable, as the ledger of actions has it. No verdict follows from it.

    :param blocked_at: when each earlier block began, from the first on
    :param is_blocked: whether a block of it is in force
    :param lifted_at: when a person last lifted it at every control; ``lifted_by`` and ``lifted_why`` go with it
    """

    blocked_at: tuple[Instant, ...] = ()
    is_blocked: bool = False
    lifted_at: Instant | None = None
    lifted_by: Text = ""
    lifted_why: Text = ""


class Inputs(Frozen):
    """
    All that a verdict and the response follow from, besides the policy. Stored, so that they can be made again.

    :param findings: those in which it was seen, without their text and with the traffic of this observable only
    :param history: None where nothing was decided earlier
    :param hit: what the never-block gate said at that time; stored, since its lists change
    :param tags: the warning lists that name it and refuse nothing, at that time
    :param earlier: None where nothing was done earlier
    """

    schema_version: SchemaVersion = 1
    observed: Observed
    findings: tuple[Finding, ...]
    reputations: tuple[Reputation, ...]
    history: History | None = None
    hit: Hit | None = None
    tags: tuple[Text, ...] = ()
    earlier: Earlier | None = None

    def to_json(self) -> dict[str, Any]:
        """Without the fields that came with later releases where they are empty: a stored digest still fits."""
        document = super().to_json()
        for part, name in (
            (document, "tags"),
            (document, "earlier"),
            *((finding, "behaviour") for finding in document["findings"]),
            *((reputation, "lists") for reputation in document["reputations"]),
        ):
            if not part[name]:
                del part[name]
        return document

    @property
    def observable(self) -> Observable:
        return self.observed.observable

    @property
    def digest(self) -> str:
        return digest(self.to_json())


def gather(
    observed: Observed,
    findings: Mapping[str, Finding],
    reputations: Sequence[Reputation],
    *,
    history: History | None,
    hit: Hit | None,
    tags: tuple[str, ...] = (),
    earlier: Earlier | None = None,
) -> Inputs:
    """
    The inputs of one verdict, in an order that does not depend on the order in which they came.

    :param findings: by uid
    """
    uids = sorted({s.finding_uid for s in observed.sightings})
    # Not validated again: every part was when it was read.
    return Inputs.model_construct(
        observed=observed,
        findings=tuple(_slim(findings[uid], observed.observable) for uid in uids if uid in findings),
        reputations=tuple(sorted(reputations, key=lambda r: (r.provider, r.model_dump_json()))),
        history=history,
        hit=hit,
        tags=tags,
        earlier=earlier,
    )


def _slim(finding: Finding, observable: Observable) -> Finding:
    whole_network = observable.type is ObservableType.CIDR
    traffic = tuple(t for t in finding.traffic if whole_network or t.address == observable.value)
    return finding.model_copy(update={"mentions": (), "description": "", "traffic": traffic})


#: The outcome of a verdict: acted on, held until a person answers, refused although something spoke for acting, or
#: left alone.
ACT, HOLD, REFUSE, LEAVE = "act", "hold", "refuse", "leave"


@dataclass(frozen=True)
class Judgement:
    """
    A verdict with what it followed from and what was decided, as the ledger stores it.

    :param outcome: ACT, HOLD (at least one of its rungs waits), REFUSE or LEAVE
    :param plan: what is done, with the rungs that wait as well, or why nothing is
    """

    inputs: Inputs
    verdict: Verdict
    outcome: str
    plan: Indicator | Refusal | None


@dataclass(frozen=True)
class Voice:
    """
    What one source says, weighed.

    :param provider: or ``provider.list``, for a list that is graded apart
    :param standing: UNKNOWN where it says nothing against the value
    :param strength: percent; 0 where it says nothing against the value
    :param words: how that came about, for the reasons
    :param reputation: what it said
    :param score: None where it says nothing, good or bad
    """

    provider: str
    family: str
    rule: SourcePolicy | None
    standing: Standing
    strength: int
    answered: bool
    words: str
    reputation: Reputation
    score: int | None

    @property
    def said_at(self) -> datetime:
        """When it was last reported, or when the provider said so where no report is dated."""
        return self.reputation.last_reported_at or self.reputation.known_at


def voices(inputs: Inputs, policy: Policy) -> list[Voice]:
    """What every source says, weighed: one voice for each reputation, and one for each list that is graded apart."""
    said = []
    for reputation in inputs.reputations:
        rule = policy.sources.get(reputation.provider)
        apart = [one for one in reputation.lists if rule and one.name in rule.lists]
        others = [one.score for one in reputation.lists if one not in apart]
        if others or not apart:
            score = max(others) if apart else reputation.score
            said.append(_voice(reputation, reputation.provider, rule, score, inputs, policy))
        for one in apart if rule else ():
            name = f"{reputation.provider}.{one.name}"
            said.append(_voice(reputation, name, rule and rule.of_list(one.name), one.score, inputs, policy))
    return said


def _voice(
    reputation: Reputation,
    name: str,
    rule: SourcePolicy | None,
    score: int | None,
    inputs: Inputs,
    policy: Policy,
) -> Voice:
    summary = f": {reputation.summary}" if reputation.summary else ""

    def says(words: str, standing: Standing = Standing.UNKNOWN, strength: int = 0, *, answered: bool = False) -> Voice:
        family = (rule and rule.family) or name
        return Voice(name, family, rule, standing, strength, answered, f"{words}{summary}", reputation, score)

    if score is None:
        return says(f"{reputation.answer.value}, which says nothing good or bad")
    if rule is None:
        return says("has no voice: the policy's sources do not name it")
    if reputation.answer is not Answer.LISTED or score < rule.suspicious_from:
        return says(f"nothing against it (score {score}, suspicious from {rule.suspicious_from})", answered=True)
    weight = policy.verdict.reliability[rule.reliability]
    # What was last reported long before the provider told us of it is as old as the report.
    said = "reported" if reputation.last_reported_at else "said"
    freshness, fresh = _freshness(reputation.last_reported_at or reputation.known_at, said, inputs, policy)
    strength = _percent(weight * score * freshness, 100**2)
    standing, why = Standing.SUSPICIOUS, f"score {score}, malicious from {rule.malicious_from}"
    if score >= rule.malicious_from and freshness < policy.verdict.stale_below:
        why += f", but stale: {freshness} % is below {policy.verdict.stale_below} %"
    elif score >= rule.malicious_from:
        standing = Standing.MALICIOUS
    graded = f"grade {rule.reliability.value} ({rule.reliability.word}) {weight} %"
    product = f"{graded} × score {score} % × {fresh} = {strength} %"
    if not strength:
        return says(f"adds nothing ({why}); {product}", answered=True)
    return says(f"{standing.value} ({why}); {product}", standing, strength, answered=True)


def _freshness(instant: datetime, what: str, inputs: Inputs, policy: Policy) -> tuple[int, str]:
    """How much a statement still counts, in percent, and in words. What came after the sighting is fresh."""
    half_life = policy.verdict.half_life_days.get(inputs.observable.type)
    if half_life is None:
        return 100, "freshness 100 % (does not age)"
    days = max(0, (_seen_at(inputs, policy) - instant).days)
    left = int(100 * 0.5 ** (days / half_life) + 0.5)
    return left, f"freshness {left} % ({what} {days} d before the sighting, half-life {half_life} d)"


def _counted(inputs: Inputs, policy: Policy) -> list[Sighting]:
    """The sightings in roles that add weight. A claim has none: a header that anybody writes must not age answers."""
    return [s for s in inputs.observed.sightings if s.role in policy.verdict.finding.roles]


def _seen_at(inputs: Inputs, policy: Policy) -> datetime:
    return max(s.seen_at for s in _counted(inputs, policy) or inputs.observed.sightings)


def _percent(numerator: int, denominator: int) -> int:
    """Rounded to whole percent, halves up, as a person does it."""
    return (2 * numerator + denominator) // (2 * denominator)


def judge(inputs: Inputs, policy: Policy, said: Sequence[Voice] | None = None) -> Verdict:
    """
    One verdict of everything known.

    :param said: what :func:`voices` gives for these inputs, where the caller has it

    Only a source makes a value malicious or suspicious; malicious wins. Benign is only what a layer of the gate
    vouches for and no source speaks against. All else is unknown: "not listed" does not vouch for a value, and a
    missing answer says nothing.

    Confidence: each family of sources is one independent witness, as strong as its strongest member; the finding and
    our history may add one each. ``100 × (1 − Π (1 − strength))``, then the deduction for an earlier benign verdict.
    """
    said = voices(inputs, policy) if said is None else said
    witnesses: dict[str, Voice] = {}
    for voice in said:
        if voice.strength > (witnesses[voice.family].strength if voice.family in witnesses else 0):
            witnesses[voice.family] = voice
    reasons = []
    for voice in said:
        counted = witnesses.get(voice.family)
        copies = counted and voice.strength and counted is not voice
        copied = f" (not counted: one voice with {counted.provider})" if counted and copies else ""
        reasons.append(f"{voice.provider}: {voice.words}{copied}")
    against = {v.standing for v in said} - {Standing.UNKNOWN}
    if not against:
        standing, confidence, why = _nothing_against(inputs, policy, said)
        return _verdict(inputs, standing, confidence, [*reasons, *why])
    strengths = [v.strength for _, v in sorted(witnesses.items())]
    for strength, why_more in (_finding(inputs, policy), _earlier(inputs, policy)):
        reasons += why_more
        if strength:
            strengths.append(strength)
    doubt = prod(100 - s for s in strengths)
    confidence = _percent(100 * (100 ** len(strengths) - doubt), 100 ** len(strengths))
    factors = " × ".join(f"{(100 - s) / 100:.2f}" for s in strengths)
    reasons.append(f"together: 100 × (1 − {factors}) = {confidence}")
    confidence, less = _deduction(confidence, inputs, policy)
    reasons += less
    if inputs.hit:
        reasons.append(f"gate: protected ({_entry(inputs.hit)}): never blocked, whatever is said of it")
    standing = Standing.MALICIOUS if Standing.MALICIOUS in against else Standing.SUSPICIOUS
    return _verdict(inputs, standing, confidence, reasons)


def _entry(hit: Hit) -> str:
    return ", ".join(part for part in (hit.layer, hit.list_name, hit.entry) if part)


def _verdict(inputs: Inputs, standing: Standing, confidence: int, reasons: Sequence[str]) -> Verdict:
    return Verdict.model_construct(
        observable=inputs.observed.observable,
        standing=standing,
        confidence=confidence,
        reasons=tuple(reasons),
        reputations=inputs.reputations,
    )


def _nothing_against(inputs: Inputs, policy: Policy, said: Sequence[Voice]) -> tuple[Standing, int, list[str]]:
    hit = inputs.hit
    if hit and (confidence := policy.verdict.benign.get(hit.layer, 0)):
        return Standing.BENIGN, confidence, [f"gate: vouches for it ({_entry(hit)}): benign, {confidence}"]
    if any(v.answered for v in said):
        return Standing.UNKNOWN, 0, ["no source speaks against it, and none vouches for it"]
    return Standing.UNKNOWN, 0, ["no source could be asked"]


def _finding(inputs: Inputs, policy: Policy) -> tuple[int, list[str]]:
    """The weightiest finding that it was seen in, in a role that counts. Many weak ones do not make a strong one."""
    rules = policy.verdict.finding
    uids = {s.finding_uid for s in _counted(inputs, policy)}
    counted = [f for f in inputs.findings if f.uid in uids]
    if not counted:
        roles = ", ".join(sorted(role.value for role in inputs.observed.roles))
        return 0, [f"finding: seen as {roles} only, which adds nothing"]

    def weighed(finding: Finding) -> tuple[int, int, int]:
        sure = rules.confidence if finding.confidence is None else finding.confidence
        return _percent(rules.weights[finding.severity] * sure, 100), finding.severity.rank, sure

    # Compared by what is printed, so that it does not matter which of two equal ones is taken.
    strength, rank, sure = max(map(weighed, counted))
    severity = list(Severity)[rank]
    weight = rules.weights[severity]
    return strength, [f"finding: severity {severity.value} {weight} % × confidence {sure} % = {strength} %"]


def _earlier(inputs: Inputs, policy: Policy) -> tuple[int, list[str]]:
    """What our own earlier decisions add: the stronger of the two. They never decide alone."""
    past, rules = inputs.history, policy.verdict.history
    known = (
        [
            (weight, words, last_at)
            for weight, words, last_at in (
                (rules.malicious, f"judged malicious {past.malicious} ×", past.malicious_last_at),
                (rules.blocked, f"acted on {past.blocked} ×", past.blocked_last_at),
            )
            if last_at
        ]
        if past
        else []
    )
    best, reasons = 0, []
    for weight, words, last_at in known:
        freshness, fresh = _freshness(last_at, "last", inputs, policy)
        strength = _percent(weight * freshness, 100)
        best = max(best, strength)
        reasons.append(f"history: {words}: {weight} % × {fresh} = {strength} %")
    if len(reasons) > 1:
        reasons.append(f"history: the stronger counts, {best} %")
    return best, reasons


def _deduction(confidence: int, inputs: Inputs, policy: Policy) -> tuple[int, list[str]]:
    """A value that was judged benign last is doubted less readily."""
    past = inputs.history
    if not past or not past.benign_last_at:
        return confidence, []
    if past.malicious_last_at and past.malicious_last_at >= past.benign_last_at:
        return confidence, []
    weight = policy.verdict.history.benign
    freshness, fresh = _freshness(past.benign_last_at, "last", inputs, policy)
    less = _percent(weight * freshness, 100)
    # Not down to 0: that would read as unknown.
    left = max(1, _percent(confidence * (100 - less), 100))
    words = f"history: judged benign {past.benign} ×: {weight} % × {fresh} = {less} % less"
    return left, [f"{words}: {confidence} × {(100 - less) / 100:.2f} = {left}"]
