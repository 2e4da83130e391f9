"""How far we respond, what that changes at which control, and how far it is proved."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from include.soar.model.base import SCHEMA_VERSION, Frozen, Instant, SchemaVersion, digest
from include.soar.model.observable import Observable
from include.soar.model.text import Text


class Rung(StrEnum):
    """The degrees of a response, from the mildest. Each has its own evidence, duration and controls in the policy."""

    WATCH = "watch"  # the SIEM reports it when it is seen
    DETECT = "detect"  # the EDR reports it when it is seen
    BLOCK_SHORT = "block_short"  # hours
    BLOCK_LONG = "block_long"  # a day and more

    @property
    def rank(self) -> int:
        return list(Rung).index(self)

    @property
    def is_block(self) -> bool:
        return self in (Rung.BLOCK_SHORT, Rung.BLOCK_LONG)


class Step(Frozen):
    """
    One rung that an indicator reaches.

    :param expires_at: when its response at this rung ends
    :param ways: the ways to evidence that lead here, in words: "one source of grade A and severity high: list_feed"
    """

    rung: Rung
    expires_at: Instant
    ways: tuple[Text, ...] = ()


class Reached(StrEnum):
    """The ladder of proof: how far an action is known to have come. An incident tells the rung and never more."""

    INTENDED = "intended"  # written down before the call: whether it was made is not known
    ACCEPTED = "accepted"  # the vendor's answer says that it took it
    LISTED = "listed"  # it reads back: in version N of the list, in the collection
    STAGING = "active_on_staging"
    ACTIVE = "active"  # in force: on production, or at a control where what reads back is in force
    GONE = "gone"  # lifted, and reads back as absent


class Change(StrEnum):
    """What a plan does with one value at one control."""

    ADD = "add"
    PROLONG = "prolong"
    LIFT = "lift"
    UNCHANGED = "unchanged"
    HELD = "held"  # waits for a person
    REFUSED = "refused"  # by a rule, which is named
    UNKNOWN = "unknown"  # the control could not be read


class PlanEntry(Frozen):
    """
    :param was_until: the end of what is in force there now; None: nothing is, or it has no end
    :param expires_at: the end that the plan gives it; None with LIFT, REFUSED and UNKNOWN
    :param rule: which rule refused or holds it
    :param detail: in words for a person; never part of the plan's digest
    :param in_force: whether something has an effect on it there now, ours or another's
    """

    observable: Observable
    change: Change
    rung: Rung | None = None
    expires_at: Instant | None = None
    was_until: Instant | None = None
    rule: Text = ""
    detail: Text = ""
    in_force: bool = False


class ControlPlan(Frozen):
    """
    What a plan does at one control.

    :param size: entries there now, ours and others'; None: the control does not say
    :param capacity: how many it can hold; None: no limit is known
    :param others_changes: changes of other people that our activation would take along; None: not known
    :param problem: why it could not be read, if so
    """

    control: Text
    entries: tuple[PlanEntry, ...]
    size: int | None = Field(default=None, ge=0)
    capacity: int | None = Field(default=None, ge=0)
    others_changes: int | None = Field(default=None, ge=0)
    problem: Text = ""

    def count(self, change: Change) -> int:
        return sum(entry.change is change for entry in self.entries)


class Plan(Frozen):
    """What a run would change, over all controls. An approval is bound to its digest."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    controls: tuple[ControlPlan, ...] = ()

    @property
    def digest(self) -> str:
        """Of what the plan changes: not of its words, sizes or what stays as it is."""
        return digest(
            [
                [
                    control.control,
                    sorted(
                        [
                            e.observable.key,
                            e.change.value,
                            e.rung.value if e.rung else "",
                            e.expires_at.isoformat() if e.expires_at else "",
                        ]
                        for e in control.entries
                        if e.change is not Change.UNCHANGED
                    ),
                ]
                for control in sorted(self.controls, key=lambda c: c.control)
            ]
        )

    def of(self, control: str) -> ControlPlan | None:
        return next((c for c in self.controls if c.control == control), None)
