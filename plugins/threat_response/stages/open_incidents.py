"""Stage 4: one incident per high-priority finding, ever, with the bad values of the finding attached to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Context

from include.soar.incident import marks
from include.soar.model import Finding, IncidentBatch, IncidentOutcome, IncidentRef, Role
from include.soar.vendor.errors import Rejected, Unavailable, Unexpected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import is_gone
from threat_response.stages.incident_system import Case, CaseId, Draft, IncidentOperator, IncidentWork, State

#: How long one may take from claiming an incident to the end of its create. Then another one may claim it: a retry
#: beside a try that died meets the end of the lease, since the waits between the tries are ten minutes in all.
LEASE = timedelta(minutes=5)
#: The product's clock and the event's may differ, and an analyst may open an incident by hand: look a day further.
LOOK_BACK = timedelta(days=1)


class OpenIncidents(IncidentOperator):
    """
    One incident per high-priority finding, ever.

    Gives an ``IncidentBatch``. Before a create it claims the right to it in the ledger, and then looks for the
    finding's mark among the product's incidents, closed and merged ones too; afterwards it looks again, and closes the
    younger of two. The bad values of the finding are attached as threat intel.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        with self.work(context) as work:
            priorities = {p.finding_uid: p for p in work.decision.priorities}
            findings = sorted(
                (f for f in work.case.findings if f.uid in priorities and priorities[f.uid].high),
                key=lambda f: (f.detected_at, f.uid),
            )
            refs: list[IncidentRef] = []
            if findings:
                opening = _Opening(work)
                refs = opening.open(findings)
                if work.system.writes_allowed:
                    refs = _Attaching(work, opening.merged).attach(findings, refs)
        for ref in refs:
            self.log.info(
                "incident %s: %s %s; finding %s, since %s%s; %s",
                ref.marker,
                ref.outcome.value,
                one_line(ref.readable_id or ref.unique_id or "-"),
                one_line(ref.finding_uid),
                one_line(priorities[ref.finding_uid].reason),
                f"; {ref.detail}" if ref.detail else "",
                ref.url or "no link",
            )
        self.log.info("%d of %d findings are of high priority", len(findings), len(work.case.findings))
        return self.finish(context, IncidentBatch(incidents=tuple(refs)).to_json(), work.failures.errors)


def _claim(mark: str) -> str:
    """The claim on creating an incident."""
    return f"incident:{mark}"


@dataclass
class _Attempt:
    """
    What became of a create, before the second look: an id, or the reason why it is not known.

    :param sent: whether the create was sent at all
    """

    created: CaseId | None = None
    doubt: VendorError | None = None
    sent: bool = True


class _Opening:
    """One run's opening of incidents."""

    def __init__(self, work: IncidentWork) -> None:
        self.work = work
        self.system = work.system
        self.failures = work.failures
        #: Ids of incidents that an analyst merged into another one: nothing can be attached to them.
        self.merged: set[str] = set()
        #: Marks of the incidents that this try alone may create.
        self.claimed: set[str] = set()

    def open(self, findings: Sequence[Finding]) -> list[IncidentRef]:
        try:
            return self._open(findings)
        finally:
            # This try creates nothing more: its successor need not wait for the end of the leases.
            for mark in self.claimed:
                self.work.ledger.claims.release(_claim(mark), by=self.work.claimant)

    def _open(self, findings: Sequence[Finding]) -> list[IncidentRef]:
        since = min(f.detected_at for f in findings) - LOOK_BACK
        refs: dict[str, IncidentRef] = {}
        attempts: dict[str, _Attempt] = {}
        # First, so that what the look shows stays true until we write.
        self._claim(findings)
        try:
            known = self._look(since)
        except VendorError as error:
            self.failures.add(error)
            return [self._failed(f, error) for f in findings]
        for finding in findings:
            if stopped_by := self.failures.stopped_by:
                self.failures.errors.append(stopped_by)
                refs[finding.uid] = self._failed(finding, stopped_by)
                continue
            try:
                outcome = self._open_one(finding, known.get(marks.marker(finding.uid), []))
            except VendorError as error:
                self.failures.add(error)
                refs[finding.uid] = self._failed(finding, error)
                continue
            if isinstance(outcome, IncidentRef):
                refs[finding.uid] = outcome
            else:
                attempts[finding.uid] = outcome
        if attempts:
            refs.update(self._look_again(since, [f for f in findings if f.uid in attempts], attempts))
        return [refs[f.uid] for f in findings]

    def _look(self, since: datetime) -> dict[str, list[Case]]:
        """Incidents by our mark in their titles, oldest first."""
        found: dict[str, list[Case]] = {}
        for case in self.system.created_since(since):
            if mark := marks.marker_in(case.title):
                found.setdefault(mark, []).append(case)
        return found

    def _claim(self, findings: Sequence[Finding]) -> None:
        """Claim the right to create what may be missing, except what is another one's at this moment."""
        if self.system.writes_allowed:
            claims, now = self.work.ledger.claims, settings.now()
            for mark in (marks.marker(finding.uid) for finding in findings):
                if claims.take(_claim(mark), by=self.work.claimant, now=now, lease=LEASE, is_gone=is_gone):
                    self.claimed.add(mark)

    def _may_create(self, mark: str) -> bool:
        """Whether this try alone may create the incident, for another lease from now on."""
        claims = self.work.ledger.claims
        return mark in self.claimed and claims.renew(
            _claim(mark), by=self.work.claimant, now=settings.now(), lease=LEASE
        )

    def _open_one(self, finding: Finding, cases: list[Case]) -> IncidentRef | _Attempt:
        mark = marks.marker(finding.uid)
        if cases := self.work.ours(finding, cases):
            return self._settle(finding, cases, IncidentOutcome.EXISTING)
        if not self.system.writes_allowed:
            return self._ref(finding, IncidentOutcome.PLANNED, detail="would be created")
        # A list may lag behind another run's create; and an analyst may have changed the title.
        if mark in self.claimed and (case := self._remembered(mark)):
            return self._settle(finding, [case], IncidentOutcome.EXISTING)
        if not self._may_create(mark):
            busy = Unavailable(self.system.name, "create", f"another run is creating {mark} at this moment")
            return _Attempt(doubt=busy, sent=False)
        try:
            created = self.system.create(self._draft(finding))
        except (Unavailable, Unexpected) as error:
            self.failures.notice(error)
            return _Attempt(doubt=error)
        self.failures.recovered()
        return _Attempt(created=created)

    def _remembered(self, mark: str) -> Case | None:
        """What the ledger knows is a hint only: the incident must exist and bear our mark."""
        row = self.work.ledger.incidents.get(mark)
        if row is None or row.unique_id is None:
            return None
        try:
            case = self.system.get(row.unique_id)
        except Rejected:
            return None
        return case if case and (mark in case.title or mark in (case.description or "")) else None

    def _look_again(
        self, since: datetime, findings: Sequence[Finding], attempts: Mapping[str, _Attempt]
    ) -> dict[str, IncidentRef]:
        """Read back what was created, find what may have been, and see whether another run was faster."""
        known: dict[str, list[Case]] = {}
        blind: VendorError | None = None
        try:
            known = self._look(since)
        except VendorError as error:
            self.failures.add(error)
            blind = error
        refs = {}
        for finding in findings:
            attempt, cases = attempts[finding.uid], known.get(marks.marker(finding.uid), [])
            try:
                cases = self.work.ours(finding, cases, attempt.created)
                refs[finding.uid] = self._read_back(finding, attempt, cases, blind)
            except VendorError as error:
                if error is attempt.doubt:  # has been noticed when it happened
                    self.failures.errors.append(error)
                else:
                    self.failures.add(error)
                refs[finding.uid] = self._failed(finding, error)
        return refs

    def _read_back(
        self, finding: Finding, attempt: _Attempt, cases: list[Case], blind: VendorError | None
    ) -> IncidentRef:
        """
        :param cases: those that bear the finding's mark now, oldest first
        :param blind: why ``cases`` could not be read
        :raises VendorError: the attempt's own doubt, where nothing has come of it
        """
        created = attempt.created
        if created is None:
            if attempt.doubt and not cases:
                raise attempt.doubt
        elif blind:  # it exists, and the next try looks whether it is the only one
            return self._ref(finding, IncidentOutcome.CREATED, created, detail=str(blind))
        elif all(case.id != created.id for case in cases):
            cases = sorted([*cases, self._not_listed(created)], key=lambda case: case.order)
        kept_is_ours = cases[0].id == created.id if created else attempt.sent
        return self._settle(finding, cases, IncidentOutcome.CREATED if kept_is_ours else IncidentOutcome.EXISTING)

    def _not_listed(self, created: CaseId) -> Case:
        """What was created and is not in the list, if it exists at all: a list may lag behind."""
        reason = "there is none"
        try:
            if case := self.system.get(created.id):
                return case
        except Rejected as error:
            reason = error.reason
        raise Unexpected(self.system.name, "create", f"accepted, but {created.id} cannot be read: {reason}")

    def _settle(self, finding: Finding, cases: list[Case], outcome: IncidentOutcome) -> IncidentRef:
        """Of several incidents of one finding keep the oldest, close the others, remember the one that counts."""
        kept, *others = cases
        if kept.state is State.MERGED:
            self.merged.add(kept.id)
        # A person who goes on with a copy gives it a title of its own.
        titles = {kept.title, self._title(finding)}
        details = [self._close(c, kept) for c in others if c.state is State.OPEN and c.title in titles]
        if self.system.writes_allowed:
            mark, ledger = marks.marker(finding.uid), self.work.ledger
            ledger.incidents.record(
                mark, finding.uid, unique_id=kept.id, readable_id=kept.readable_id, now=settings.now()
            )
            ledger.incidents.remember_created(self.system.name, {kept.id: kept.created_at})
            if mark in self.claimed:
                ledger.claims.release(_claim(mark), by=self.work.claimant)
                self.claimed.remove(mark)
        return self._ref(finding, outcome, kept, detail="; ".join(details))

    def _close(self, duplicate: Case, kept: Case) -> str:
        """What became of a duplicate."""
        if not self.system.writes_allowed:
            return f"duplicate {duplicate.name} would be closed"
        from include.soar.incident import texts

        note = texts.duplicate_note(kept.name, templates=self.work.templates)
        try:
            self.system.close_as_duplicate(duplicate, kept, note)
        except VendorError as error:
            self.failures.add(error)
            return f"duplicate {duplicate.name} could not be closed: {error}"
        return f"duplicate {duplicate.name} closed"

    def _ref(
        self, finding: Finding, outcome: IncidentOutcome, incident: CaseId | None = None, *, detail: str = ""
    ) -> IncidentRef:
        whole = incident if isinstance(incident, Case) else None
        return IncidentRef(
            finding_uid=finding.uid,
            marker=marks.marker(finding.uid),
            outcome=outcome,
            title=whole.title if whole else self._title(finding),
            unique_id=incident.id if incident else None,
            readable_id=incident.readable_id if incident else None,
            url=self.system.page(incident) if incident else None,
            created_at=whole.created_at if whole else None,
            detail=one_line(detail),
        )

    def _failed(self, finding: Finding, error: VendorError) -> IncidentRef:
        return self._ref(finding, IncidentOutcome.FAILED, detail=str(error))

    def _source(self, finding: Finding) -> str:
        return self.system.words.sources.get(finding.source, finding.source)

    def _title(self, finding: Finding) -> str:
        from include.soar.incident import texts

        return texts.title(finding, self._source(finding), marks.marker(finding.uid))

    def _draft(self, finding: Finding) -> Draft:
        from include.soar.incident import texts

        work = self.work
        description = texts.description(
            work.case,
            work.decision,
            finding,
            source=self._source(finding),
            mark=marks.marker(finding.uid),
            templates=work.templates,
        )
        attackers = {
            item.observable.value
            for item in texts.observed_in(work.case, finding)
            if item.observable.is_address and Role.ATTACKER in item.roles
        }
        return Draft(
            finding=finding,
            title=self._title(finding),
            description=marks.signed(description, marks.marker(finding.uid), word="reference"),
            attackers=tuple(sorted(attackers)),
        )


class _Attaching:
    """
    One run's attaching of threat intel.

    :param merged: ids of incidents to which nothing can be attached
    """

    def __init__(self, work: IncidentWork, merged: set[str]) -> None:
        self.work = work
        self.system = work.system
        self.failures = work.failures
        self.merged = merged

    def attach(self, findings: Sequence[Finding], refs: Sequence[IncidentRef]) -> list[IncidentRef]:
        """Make sure that the bad values of each finding are attached to its incident."""
        by_uid = {f.uid: f for f in findings}
        done = []
        for ref in refs:
            problem = ""
            if ref.unique_id and ref.unique_id not in self.merged:
                try:
                    if self.failures.stopped_by:
                        raise self.failures.stopped_by
                    problem = self._attach_one(by_uid[ref.finding_uid], ref.unique_id)
                except VendorError as error:
                    self.failures.add(error)
                    problem = f"indicators not attached: {error}"
            details = filter(None, (ref.detail, one_line(problem)))
            done.append(ref.model_copy(update={"detail": "; ".join(details)}))
        return done

    def _attach_one(self, finding: Finding, id: str) -> str:
        """What could not be attached, if anything."""
        wanted = self.work.attachable(finding)
        if not wanted:
            return ""
        with self.work.alone(f"attach:{id}", f"attaching to {id}") as hold:
            present = self.system.attached(id, wanted)
            missing = [o for o in wanted if o.key not in present]
            if not missing:
                return ""
            hold()
            refused = self.system.attach(id, missing)
        for error in refused.values():
            self.failures.add(error)
        accepted = [o for o in missing if o.key not in refused]
        if accepted and (lost := {o.key for o in accepted} - self.system.attached(id, accepted)):
            raise Unexpected(self.system.name, "attach", f"{len(lost)} indicators were accepted and are not there")
        self.failures.recovered()
        return f"{len(refused)} indicators were refused" if refused else ""
