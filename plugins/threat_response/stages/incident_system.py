"""
Stages 4, 5 and 9 talk to a case-management product: what it must be able to do, and what the three stages share.

The product's part is :class:`IncidentSystem`, written once per product in ``vendors/<product>/cases.py``. Ours is what
keeps a repeated run from writing anything twice: marks in titles and comments, claims in the ledger, a look before each
write and one after it. No product is assumed to have an idempotency key. See ``docs/add-an-incident-system.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import Context, TriggerRule

from include.soar.model import (
    CaseBatch,
    Decision,
    Finding,
    IncidentBatch,
    IncidentRef,
    Observable,
    Role,
    Standing,
)
from include.soar.vendor.errors import Rejected, Unauthorized, Unavailable, Unexpected, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run, is_gone
from threat_response.stages.base import Failures, StageOperator

if TYPE_CHECKING:
    from include.soar.gate.gate import Gate
    from include.soar.incident.inputs import Templates
    from include.soar.ledger import Ledger

#: How long one may take from a look at an incident to the end of the write that follows. Then another one may write.
#: A task that finds it held fails as ``Unavailable``, and the waits before its retries are longer in all.
COMMENT_LEASE = timedelta(minutes=2)

#: Parts that do not make a value an indicator in the incident: ours, or written by whoever sent the request.
NOT_ATTACHED = frozenset({Role.VICTIM, Role.INTERNAL, Role.CLAIM})


# --- what a product gives and takes -------------------------------------------------------------------------


class State(StrEnum):
    """What a product's statuses mean to us."""

    OPEN = "open"  # whatever an analyst may still be working on
    CLOSED = "closed"
    MERGED = "merged"  # into another case, so read-only; a product without merging has none


@dataclass(frozen=True)
class CaseId:
    """
    :param id: by which the product's API addresses the case
    :param readable_id: by which people know it; None where the product has no such name
    """

    id: str
    readable_id: str | None = None

    @property
    def name(self) -> str:
        return self.readable_id or self.id


@dataclass(frozen=True, kw_only=True)
class Case(CaseId):
    """
    An incident as the product has it.

    :param created_at: by the product's clock
    :param description: as the product has it, markup included; None where a listing leaves it out
    :param labels: in the product's words and order; empty where a listing leaves them out
    """

    title: str
    created_at: datetime
    state: State
    description: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[datetime, str]:
        """Older first; the id breaks a tie, so that every run agrees on which one is older."""
        return self.created_at, self.id


@dataclass(frozen=True)
class Draft:
    """
    An incident to be created. The product maps it to its own fields.

    :param title: with our mark at its end: it must be stored whole
    :param description: HTML, with every foreign text escaped
    :param attackers: addresses, IPv4 or IPv6, sorted as text; may be empty
    """

    finding: Finding
    title: str
    description: str
    attackers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comment:
    """
    :param text: must contain the comment as it was added; more before it does no harm, and behind it markup, or what
        stands in JSON behind a text
    :param created_at: None where the product does not tell
    """

    text: str
    created_at: datetime | None = None


@dataclass(frozen=True)
class Words:
    """
    The product's words for what the stages speak of.

    :param sources: a source's name in the product by our name; a source that is missing keeps our name
    :param blocked: label of an incident of which something is blocked
    :param pending: label of an incident of which a block is not in force yet
    :param opened: labels of every incident that we open, one of which ours still has; none: the product gives none
    """

    blocked: str
    pending: str
    sources: Mapping[str, str] = field(default_factory=dict)
    opened: tuple[str, ...] = ()


class IncidentSystem(Protocol):
    """
    One connection to a case-management product, for the time of one task.

    Every verb raises one of the errors of ``include/soar/vendor/errors.py`` and no other: ``Unavailable`` or
    ``Unexpected`` from a write mean that it may have happened all the same. A verb that writes, called without
    ``writes_allowed``, raises ``WriteInPlanMode`` of the same file and sends nothing.

    ``id`` is a :attr:`CaseId.id`. The verbs need not remember anything between calls.
    """

    #: The product's name, for errors: the folder's and the connection type's.
    name: str
    writes_allowed: bool

    @property
    def words(self) -> Words:
        """As this connection is set up."""

    def created_since(self, at: datetime) -> list[Case]:
        """
        Every case created at ``at`` or later, whatever its state, oldest first by :attr:`Case.order`. May lag behind
        a create, but must not lack an older case.

        :raises Unexpected: rows are missing: a short read could create a duplicate
        """

    def get(self, id: str) -> Case | None:
        """The case with its description and labels, as of now; None where there is none, or none that we may see."""

    def create(self, draft: Draft) -> CaseId:
        """
        Create a case in state open. Not idempotent: the stage looks before and after.

        :raises Rejected: this draft is wrong for the product
        """

    def close_as_duplicate(self, case: Case, of: Case, note: str) -> None:
        """
        Close ``case``.

        :param of: the case that is kept
        :param note: HTML, names ``of``: the closing note, or a comment where the product has no such note
        """

    def comments(self, id: str) -> list[Comment]:
        """
        Every comment of a case, in any order.

        :raises Unexpected: some are missing
        """

    def comment(self, id: str, markup: str) -> None:
        """Add a comment, HTML. Not idempotent."""

    def label(self, id: str, labels: Sequence[str]) -> None:
        """Give the case exactly these labels. The stage has united them with those that were there."""

    def can_attach(self, observable: Observable) -> bool:
        """Whether the product knows such a value as threat intel: its type, or a hash's algorithm. Asks nobody."""

    def attached(self, id: str, observables: Sequence[Observable]) -> set[str]:
        """Keys of those among ``observables`` that are attached to the case as threat intel."""

    def attach(self, id: str, observables: Sequence[Observable]) -> dict[str, Rejected]:
        """
        Attach values, each of which :meth:`can_attach` and is not attached yet.

        :return: the values that the product refused, by observable key; the others are attached
        """

    def sharing(self, id: str, observables: Sequence[Observable]) -> dict[str, tuple[Observable, ...]]:
        """Ids of the other cases to which some of ``observables`` are attached too, and which; in any state."""

    def linked(self, id: str) -> set[str]:
        """Ids of the cases that this one is linked with, in either direction."""

    def link(self, id: str, other: str) -> None:
        """Link two cases. The stage calls it for cases that are not linked yet."""

    def page(self, case: CaseId) -> str | None:
        """The case's page for a person, http or https; None where there is none to be told. Asks nobody."""


def incident_system(vendor: str, conn_id: str, *, writes_allowed: bool) -> IncidentSystem:
    """
    The product that is called ``vendor``: ``cases(conn_id, writes_allowed=…)`` of its module ``cases``.

    :raises Unauthorized: its connection is missing, and without incidents there is no response
    """
    if not settings.connection_exists(conn_id):
        raise Unauthorized(vendor, "connection", f"there is no connection {conn_id!r}, and it is required")
    # Imported when a task runs: reading the DAG must not import a vendor's client.
    module = import_module(f"threat_response.vendors.{vendor}.cases")
    system: IncidentSystem = module.cases(conn_id, writes_allowed=writes_allowed)
    return system


# --- what the stages share ----------------------------------------------------------------------------------


@dataclass
class IncidentWork:
    """
    What one task of stage 4, 5 or 9 works with.

    :param claimant: this try of this task; see ``Run.claimant``
    """

    system: IncidentSystem
    ledger: Ledger
    claimant: str
    case: CaseBatch
    decision: Decision
    failures: Failures = field(default_factory=Failures)

    @cached_property
    def gate(self) -> Gate:
        return settings.gate()

    @cached_property
    def templates(self) -> Templates:
        return settings.incident_templates()

    def attachable(self, finding: Finding) -> list[Observable]:
        """
        The values of a finding that become threat intel of its incident: those acted on or judged bad; never a
        protected one, nor one that is only ours or only claimed.
        """
        from include.soar.incident import texts

        acted_on = {i.observable.key for i in self.decision.indicators}
        bad = {
            v.observable.key for v in self.decision.verdicts if v.standing in (Standing.MALICIOUS, Standing.SUSPICIOUS)
        }
        return [
            item.observable
            for item in texts.observed_in(self.case, finding)
            if item.observable.key in acted_on | bad
            and item.roles - NOT_ATTACHED
            and self.system.can_attach(item.observable)
            and not self.gate.check(item.observable)
        ]

    @contextmanager
    def alone(self, name: str, doing: str) -> Iterator[Callable[[], None]]:
        """
        Hold the ledger's claim on ``name`` inside, so that nobody writes between our look and our write. Gives what
        must be called right before each write. A run that may not write claims nothing.

        :param doing: what another one is doing then, for people
        :raises Unavailable: another one holds the claim; or, before a write, it is not ours any more
        """

        claims = self.ledger.claims

        def hold() -> None:
            if not claims.renew(name, by=self.claimant, now=settings.now(), lease=COMMENT_LEASE):
                raise Unavailable(self.system.name, "claim", f"we took too long, and another run may be {doing}")

        if not self.system.writes_allowed:
            yield lambda: None
            return
        if not claims.take(name, by=self.claimant, now=settings.now(), lease=COMMENT_LEASE, is_gone=is_gone):
            raise Unavailable(self.system.name, "claim", f"another run is {doing} at this moment")
        try:
            yield hold
        finally:
            claims.release(name, by=self.claimant)

    def commenting(self, id: str) -> AbstractContextManager[Callable[[], None]]:
        """To be alone in writing comments and labels of an incident; see :meth:`alone`."""
        return self.alone(f"comment:{id}", f"commenting on {id}")

    def ours(self, finding: Finding, cases: Sequence[Case], created: CaseId | None = None) -> list[Case]:
        """
        Those of the cases with the finding's mark in their titles that this project has opened. A title can be copied,
        by a person or by another playbook: theirs is neither taken for ours nor closed.

        :param created: what this run has just made
        """
        from include.soar.incident import marks

        mark = marks.marker(finding.uid)
        row = self.ledger.incidents.get(mark)
        known = {row.unique_id if row else None, created.id if created else None}
        if len(cases) == 1 and cases[0].id in known:
            return list(cases)
        found = []
        for case in cases:
            if case.id in known or self._bears(case, mark):
                found.append(case)
            else:
                settings.log.warning(
                    "incident %s has the mark %s in its title and is not ours", one_line(case.name), mark
                )
        return found

    def _bears(self, case: Case, mark: str) -> bool:
        """Whether the mark is in the description's reference row too, and a label of ours is still on the case."""
        from include.soar.incident import marks

        whole = case if case.description is not None else self.system.get(case.id)
        opened = set(self.system.words.opened)
        return (
            whole is not None
            and marks.bears(whole.description or "", mark)
            and (not opened or bool(opened & set(whole.labels)))
        )

    def comment_once(
        self,
        id: str,
        markup: str,
        is_there: Callable[[list[Comment]], bool],
        *,
        hold: Callable[[], None],
    ) -> bool:
        """
        Add a comment unless it is there already. True when this very call added it.

        :param hold: of :meth:`commenting`
        :raises VendorError: it could not be added, or it is not known whether it was and it cannot be found
        """
        return comment_once(self.system, id, markup, is_there, hold=hold)


def comment_once(
    system: IncidentSystem,
    id: str,
    markup: str,
    is_there: Callable[[list[Comment]], bool],
    *,
    hold: Callable[[], None],
) -> bool:
    """See :meth:`IncidentWork.comment_once`."""
    if is_there(system.comments(id)):
        return False
    hold()
    try:
        system.comment(id, markup)
    except (Unavailable, Unexpected):
        if not is_there(system.comments(id)):
            raise
    return True


class IncidentOperator(StageOperator):
    """
    What the three stages share. The connection is required: without incidents there is no response.

    :param vendor: the case-management product's name
    :param case: the extract stage's ``CaseBatch`` (templated)
    :param decision: the ``Decision`` (templated)
    """

    template_fields: Sequence[str] = ("case", "decision")

    def __init__(self, *, case: Any, decision: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.decision = decision

    @contextmanager
    def work(self, context: Context) -> Iterator[IncidentWork]:
        run = Run.of(context)
        system = incident_system(self.vendor, self.conn_id, writes_allowed=run.may_write(blocks=False))
        case, decision = CaseBatch.model_validate(self.case), Decision.model_validate(self.decision)
        ledger = settings.ledger()
        try:
            yield IncidentWork(system, ledger, run.claimant, case, decision)
        finally:
            ledger.close()


class OpenedIncidentOperator(IncidentOperator):
    """
    A stage that writes to incidents that ``open_incidents`` opened.

    :param incidents: the ``IncidentBatch`` of ``open_incidents`` (templated)
    :param trigger_rule: ALL_DONE, since one incident that the product refuses turns ``open_incidents`` red although it
        has published the others, and those must not be left without what this stage tells
    """

    template_fields: Sequence[str] = ("incidents",)

    def __init__(self, *, incidents: Any, trigger_rule: str = TriggerRule.ALL_DONE, **kwargs: Any) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.incidents = incidents

    def opened(self) -> IncidentBatch:
        """:raises AirflowSkipException: a stage before has given nothing, by which the run is red already"""
        if self.incidents is None or self.decision is None:
            missing = "incident" if self.incidents is None else "decision"
            settings.skip(f"{self.task_id} does nothing: there is no {missing} to tell of")
        return IncidentBatch.model_validate(self.incidents)

    def pairs(self, work: IncidentWork, opened: IncidentBatch) -> list[tuple[Finding, IncidentRef]]:
        """Each incident that exists, with its finding."""
        findings = {f.uid: f for f in work.case.findings}
        pairs = []
        for ref in opened.incidents:
            if ref.finding_uid not in findings:
                raise Unexpected(self.vendor, self.task_id, f"incident {ref.marker} belongs to no finding of this case")
            if ref.unique_id is None:
                self.log.info("incident %s: passed over, it is only %s", ref.marker, ref.outcome.value)
            else:
                pairs.append((findings[ref.finding_uid], ref))
        return pairs
