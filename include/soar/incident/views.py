"""What the templates get: one view for each text, made of plain data. No markup, no observable that is not defanged.

The fields of a view are the names in its template (``docs/incident-texts.md``). All strings may be foreign; they are
cut to a readable length here or when they are shown, never escaped here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from include.soar.incident.clean import Link

Row = TypeVar("Row")


@dataclass(frozen=True)
class Rows(Generic[Row]):
    """The first rows of a table, and how many more there are."""

    rows: tuple[Row, ...] = ()
    more: int = 0


@dataclass(frozen=True)
class ObservableRow:
    """
    An observable of the event.

    :param what: its type, the roles and fields in which it was seen, and context such as its network
    :param verdict: standing and confidence; empty where it was not judged
    :param reasons: by which the verdict can be worked out again
    """

    value: str
    what: str
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SourceRow:
    """
    What a source says about a value, or the sources that do not list it.

    :param sources: each with its own page about the value
    :param grade: of a source that was weighed: ``A`` to ``F``
    :param says: its answer and score; empty for those that do not list the value
    :param labels: techniques and tags
    :param reported: the day or days of its first and last report
    """

    value: str
    sources: tuple[Link, ...]
    grade: str = ""
    says: str = ""
    labels: str = ""
    reported: str = ""


@dataclass(frozen=True)
class UnansweredSource:
    """
    A source that gave no answer about some of the event's values.

    :param values: how many; 0 for one that gave no answer at all
    :param reasons: different ones, each with the time when asking again may help
    :param more: further reasons
    """

    provider: str
    values: int
    reasons: tuple[str, ...]
    more: int


@dataclass(frozen=True)
class UntilRow:
    """
    A value and the end of what is done about it.

    :param rung: how far: ``watch``, ``detect``, ``block short``, ``block long``; empty in a batch of an older release
    :param because: the ways to evidence that lead there
    :param enough: what would have been enough for the next rung; empty: it is on the highest
    """

    value: str
    until: str
    rung: str = ""
    because: str = ""
    enough: str = ""


@dataclass(frozen=True)
class HeldRow:
    """
    A value that waits for a person.

    :param rung: how far it would go, until ``until``
    :param there: at which controls it has an effect already, and until when; empty: at none that was read
    :param because: why it waits
    """

    value: str
    rung: str
    until: str
    there: str
    because: str


@dataclass(frozen=True)
class InForceRow:
    """A value that gets no new block and is in force by an earlier one."""

    value: str
    control: str
    since: str
    until: str
    reason: str


@dataclass(frozen=True)
class PlanRow:
    """
    What the run would change about a value at a control.

    :param change: ``to add``, ``to prolong``, ``to lift``, ``unchanged``, ``held``, ``refused`` or ``unknown``
    :param there: the end of what is in force there now
    """

    control: str
    value: str
    change: str
    rung: str
    until: str
    there: str
    reason: str


@dataclass(frozen=True)
class RefusalRow:
    """A value that is not blocked, and what spoke against it."""

    value: str
    layer: str
    list_name: str
    entry: str
    reason: str


@dataclass(frozen=True)
class Held:
    """
    That the run stopped before blocking.

    :param of_run: how many blocks wait in the whole run
    :param of_event: how many of them are of this event; 0 once there is an answer
    :param task: the task that asks
    :param answer: who answered what, when; empty while nothing is answered
    :param comment: what that person wrote
    :param approved: what of this event was approved; what was not is among the refusals
    """

    of_run: int
    of_event: int
    task: str
    waiting: Rows[HeldRow]
    answer: str
    because: tuple[str, ...]
    comment: str = ""
    approved: Rows[UntilRow] = Rows()


@dataclass(frozen=True)
class ActionRow:
    """
    What a control did about a value, and the proof that can be looked up there.

    :param rung: at which degree it responds
    :param reached: how far that is proved: ``accepted``, ``in version 12``, ``active on production``
    """

    control: str
    did: str
    value: str
    outcome: str
    until: str
    proof: str
    detail: str
    rung: str = ""
    reached: str = ""


@dataclass(frozen=True)
class RelationRow:
    """An older incident, and the values that it shares."""

    incident: str
    shares: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class QuestionRow:
    """
    A value that waits for the answer, with what a person needs to decide about it.

    :param number: of its option
    :param there: at which controls it has an effect already; empty: at none that was read
    :param evidence: the ways to evidence, and the verdict's reasons
    :param sources: who lists it, with score
    :param network: context: whose network it is, and where
    :param tags: the sources' words for it
    :param because: why it waits
    :param plan: what would change at each control
    """

    number: int
    value: str
    kind: str
    roles: str
    rung: str
    confidence: int
    until: str
    there: str
    evidence: tuple[str, ...]
    sources: str
    network: str
    tags: str
    incidents: tuple[Link, ...]
    because: tuple[str, ...]
    plan: tuple[str, ...]
    events: int


@dataclass(frozen=True)
class Description:
    """The incident's description, written once when it is opened."""

    template: ClassVar[str] = "description.html.j2"

    source: str
    event: Link
    detected: str
    severity: str
    priority: str
    category: str
    target: str
    tags: str
    reference: str
    title: str
    description: str
    observables: Rows[ObservableRow]
    sources: Rows[SourceRow]
    acting: Rows[UntilRow]
    held: Held | None
    refusals: Rows[RefusalRow]
    unanswered: tuple[UnansweredSource, ...]


@dataclass(frozen=True)
class RelatedComment:
    """The comment on an older incident that shares indicators with a new one."""

    template: ClassVar[str] = "related_comment.html.j2"

    incident: Link
    shares: str
    title: str
    detected: str
    severity: str
    target: str
    observables: Rows[ObservableRow]
    reference: str


@dataclass(frozen=True)
class StateReport:
    """
    The comment that tells what was done.

    :param counts: ``2 blocked``, ``1 failed``…: what needs a person first
    :param changes: the plan for this event's values, a line for each control: ``akamai_client_lists: 1 to add``
    :param planned: its entries about which no control has said anything yet
    :param degrees: what is acted on, how far, why not further, and what would be enough for that
    :param in_force: what is refused now and in force by an earlier response
    :param skipped: names of the stages that did not take part
    """

    template: ClassVar[str] = "state_report.html.j2"

    counts: tuple[str, ...]
    at: str
    run: Link
    changes: tuple[str, ...]
    planned: Rows[PlanRow]
    actions: Rows[ActionRow]
    degrees: Rows[UntilRow]
    held: Held | None
    in_force: Rows[InForceRow]
    refusals: Rows[RefusalRow]
    relations: Rows[RelationRow]
    observables: Rows[ObservableRow]
    sources: Rows[SourceRow]
    unanswered: tuple[UnansweredSource, ...]
    skipped: tuple[str, ...]
    reference: str


@dataclass(frozen=True)
class ResponseNote:
    """
    The comment that tells what became of blocks after the run that made them.

    :param headline: ``1 lifted, 1 gone``…
    :param by: who wanted it; empty: nobody but the project itself
    """

    template: ClassVar[str] = "response_note.html.j2"

    headline: str
    by: str
    because: str
    at: str
    run: Link
    actions: Rows[ActionRow]
    reference: str


@dataclass(frozen=True)
class DuplicateNote:
    """The note with which a second incident of one event is closed."""

    template: ClassVar[str] = "duplicate_note.html.j2"

    name: str


@dataclass(frozen=True)
class Question:
    """
    What a person is asked about when blocks are held. Markdown.

    :param there: how many of the values are in force somewhere already
    :param meanwhile: how many are acted on at a milder degree, whatever the answer
    :param controls: the plan at each control: changes, size, capacity
    :param all_of, none_of: the two options beside those of the values
    :param unanswered: what happens without an answer
    """

    template: ClassVar[str] = "question.md.j2"

    number: int
    there: int
    meanwhile: int
    hours: str
    because: tuple[str, ...]
    controls: tuple[str, ...]
    all_of: str
    none_of: str
    unanswered: str
    held: Rows[QuestionRow]


View = Description | RelatedComment | StateReport | ResponseNote | DuplicateNote | Question
