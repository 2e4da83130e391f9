"""A plan in words, as a diff: in the log, in the incident and in the question. Pure; what it gives is not escaped."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from include.soar.incident.clean import clean, defang, when
from include.soar.model import Change, ControlPlan, Plan, PlanEntry

#: A plan's changes as a person counts them, in the order in which they are told.
WORDS = {
    Change.ADD: "to add",
    Change.PROLONG: "to prolong",
    Change.LIFT: "to lift",
    Change.UNCHANGED: "unchanged",
    Change.HELD: "held",
    Change.REFUSED: "refused",
    Change.UNKNOWN: "unknown",
}
SIGNS = {
    Change.ADD: "+",
    Change.PROLONG: "~",
    Change.LIFT: "-",
    Change.UNCHANGED: "=",
    Change.HELD: "?",
    Change.REFUSED: "!",
    Change.UNKNOWN: "…",
}


def summary(control: ControlPlan) -> str:
    """``akamai_client_lists: 2 to add, 1 to prolong, 8 unchanged; 37 of 10,000 entries``."""
    return f"{clean(control.control)}: {'; '.join([_counts(control), *sizes(control)])}"


def _counts(control: ControlPlan) -> str:
    counts = [f"{number} {words}" for change, words in WORDS.items() if (number := control.count(change))]
    return ", ".join(counts) or "nothing to change"


def sizes(control: ControlPlan) -> list[str]:
    """How full the control is, and what else an activation would take along."""
    told = []
    if control.size is not None:
        of = f" of {control.capacity:,}" if control.capacity is not None else ""
        told.append(f"{control.size:,}{of} entries")
    if control.others_changes:
        told.append(f"{control.others_changes} changes of other people would go with it")
    if control.problem:
        told.append(f"it could not be read: {clean(control.problem)}")
    return told


def line(entry: PlanEntry) -> str:
    """One entry on one line: ``+ ipv4-addr 203[.]0[.]113[.]7: to add, block short until …``."""
    observable = entry.observable
    return f"{SIGNS[entry.change]} {observable.type.value} {clean(defang(observable))}: {change_words(entry)}"


def change_words(entry: PlanEntry) -> str:
    """What the plan does with the entry, until when, what is there now, and by which rule."""
    told = [WORDS[entry.change]]
    if entry.rung:
        told.append(entry.rung.value.replace("_", " "))
    if entry.expires_at:
        told.append(f"until {when(entry.expires_at)}")
    elif entry.change is Change.UNCHANGED:
        told.append("without an end")
    words = f"{told[0]}{', ' if told[1:] else ''}{' '.join(told[1:])}"
    if entry.was_until and entry.was_until != entry.expires_at:
        words += f"; in force there until {when(entry.was_until)}"
    return words + reason(entry)


def reason(entry: PlanEntry) -> str:
    """``; by the rule own: …``; empty where neither rule nor detail is known."""
    rule = f"; by the rule {clean(entry.rule)}" if entry.rule and entry.change is not Change.HELD else ""
    return rule + (f"{':' if rule else ';'} {clean(entry.detail)}" if entry.detail else "")


def of_values(plan: Plan | None, keys: Collection[str]) -> Iterator[tuple[ControlPlan, PlanEntry]]:
    """The entries of these values, by control."""
    for control in plan.controls if plan else ():
        for entry in control.entries:
            if entry.observable.key in keys:
                yield control, entry
