"""What a person can choose from when blocks wait for an answer, and what a choice means. Pure.

An answer is a list of the options' own words: Airflow knows no other name of an option.
"""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.incident.clean import ROWS, clean, defang, when
from include.soar.model import ApprovalAnswer, Decision, Indicator

ALL, NONE = "Approve all", "Reject all"
#: Longest name of a value in an option: the form shows each on one line.
OPTION = 80


def held_in_order(decision: Decision) -> list[Indicator]:
    """What waits, the surest first: in the question, and in the numbers of the options."""
    return sorted(decision.held, key=lambda i: (-i.confidence, i.observable.key))


def options(decision: Decision) -> dict[str, tuple[str, ...]]:
    """
    Each option, in order, with the keys of the observables that it approves. Beyond the first hundred values the
    others are one option.
    """
    held = held_in_order(decision)
    found = {ALL: tuple(i.observable.key for i in held), NONE: ()}
    for number, one in enumerate(held[:ROWS], 1):
        found[_option(number, one)] = (one.observable.key,)
    if rest := held[ROWS:]:
        found[f"{ROWS + 1} to {len(held)}: the other {len(rest)}"] = tuple(i.observable.key for i in rest)
    return found


def _option(number: int, one: Indicator) -> str:
    rung = f"{one.rung.value.replace('_', ' ')} " if one.rung else ""
    return f"{number}: {clean(defang(one.observable), OPTION)} | {rung}until {when(one.expires_at)}"


def answered(decision: Decision, chosen: Sequence[str]) -> tuple[ApprovalAnswer, tuple[str, ...] | None]:
    """
    What a person's choice means: the answer, and the keys that were approved (None: all). One that contradicts itself
    approves nothing.

    :raises KeyError: an option that was not offered
    """
    offered = options(decision)
    keys = {key for option in chosen for key in offered[option]}
    if NONE in chosen or not keys:
        return ApprovalAnswer.REJECTED, None
    if len(keys) == len({one.observable.key for one in decision.held}):
        return ApprovalAnswer.APPROVED, None
    return ApprovalAnswer.APPROVED, tuple(sorted(keys))
