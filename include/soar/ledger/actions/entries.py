"""
What of ours is in force at a control, as the sum of the events. A pure function, so that the state can be made again
from the log and compared with what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.soar.ledger.actions.records import Kind
from include.soar.model import IN_FORCE, Outcome, Reached, Verb

#: Columns of ``EntryRow``, and those of them that an event has too. Both as dictionaries: thousands are made at once.
Entry = dict[str, Any]
_OF_EVENT = ("control", "observable", "value", "verb", "outcome", "rung", "reached", "detail", "expires_at", "run_id")
_NO_INTENT: Entry = {"intended_verb": None, "intended_until": None, "intended_at": None}

#: Proved to do what they are for.
ACTIVE = IN_FORCE - {Outcome.PENDING}
#: Nothing of ours is there any more.
_ENDED = (Outcome.LIFTED, Outcome.GONE)
#: Of a failed try: our entry is there, or may be.
_MAY_BE_THERE = (Reached.INTENDED, Reached.ACCEPTED, Reached.LISTED, Reached.STAGING)


def advance(entry: Entry | None, event: Mapping[str, Any]) -> Entry | None:
    """
    The entry after one event of its observable at its control. Only a lift, a removal, or having been seen gone ends
    it: neither a failed try nor its own end does.

    :param entry: None: nothing of ours is there
    """
    kind = event["kind"]
    if kind == Kind.INTENDED:
        return _intended(entry, event)
    if kind in (Kind.REPORTED, Kind.EARLIER):
        return _lifted(entry, event) if event["verb"] == Verb.LIFT else _reported(entry, event)
    if kind == Kind.REMOVED:
        return None
    if kind == Kind.CANCELLED and entry is not None:
        return entry | {"cancelled": event["detail"]}
    return entry


def _intended(entry: Entry | None, event: Mapping[str, Any]) -> Entry | None:
    lifts = event["verb"] == Verb.LIFT
    until = None if lifts else event["expires_at"]
    intent = {"intended_verb": event["verb"], "intended_until": until, "intended_at": event["at"]}
    if entry is None:
        return None if lifts else _new(None, event) | intent | {"outcome": Outcome.PENDING.value}
    return entry | intent | {"incidents": _incidents(entry, event)}


def _lifted(entry: Entry | None, event: Mapping[str, Any]) -> Entry | None:
    if event["outcome"] in _ENDED or event["reached"] == Reached.GONE or entry is None:
        return None
    if event["outcome"] == Outcome.NOT_OURS:
        return None  # what is there is a person's now
    if event["outcome"] == Outcome.PENDING:
        return entry | _NO_INTENT | {"lifting": True, "proof": event["proof"], "updated_at": event["at"]}
    return entry  # not known: an intent that is open stays open


def _reported(entry: Entry | None, event: Mapping[str, Any]) -> Entry | None:
    outcome = event["outcome"]
    if outcome in _ENDED or event["reached"] == Reached.GONE:
        return None
    if event["kind"] == Kind.EARLIER and outcome == Outcome.CANCELLED:
        # The earlier release wrote "was blocked; …" in the place of the state.
        was = event["detail"].removeprefix("was ").partition(";")[0]
        return _new(None, event) | {"outcome": was, "cancelled": event["detail"]} if was in IN_FORCE else None
    if outcome in ACTIVE:
        return _new(entry, event)
    if outcome == Outcome.PENDING:
        if entry is None or entry["outcome"] not in ACTIVE:
            return _new(entry, event)
        # What was proved holds until the new end is.
        intent = {"intended_verb": event["verb"], "intended_until": event["expires_at"], "intended_at": event["at"]}
        return entry | intent | {"incidents": _incidents(entry, event)}
    if outcome != Outcome.FAILED or (entry is not None and entry["outcome"] in ACTIVE):
        return entry
    if entry is None:
        return _new(None, event) if event["reached"] in _MAY_BE_THERE else None
    failed = {"outcome": outcome, "detail": event["detail"], "updated_at": event["at"]}
    return entry | failed | {"reached": event["reached"] or entry["reached"]}


def _new(entry: Entry | None, event: Mapping[str, Any]) -> Entry:
    """As the control reports it. Its time in force goes on, if it has not ended in the meantime."""
    goes_on = (
        entry is not None
        and entry["outcome"] in ACTIVE
        and (entry["expires_at"] is None or entry["expires_at"] > event["at"])
    )
    return {
        **{name: event[name] for name in _OF_EVENT},
        "since": entry["since"] if entry is not None and goes_on else event["at"],
        "proof": dict(event["proof"]),
        "incidents": _incidents(entry, event),
        "updated_at": event["at"],
        "cancelled": "",
        "lifting": False,
        **_NO_INTENT,
    }


def _incidents(entry: Entry | None, event: Mapping[str, Any]) -> list[str]:
    return sorted({*(entry["incidents"] if entry else ()), *event["incidents"]})
