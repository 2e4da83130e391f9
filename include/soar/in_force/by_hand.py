"""A block that a person makes, as the case and the decision that a run would have made of an event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from include.soar.model import (
    CaseBatch,
    Decision,
    Finding,
    Indicator,
    Observable,
    Observed,
    Priority,
    Role,
    Rung,
    Severity,
    Sighting,
    Standing,
    Step,
    Verdict,
    Window,
    own_id,
)

#: A block by hand ends as well, and so long is the longest.
LONGEST = timedelta(days=30)
#: From here on a block is a long one.
LONG = timedelta(hours=24)
SOURCE = "by_hand"


@dataclass(frozen=True)
class Wish:
    """
    :param at: when it was said; with the value it identifies the wish, and its incident
    :param rung: how far to respond; None: a block, short or long by its duration
    """

    observable: Observable
    duration: timedelta
    by: str
    reason: str
    at: datetime
    rung: Rung | None = None

    @property
    def highest(self) -> Rung:
        return self.rung or (Rung.BLOCK_LONG if self.duration > LONG else Rung.BLOCK_SHORT)

    @property
    def ends_at(self) -> datetime:
        return self.at + self.duration

    @property
    def finding_uid(self) -> str:
        return own_id("finding", SOURCE, self.observable.key, self.at.isoformat())

    @property
    def words(self) -> str:
        return f"by hand, {self.by}: {self.reason}"


def case_of(wish: Wish) -> CaseBatch:
    """One finding, which is that a person wants it."""
    finding = Finding(
        uid=wish.finding_uid,
        source=SOURCE,
        vendor_id=f"{wish.observable.key} at {wish.at:%Y-%m-%dT%H:%M:%SZ}",
        title=f"Blocked by hand: {wish.observable.type.value}",
        category="by hand",
        description=f"{wish.by}: {wish.reason}",
        severity=Severity.HIGH,
        detected_at=wish.at,
    )
    sighting = Sighting(finding_uid=finding.uid, field="by hand", role=Role.ATTACKER, seen_at=wish.at)
    return CaseBatch(
        window=Window(start_at=wish.at, end_at=wish.at + timedelta(minutes=1), chosen_by="by hand"),
        findings=(finding,),
        observed=(Observed(observable=wish.observable, sightings=(sighting,)),),
    )


def decision_of(wish: Wish, policy_digest: str) -> Decision:
    """To act on it at every rung up to the wished one."""
    steps = tuple(
        Step(rung=rung, expires_at=wish.ends_at, ways=(wish.words,))
        for rung in Rung
        # A long block stands in the place of a short one.
        if rung.rank <= wish.highest.rank and not (rung is Rung.BLOCK_SHORT and wish.highest is Rung.BLOCK_LONG)
    )
    indicator = Indicator(
        observable=wish.observable,
        confidence=100,
        reasons=(wish.words,),
        roles=(Role.ATTACKER,),
        first_seen_at=wish.at,
        last_seen_at=wish.at,
        expires_at=wish.ends_at,
        finding_uids=(wish.finding_uid,),
        steps=steps,
    )
    verdict = Verdict(observable=wish.observable, standing=Standing.MALICIOUS, confidence=100, reasons=(wish.words,))
    return Decision(
        policy_digest=policy_digest,
        priorities=(Priority(finding_uid=wish.finding_uid, high=True, reason="a person wants it"),),
        verdicts=(verdict,),
        indicators=(indicator,),
        refusals=(),
    )
