"""
Events that grow: a source adds attackers to an event, or raises its severity, after a window has read it. Pure.

Each attacker of an event, and each severity that it has reached, belongs to the first window that read it, as the event
itself does. So a window gets of an event what is its own: all of it, what was added since, or nothing. A repeated
window gets the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from include.soar.model import Finding, Mention, Role, Severity, Window, own_id

#: What is kept of an event of which only the rest is new: who attacked since, and whom.
_KEPT = frozenset({Role.ATTACKER, Role.VICTIM})


def parts(findings: Sequence[Finding]) -> list[Finding]:
    """What can be claimed of each event beside itself, each as a finding of its own name without contents."""
    return [
        finding.model_copy(update={"uid": uid, "mentions": (), "traffic": ()})
        for finding in findings
        for uid in dict.fromkeys([*_severities(finding), *(_attacker(finding, m) for m in _attackers(finding))])
    ]


def shares(findings: Sequence[Finding], mine: AbstractSet[str], window: Window) -> list[Finding]:
    """
    Of each event what belongs to this window; nothing of those that earlier windows have read whole.

    :param mine: uids of the events and of their :func:`parts` that no other window has read
    """
    return [share for finding in findings if (share := _share(finding, mine, window))]


def without_parts(findings: Sequence[Finding], mine: AbstractSet[str], window: Window) -> list[Finding]:
    """Events that an earlier version of this project has read: what they are made of now counts as read."""
    return [
        finding
        for finding in findings
        if finding.uid not in mine and finding.detected_at < window.start_at and _severities(finding)[0] in mine
    ]


def _share(finding: Finding, mine: AbstractSet[str], window: Window) -> Finding | None:
    reached = [uid in mine for uid in _severities(finding)]
    new = {mention.text for mention in _attackers(finding) if _attacker(finding, mention) in mine}
    if finding.uid in mine:
        # See without_parts: this window has read all of it.
        if not reached[0]:
            return finding
        mentions = tuple(m for m in finding.mentions if m.role is not Role.ATTACKER or m.text in new)
        return finding if len(mentions) == len(finding.mentions) else finding.model_copy(update={"mentions": mentions})
    if finding.detected_at >= window.start_at:  # another run was asked for a window that overlaps this one
        return finding
    if reached[0]:  # read by an earlier version: what it has read is not known, so nothing of it is new
        return None
    if reached[-1]:  # more severe than when it was read: whoever attacked is judged anew
        new = {mention.text for mention in _attackers(finding)}
    if not new:
        return None
    mentions = tuple(m for m in finding.mentions if m.role in _KEPT and (m.role is not Role.ATTACKER or m.text in new))
    # When each was added is not told, and a repeated run must give the same time.
    return finding.model_copy(update={"mentions": mentions, "grown_at": window.start_at})


def _attackers(finding: Finding) -> list[Mention]:
    return [mention for mention in finding.mentions if mention.role is Role.ATTACKER]


def _attacker(finding: Finding, mention: Mention) -> str:
    return own_id("attacker", finding.uid, mention.text)


def _severities(finding: Finding) -> list[str]:
    """One name for each severity up to the event's own: a lower one later is no news."""
    return [own_id("severity", finding.uid, s.value) for s in Severity if s.rank <= finding.severity.rank]
