"""From what the providers say about an observable to one verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Answer, Observable, Reputation, Standing, Verdict
from include.soar.policy import Policy


def judge(observable: Observable, reputations: Sequence[Reputation], policy: Policy) -> Verdict:
    """
    One verdict from all providers' answers. Not checked is never read as clean, and nothing known is unknown.

    Confidence: independent sources as independent evidence, ``1 - prod(1 - weight * score)`` over the sources
    on the winning side, in percent.
    """
    reasons: list[str] = []
    malicious: list[float] = []
    suspicious: list[float] = []
    clean = 0
    for reputation in sorted(reputations, key=lambda r: r.provider):
        rule = policy.sources.get(reputation.provider)
        if reputation.score is None or rule is None:
            reasons.append(f"{reputation.provider}: {reputation.answer.value} ({reputation.summary or 'no detail'})")
            continue
        strength = rule.weight * reputation.score / 100
        if reputation.answer is Answer.LISTED and reputation.score >= rule.malicious_from:
            malicious.append(strength)
            word = f"malicious (score {reputation.score} ≥ {rule.malicious_from})"
        elif reputation.answer is Answer.LISTED and reputation.score >= rule.suspicious_from:
            suspicious.append(strength)
            word = f"suspicious (score {reputation.score} ≥ {rule.suspicious_from})"
        else:
            clean += 1
            word = f"nothing against it (score {reputation.score})"
        detail = f": {reputation.summary}" if reputation.summary else ""
        reasons.append(f"{reputation.provider}: {word}{detail}")
    if malicious:
        standing, strengths = Standing.MALICIOUS, malicious + suspicious
    elif suspicious:
        standing, strengths = Standing.SUSPICIOUS, suspicious
    else:
        standing, strengths = Standing.UNKNOWN, []
        reasons.append("no source speaks against it" if clean else "no source could be asked")
    doubt = 1.0
    for strength in strengths:
        doubt *= 1 - strength
    return Verdict(
        observable=observable,
        standing=standing,
        confidence=round((1 - doubt) * 100),
        reasons=tuple(reasons),
        reputations=tuple(sorted(reputations, key=lambda r: r.provider)),
    )


def speaks_against(reputation: Reputation, policy: Policy) -> bool:
    """Whether a source calls it malicious, by the policy's threshold for that source."""
    rule = policy.sources.get(reputation.provider)
    listed = reputation.answer is Answer.LISTED and reputation.score is not None
    return rule is not None and listed and (reputation.score or 0) >= rule.malicious_from
