"""Stage 5: older incidents that share an indicator with a new one get its findings as a comment, and a link to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from include.soar.incident import marks
from include.soar.model import Finding, IncidentRef, Observable, Relation, RelationBatch
from include.soar.vendor.errors import Rejected, Unexpected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.stages.incident_system import Case, IncidentWork, OpenedIncidentOperator, State

if TYPE_CHECKING:
    from include.soar.policy.rules import RelatedPolicy


class Relate(OpenedIncidentOperator):
    """
    Older incidents that share an indicator with a new one get its findings as a comment, and a link to it.

    Gives a ``RelationBatch``. Which incidents are related depends on when they were created, not on when this runs,
    so a repeated run finds the same ones, and its own comment and link there.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        opened, relations = self.opened(), list[Relation]()
        with self.work(context) as work:
            relating, failures = _Relating(work, settings.policy().related), work.failures
            for finding, ref in self.pairs(work, opened):
                try:
                    if failures.stopped_by:
                        raise failures.stopped_by
                    found = relating.relate(finding, ref)
                except VendorError as error:
                    failures.add(error)
                    self.log.warning("incident %s: not related, since %s", ref.marker, error)
                    continue
                if all(relation.outcome != "failed" for relation in found):
                    failures.recovered()
                relations.extend(found)
                self._tell(ref, found)
        return self.finish(context, RelationBatch(relations=tuple(relations)).to_json(), failures.errors)

    def _tell(self, ref: IncidentRef, found: Sequence[Relation]) -> None:
        name = one_line(ref.readable_id or ref.marker)
        for relation in found:
            self.log.info(
                "incident %s and older %s: %s; they share %s; %s",
                name,
                one_line(relation.related_readable_id or relation.related_id),
                relation.outcome,
                one_line(", ".join(o.key for o in relation.shared)),
                relation.detail or "-",
            )
        if not found:
            self.log.info("incident %s: no older incident shares an indicator", name)


class _Relating:
    """One run's relating. Remembers the incidents that it read: several new ones may share with the same older one."""

    def __init__(self, work: IncidentWork, limits: RelatedPolicy) -> None:
        self.work = work
        self.system = work.system
        self.limits = limits
        self._cases: dict[str, Case | None] = {}

    def relate(self, finding: Finding, ref: IncidentRef) -> list[Relation]:
        me = self._case(str(ref.unique_id))
        if me is None:
            raise Unexpected(self.system.name, "get", f"incident {ref.marker} does not exist any more")
        if me.state is State.MERGED:
            return []
        wanted = self.work.attachable(finding)
        shared = self.system.sharing(me.id, wanted) if wanted else {}
        newest = self._newest(me, ref, sorted(shared))
        if not newest:
            return []
        if not self.system.writes_allowed:
            return [_relation(me, case, shared[case.id], "planned", "would be related") for case in newest]
        comments = {case.id: self._comment(finding, ref, case, shared[case.id]) for case in newest}
        links = self._link(me, newest)
        relations = []
        for case in newest:
            problems = [str(e) for e in (comments[case.id], links[case.id]) if e]
            outcome = "failed" if problems else "related"
            relations.append(_relation(me, case, shared[case.id], outcome, "; ".join(problems)))
        return relations

    def _newest(self, me: Case, ref: IncidentRef, ids: Sequence[str]) -> list[Case]:
        """
        Of the cases that share something: those that are older, not too old, and of another finding. A scanner's
        address may be shared by thousands: no more are read than it takes to find the newest.
        """
        oldest = me.created_at - timedelta(days=self.limits.days)
        times = ((at, id) for id, at in self._created_at(ids).items() if oldest <= at)
        newest: list[Case] = []
        for _, id in sorted((time for time in times if time < me.order), reverse=True):
            if len(newest) == self.limits.maximum_per_incident:
                break
            case = self._older(id)
            if case and case.state is not State.MERGED and marks.marker_in(case.title) != ref.marker:
                newest.append(case)
        return newest

    def _created_at(self, ids: Sequence[str]) -> dict[str, datetime]:
        """When each of the cases was created. What the ledger does not know is read, once and for all runs."""
        ledger = self.work.ledger.incidents
        known = ledger.created_at(self.system.name, ids)
        read: dict[str, datetime] = {}
        try:
            for id in ids:
                if id not in known and (case := self._older(id)):
                    read[id] = case.created_at
        finally:
            # Also of a task that goes no further: its retry then begins here.
            ledger.remember_created(self.system.name, read)
        return known | read

    def _older(self, id: str) -> Case | None:
        """One that cannot be read costs itself only: it is not related, and the task tells so by its end."""
        try:
            return self._case(id)
        except (Rejected, Unexpected) as error:
            self.work.failures.add(error)
            self._cases[id] = None
            settings.log.warning("older incident %s: not related, since %s", one_line(id, 80), error)
            return None

    def _case(self, id: str) -> Case | None:
        if id not in self._cases:
            self._cases[id] = self.system.get(id)
        return self._cases[id]

    def _comment(
        self, finding: Finding, ref: IncidentRef, older: Case, shared: Sequence[Observable]
    ) -> VendorError | None:
        """On a closed incident too: the analyst who closed it should know."""
        from include.soar.incident import texts
        from include.soar.incident.clean import Link

        reference = marks.relation_reference(older.id, str(ref.unique_id))
        markup = texts.related_comment(
            self.work.case,
            self.work.decision,
            finding,
            incident=Link(ref.readable_id or ref.marker, ref.url),
            shared=shared,
            reference=reference,
            templates=self.work.templates,
        )
        try:
            with self.work.commenting(older.id) as hold:
                self.work.comment_once(
                    older.id, markup, lambda found: any(reference in c.text for c in found), hold=hold
                )
        except VendorError as error:
            self.work.failures.add(error)
            return error
        return None

    def _link(self, me: Case, older: Sequence[Case]) -> dict[str, VendorError | None]:
        """Link with those not linked yet, and read back once. What went wrong, by id."""
        problems: dict[str, VendorError | None] = dict.fromkeys(case.id for case in older)
        missing = list(problems)
        try:
            with self.work.alone(f"link:{me.id}", f"linking {me.id}") as hold:
                linked = self.system.linked(me.id)
                missing = [other for other in problems if other not in linked]
                for other in missing:
                    hold()
                    problems[other] = self._link_one(me, other)
                linked = self.system.linked(me.id) if missing else linked
        except VendorError as error:
            problems.update({other: problems[other] or error for other in missing})
        else:
            lost = Unexpected(self.system.name, "link", "accepted, and not there when read back")
            for other in missing:
                # An answer may have been lost on its way although the link was made.
                problems[other] = None if other in linked else problems[other] or lost
        for problem in dict.fromkeys(filter(None, problems.values())):
            self.work.failures.add(problem)
        return problems

    def _link_one(self, me: Case, other: str) -> VendorError | None:
        try:
            self.system.link(me.id, other)
        except VendorError as error:
            return error
        return None


def _relation(me: Case, older: Case, shared: tuple[Observable, ...], outcome: str, detail: str) -> Relation:
    return Relation(
        incident_id=me.id,
        related_id=older.id,
        related_readable_id=older.readable_id,
        shared=shared,
        outcome=outcome,
        detail=one_line(detail),
    )
