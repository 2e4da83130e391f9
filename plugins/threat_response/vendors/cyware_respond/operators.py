"""Cyware Respond in the workflow: open the incidents, relate them to older ones, and tell what was done.

Every write here is preceded by a look and followed by one, since the vendor has no idempotency key: a repeated task
finds its own marks (``include/soar/incident/texts.py``) and writes nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import BaseOperator, Context

from include.soar.gate.gate import Gate
from include.soar.incident import clean, texts
from include.soar.incident import marks as marks_
from include.soar.ledger import Ledger
from include.soar.model import (
    SCHEMA_VERSION,
    Action,
    ActionBatch,
    CaseBatch,
    Decision,
    Finding,
    IncidentBatch,
    IncidentOutcome,
    IncidentRef,
    Observable,
    Outcome,
    Relation,
    RelationBatch,
    Role,
    Standing,
)
from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    one_line,
)
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.vendors.cyware_respond import api
from threat_response.vendors.cyware_respond.hook import CywareRespondHook
from threat_response.vendors.cyware_respond.tenant import COMMENT_ON_CLOSED, VENDOR, Tenant

#: How long one run may take from claiming an incident to recording it; then the claim is anybody's.
LEASE = timedelta(minutes=5)
#: As long, for looking at an incident's comments and adding one.
COMMENT_LEASE = timedelta(minutes=2)
#: The vendor's clock and the event's may differ, and an analyst may open an incident by hand: look a day further.
LOOK_BACK = timedelta(days=1)
#: After so many failures in a row the vendor is down, and waiting for the others' time-outs helps nobody.
ENOUGH_SILENCE = 3

#: Parts that do not make a value an indicator in the incident: ours, or written by whoever sent the request.
NOT_ATTACHED = frozenset({Role.VICTIM, Role.INTERNAL, Role.CLAIM})

#: Which of several errors a task ends with. What a person must mend first, then what a retry can mend, last the
#: items that no retry can.
WORST_FIRST = (Unauthorized, Unexpected, RateLimited, Unavailable, Rejected)


def worst(errors: Iterable[VendorError]) -> VendorError:
    return min(errors, key=lambda error: next(n for n, kind in enumerate(WORST_FIRST) if isinstance(error, kind)))


@dataclass
class Failures:
    """The errors of a batch, and whether it still makes sense to go on with its other items."""

    errors: list[VendorError] = field(default_factory=list)
    stopped_by: VendorError | None = None
    _silent: int = 0

    def add(self, error: VendorError) -> None:
        self.errors.append(error)
        self.notice(error)

    def notice(self, error: VendorError) -> None:
        """An error that may yet turn out to be none, but counts when the vendor seems to be down."""
        self._silent = self._silent + 1 if isinstance(error, Unavailable) else 0
        if isinstance(error, (Unauthorized, RateLimited)) or self._silent >= ENOUGH_SILENCE:
            self.stopped_by = error

    def recovered(self) -> None:
        self._silent = 0


class RespondOperator(BaseOperator):
    """
    What the three stages share. The connection must be there: without Respond there is no response.

    :param case: the extract stage's ``CaseBatch`` (templated)
    :param decision: the ``Decision`` (templated)
    """

    template_fields: Sequence[str] = ("case", "decision", "conn_id")

    def __init__(self, *, case: Any, decision: Any, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.decision = decision
        self.conn_id = conn_id or CywareRespondHook.default_conn_name

    def hook(self, context: Context) -> CywareRespondHook:
        if not settings.connection_exists(self.conn_id):
            raise Unauthorized(
                VENDOR, "connection", f"there is no connection {self.conn_id!r}, and Respond is required"
            )
        return CywareRespondHook(self.conn_id, writes_allowed=Run.of(context).may_write(blocks=False))

    def read(self, incidents: Any) -> tuple[CaseBatch, Decision, list[tuple[Finding, IncidentRef]]]:
        """
        Validated inputs, and each incident that there is with its finding.

        :raises Unexpected: ``open_incidents`` gave no batch
        """
        if incidents is None:
            raise Unexpected(VENDOR, self.task_id, "open_incidents gave no batch: there is no incident to write to")
        case = CaseBatch.model_validate(self.case)
        findings = {f.uid: f for f in case.findings}
        pairs = []
        for ref in IncidentBatch.model_validate(incidents).incidents:
            if ref.finding_uid not in findings:
                raise Unexpected(VENDOR, self.task_id, f"incident {ref.marker} belongs to no finding of this case")
            if ref.unique_id is None:
                self.log.info("incident %s: passed over, it is only %s", ref.marker, ref.outcome.value)
            else:
                pairs.append((findings[ref.finding_uid], ref))
        return case, Decision.model_validate(self.decision), pairs

    def finish(self, context: Context, batch: dict[str, Any], failures: Failures) -> dict[str, Any]:
        if failures.errors:
            # Published although the task fails: later stages and the page tell what was done and what was not.
            context["ti"].xcom_push(key="return_value", value=batch)
            raise worst(failures.errors)
        return batch


def attachable(case: CaseBatch, decision: Decision, finding: Finding, tenant: Tenant, gate: Gate) -> list[Observable]:
    """
    The values of a finding that become threat intel of its incident: what is acted on or looks bad; never what is
    protected, nor what is only ours or only claimed.
    """
    acted_on = {i.observable.key for i in decision.indicators}
    bad = {v.observable.key for v in decision.verdicts if v.standing in (Standing.MALICIOUS, Standing.SUSPICIOUS)}
    return [
        item.observable
        for item in texts.observed_in(case, finding)
        if item.observable.key in acted_on | bad
        and item.roles - NOT_ATTACHED
        and api.ioc_key(item.observable, tenant)
        and not gate.check(item.observable)
    ]


def comment_once(
    hook: CywareRespondHook,
    ledger: Ledger,
    run: str,
    unique_id: str,
    markup: str,
    is_there: Callable[[list[api.Comment]], bool],
) -> bool:
    """
    Add a comment unless it is there already. True when this very call added it.

    Respond has no idempotency key: between a look and a write another run could write the same. So only the holder
    of the ledger's claim on the incident looks and writes.

    :raises VendorError: it could not be added, or nobody knows and it is not there
    """
    claim = f"comment:{unique_id}"
    if not ledger.claims.take(claim, by=run, now=settings.now(), lease=COMMENT_LEASE):
        raise Unavailable(VENDOR, "add_comment", f"another run is commenting on {unique_id} at this moment")
    try:
        if is_there(hook.comments(unique_id)):
            return False
        try:
            hook.add_comment(unique_id, markup)
        except (Unavailable, Unexpected):
            if not is_there(hook.comments(unique_id)):
                raise
        return True
    finally:
        ledger.claims.release(claim, by=run)


# --- stage 4 ------------------------------------------------------------------------------------------------


class CywareOpenIncidentsOperator(RespondOperator):
    """
    One incident per high-priority finding, ever. Stage 4.

    Gives an ``IncidentBatch``. Before a create it looks for the finding's mark among the tenant's incidents, closed
    and merged ones too, and claims the right to create in the ledger; after, it looks again, and closes the younger
    of two. The bad values of the finding are attached as threat intel.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        case, decision = CaseBatch.model_validate(self.case), Decision.model_validate(self.decision)
        hook = self.hook(context)
        high = {p.finding_uid for p in decision.priorities if p.high}
        findings = sorted((f for f in case.findings if f.uid in high), key=lambda f: (f.detected_at, f.uid))
        refs: list[IncidentRef] = []
        failures = Failures()
        if findings:
            ledger = settings.ledger()
            try:
                opening = _Opening(hook, case, decision, ledger, Run.of(context).name, failures)
                refs = opening.open(findings)
                if hook.writes_allowed:
                    refs = opening.attach(findings, refs)
            finally:
                ledger.close()
        reasons = {p.finding_uid: p.reason for p in decision.priorities}
        for ref in refs:
            self.log.info(
                "incident %s: %s %s; finding %s, since %s%s; %s",
                ref.marker,
                ref.outcome.value,
                one_line(ref.readable_id or ref.unique_id or "-"),
                one_line(ref.finding_uid),
                one_line(reasons[ref.finding_uid]),
                f"; {ref.detail}" if ref.detail else "",
                ref.url or "no link",
            )
        self.log.info("%d of %d findings are of high priority", len(findings), len(case.findings))
        return self.finish(context, IncidentBatch(incidents=tuple(refs)).to_json(), failures)


@dataclass
class _Tried:
    """What became of a create, before the second look: an id, or the reason why nobody knows."""

    created: api.Created | None = None
    doubt: VendorError | None = None
    sent: bool = True


class _Opening:
    """One run's opening of incidents."""

    def __init__(
        self,
        hook: CywareRespondHook,
        case: CaseBatch,
        decision: Decision,
        ledger: Ledger,
        run: str,
        failures: Failures,
    ) -> None:
        self.hook = hook
        self.case = case
        self.decision = decision
        self.ledger = ledger
        self.run = run
        self.failures = failures
        self.merged: set[str] = set()

    def open(self, findings: Sequence[Finding]) -> list[IncidentRef]:
        since = min(f.detected_at for f in findings) - LOOK_BACK
        refs: dict[str, IncidentRef] = {}
        tried: dict[str, _Tried] = {}
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
                outcome = self._open_one(finding, known.get(marks_.marker(finding.uid), []))
            except VendorError as error:
                self.failures.add(error)
                refs[finding.uid] = self._failed(finding, error)
                continue
            if isinstance(outcome, IncidentRef):
                refs[finding.uid] = outcome
            else:
                tried[finding.uid] = outcome
        if tried:
            self._look_again(since, [f for f in findings if f.uid in tried], tried, refs)
        return [refs[f.uid] for f in findings]

    def _look(self, since: Any) -> dict[str, list[api.IncidentRow]]:
        """Incidents by our mark in their titles, oldest first."""
        found: dict[str, list[api.IncidentRow]] = {}
        for row in self.hook.list_incidents(since):
            if mark := marks_.marker_in(row.title):
                found.setdefault(mark, []).append(row)
        return found

    def _open_one(self, finding: Finding, rows: list[api.IncidentRow]) -> IncidentRef | _Tried:
        mark = marks_.marker(finding.uid)
        if rows:
            return self._settle(finding, rows, IncidentOutcome.EXISTING)
        if not self.hook.writes_allowed:
            return self._ref(finding, IncidentOutcome.PLANNED, detail="would be created")
        if not self.ledger.claims.take(f"incident:{mark}", by=self.run, now=settings.now(), lease=LEASE):
            busy = Unavailable(VENDOR, "create_incident", f"another run is creating {mark} at this moment")
            return _Tried(doubt=busy, sent=False)
        # Another run may have finished between our look and our claim; and an analyst may have changed the title.
        if row := self._remembered(mark):
            return self._settle(finding, [row], IncidentOutcome.EXISTING)
        try:
            created = self.hook.create_incident(self._fields(finding))
        except (Unavailable, Unexpected) as error:
            self.failures.notice(error)
            return _Tried(doubt=error)
        self.failures.recovered()
        return _Tried(created=created)

    def _remembered(self, mark: str) -> api.Incident | None:
        """What the ledger knows is a hint only: the incident must be there and bear our mark."""
        row = self.ledger.incidents.get(mark)
        if row is None or row.unique_id is None:
            return None
        try:
            incident = self.hook.get_incident(row.unique_id)
        except Rejected:
            return None
        return incident if mark in incident.title or mark in (incident.description or "") else None

    def _look_again(
        self, since: Any, findings: list[Finding], tried: Mapping[str, _Tried], refs: dict[str, IncidentRef]
    ) -> None:
        """Read back what was created; find out about what nobody knows; and see whether somebody was faster."""
        known: dict[str, list[api.IncidentRow]] = {}
        blind: VendorError | None = None
        try:
            known = self._look(since)
        except VendorError as error:
            self.failures.add(error)
            blind = error
        for finding in findings:
            attempt, rows = tried[finding.uid], known.get(marks_.marker(finding.uid), [])
            if attempt.doubt and not rows:
                self.failures.errors.append(attempt.doubt)
                refs[finding.uid] = self._failed(finding, attempt.doubt)
                continue
            try:
                if attempt.created and not rows and not blind:
                    rows = [self._alone(attempt.created)]
                ours = attempt.created.unique_id if attempt.created else None
                if rows:
                    kept_is_ours = rows[0].unique_id == ours if ours else attempt.sent
                    outcome = IncidentOutcome.CREATED if kept_is_ours else IncidentOutcome.EXISTING
                    refs[finding.uid] = self._settle(finding, rows, outcome)
                elif attempt.created:  # blind: it exists, and the next try looks whether it is the only one
                    refs[finding.uid] = self._ref(finding, IncidentOutcome.CREATED, attempt.created, detail=str(blind))
            except VendorError as error:
                self.failures.add(error)
                refs[finding.uid] = self._failed(finding, error)

    def _alone(self, created: api.Created) -> api.Incident:
        """What was created and is not in the list, if it exists at all."""
        try:
            return self.hook.get_incident(created.unique_id)
        except Rejected as error:
            raise Unexpected(
                VENDOR, "create_incident", f"accepted, but {created.unique_id} cannot be read: {error.reason}"
            ) from None

    def _settle(self, finding: Finding, rows: list[api.IncidentRow], outcome: IncidentOutcome) -> IncidentRef:
        """Of several incidents of one finding keep the oldest, close the others, remember the one that counts."""
        kept, *others = rows
        tenant, details = self.hook.tenant, []
        if kept.status.lower() == tenant.status_merged:
            self.merged.add(kept.unique_id)
        for other in others:
            name = other.readable_id or other.unique_id
            if other.status.lower() in (tenant.status_closed, tenant.status_merged):
                continue
            if not self.hook.writes_allowed:
                details.append(f"duplicate {name} would be closed")
                continue
            try:
                note = texts.tag("p", f"duplicate of {kept.readable_id or kept.unique_id}")
                self.hook.close_incident(other.unique_id, note)
                details.append(f"duplicate {name} closed")
            except VendorError as error:
                self.failures.add(error)
                details.append(f"duplicate {name} could not be closed: {error}")
        if self.hook.writes_allowed:
            self.ledger.incidents.record(
                marks_.marker(finding.uid),
                finding.uid,
                unique_id=kept.unique_id,
                readable_id=kept.readable_id,
                now=settings.now(),
            )
            self.ledger.claims.release(f"incident:{marks_.marker(finding.uid)}", by=self.run)
        return self._ref(finding, outcome, kept, detail="; ".join(details))

    def _ref(
        self,
        finding: Finding,
        outcome: IncidentOutcome,
        incident: api.IncidentRow | api.Created | None = None,
        *,
        detail: str = "",
    ) -> IncidentRef:
        mark = marks_.marker(finding.uid)
        title = texts.title(finding, self._source(finding), mark)
        if incident is None:
            return IncidentRef(finding_uid=finding.uid, marker=mark, outcome=outcome, title=title, detail=detail)
        return IncidentRef(
            finding_uid=finding.uid,
            marker=mark,
            outcome=outcome,
            title=incident.title if isinstance(incident, api.IncidentRow) else title,
            unique_id=incident.unique_id,
            readable_id=incident.readable_id,
            url=self.hook.page_of(incident.unique_id, incident.readable_id),
            created_at=incident.created if isinstance(incident, api.IncidentRow) else None,
            detail=one_line(detail),
        )

    def _failed(self, finding: Finding, error: VendorError) -> IncidentRef:
        return self._ref(finding, IncidentOutcome.FAILED, detail=str(error))

    def _source(self, finding: Finding) -> str:
        return self.hook.tenant.sources.get(finding.source, finding.source)

    def _fields(self, finding: Finding) -> dict[str, Any]:
        tenant, mark, source = self.hook.tenant, marks_.marker(finding.uid), self._source(finding)
        fields: dict[str, Any] = {
            "title": texts.title(finding, source, mark),
            "description": texts.description(self.case, self.decision, finding, source=source, mark=mark),
            "status": tenant.status_open,
            "level": tenant.levels[finding.severity],
            "ie_incident_type": tenant.incident_types.get(finding.source, tenant.incident_type),
            "sources": source,
            "assigned_group": tenant.assigned_group,
            "detection_date": f"{finding.detected_at:%Y-%m-%dT%H:%M:%S}.{finding.detected_at.microsecond // 1000:03d}Z",
            "labels": tenant.labels_of(finding.source),
        }
        if tenant.phase:
            fields["phase"] = tenant.phase
        attackers = [
            item.observable.value
            for item in texts.observed_in(self.case, finding)
            if item.observable.is_address and Role.ATTACKER in item.roles
        ]
        if attackers:
            fields["source_ip"] = min(attackers)  # the field holds one; the description has them all
        return {**fields, **tenant.extra_fields}

    # --- threat intel ---------------------------------------------------------------------------------------

    def attach(self, findings: Sequence[Finding], refs: Sequence[IncidentRef]) -> list[IncidentRef]:
        """Make sure that each incident is connected with the bad values of its finding."""
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

    def _attach_one(self, finding: Finding, unique_id: str) -> str:
        hook, tenant = self.hook, self.hook.tenant
        wanted = attachable(self.case, self.decision, finding, tenant, settings.gate())
        if not wanted:
            return ""
        before = hook.connected(tenant.incident_component, unique_id)
        present = api.match_values(((c.value, c.unique_id) for c in before if c.value), wanted)
        missing = [o for o in wanted if o.key not in present]
        if not missing:
            return ""
        ids, refused = hook.ensure_iocs(missing)
        for error in refused:
            self.failures.add(error)
        connected = {c.unique_id for c in before}
        groups: dict[str, list[str]] = {}
        for observable in missing:
            ioc_id = ids.get(observable.key)
            if ioc_id and ioc_id not in connected:
                groups.setdefault(api.ioc_key(observable, tenant) or "", []).append(ioc_id)
        if groups:
            hook.link_components({tenant.incident_component: [unique_id], **groups})
            after = {c.unique_id for c in hook.connected(tenant.incident_component, unique_id)}
            lost = {ioc_id for group in groups.values() for ioc_id in group} - after
            if lost:
                raise Unexpected(VENDOR, "link_components", f"{len(lost)} connections were accepted and are not there")
        self.failures.recovered()
        return f"{len(refused)} indicators were refused" if refused else ""


# --- stage 5 ------------------------------------------------------------------------------------------------


class CywareRelateOperator(RespondOperator):
    """
    Older incidents that share an indicator with a new one get its findings as a comment, and a relationship. Stage 5.

    Gives a ``RelationBatch``. Which incidents are related depends on when they were created, not on when this runs,
    so a repeated run finds the same ones, and its own comment and relationship there.

    :param incidents: the ``IncidentBatch`` of ``open_incidents`` (templated)
    """

    template_fields: Sequence[str] = (*RespondOperator.template_fields, "incidents")

    def __init__(self, *, incidents: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.incidents = incidents

    def execute(self, context: Context) -> dict[str, Any]:
        case, decision, pairs = self.read(self.incidents)
        failures, relations = Failures(), list[Relation]()
        relating = _Relating(self.hook(context), settings.ledger(), Run.of(context).name, case, decision, failures)
        for finding, ref in pairs:
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
            for relation in found:
                self.log.info(
                    "incident %s and older %s: %s; they share %s; %s",
                    one_line(ref.readable_id or ref.marker),
                    one_line(relation.related_readable_id or relation.related_id),
                    relation.outcome,
                    one_line(", ".join(o.key for o in relation.shared)),
                    relation.detail or "-",
                )
            if not found:
                self.log.info(
                    "incident %s: no older incident shares an indicator", one_line(ref.readable_id or ref.marker)
                )
        return self.finish(context, RelationBatch(relations=tuple(relations)).to_json(), failures)


class _Relating:
    """One run's relating. Remembers what it read, since an address may be in many incidents."""

    def __init__(
        self, hook: CywareRespondHook, ledger: Ledger, run: str, case: CaseBatch, decision: Decision, failures: Failures
    ) -> None:
        self.hook = hook
        self.ledger = ledger
        self.run = run
        self.case = case
        self.decision = decision
        self.failures = failures
        self._incidents: dict[str, api.Incident | None] = {}
        self._by_ioc: dict[str, set[str]] = {}

    def relate(self, finding: Finding, ref: IncidentRef) -> list[Relation]:
        unique_id = str(ref.unique_id)
        me = self._incident(unique_id)
        if me is None:
            raise Unexpected(VENDOR, "get_incident", f"incident {ref.marker} is not there any more")
        merged = self.hook.tenant.status_merged
        if me.status.lower() == merged:
            return []
        connected = self.hook.connected(self.hook.tenant.incident_component, unique_id)
        shared = self._shared(finding, unique_id, connected)
        limits = settings.policy().related
        oldest = me.created - timedelta(days=limits.days)
        older = [
            row
            for row in (self._incident(other) for other in shared)
            if row is not None
            and oldest <= row.created
            and row.order < me.order
            and row.status.lower() != merged
            and marks_.marker_in(row.title) != ref.marker
        ]
        newest = sorted(older, key=lambda row: row.order, reverse=True)[: limits.maximum_per_incident]
        if not newest:
            return []
        if not self.hook.writes_allowed:
            return [self._relation(me, row, shared[row.unique_id], "planned", "would be related") for row in newest]
        comments = {row.unique_id: self._comment(finding, ref, row, shared[row.unique_id]) for row in newest}
        links = self._link(me, newest, {c.unique_id for c in connected})
        relations = []
        for row in newest:
            problems = [str(e) for e in (comments[row.unique_id], links[row.unique_id]) if e]
            outcome = "failed" if problems else "related"
            relations.append(self._relation(me, row, shared[row.unique_id], outcome, "; ".join(problems)))
        return relations

    def _shared(
        self, finding: Finding, unique_id: str, connected: Sequence[api.Connected]
    ) -> dict[str, tuple[Observable, ...]]:
        """Other incidents, and what they share with this finding's incident: by way of its threat intel records."""
        tenant = self.hook.tenant
        wanted = attachable(self.case, self.decision, finding, tenant, settings.gate())
        keys = {*tenant.ioc_keys.values(), *tenant.hash_keys.values()}
        records = [c for c in connected if c.component in keys]
        ids = api.match_values(((c.value, c.unique_id) for c in records if c.value), wanted)
        if not ids and records and wanted:  # this tenant's connections do not tell the values
            here = {c.unique_id for c in records}
            ids = {key: ioc_id for key, ioc_id in self.hook.find_iocs(wanted).items() if ioc_id in here}
        found: dict[str, list[Observable]] = {}
        for observable in wanted:
            if ioc_id := ids.get(observable.key):
                for other in self._incidents_of(ioc_id) - {unique_id}:
                    found.setdefault(other, []).append(observable)
        return {other: tuple(observables) for other, observables in sorted(found.items())}

    def _incidents_of(self, ioc_id: str) -> set[str]:
        if ioc_id not in self._by_ioc:
            tenant = self.hook.tenant
            ends = self.hook.connected(tenant.ioc_component, ioc_id)
            self._by_ioc[ioc_id] = {c.unique_id for c in ends if c.component == tenant.incident_component}
        return self._by_ioc[ioc_id]

    def _incident(self, unique_id: str) -> api.Incident | None:
        """None for one that our user may not see (protected) or that is gone."""
        if unique_id not in self._incidents:
            try:
                self._incidents[unique_id] = self.hook.get_incident(unique_id)
            except Rejected as error:
                if error.status != 404:
                    raise
                self._incidents[unique_id] = None
        return self._incidents[unique_id]

    def _comment(
        self, finding: Finding, ref: IncidentRef, older: api.Incident, shared: Sequence[Observable]
    ) -> VendorError | None:
        if older.status.lower() == self.hook.tenant.status_closed and not COMMENT_ON_CLOSED:
            return None
        reference = marks_.relation_reference(older.unique_id, str(ref.unique_id))
        markup = texts.related_comment(
            self.case,
            self.decision,
            finding,
            incident=texts.link(ref.readable_id or ref.marker, ref.url),
            shared=shared,
            reference=reference,
        )
        try:
            comment_once(
                self.hook,
                self.ledger,
                self.run,
                older.unique_id,
                markup,
                lambda found: any(reference in c.text for c in found),
            )
        except VendorError as error:
            self.failures.add(error)
            return error
        return None

    def _link(
        self, me: api.Incident, older: Sequence[api.Incident], connected: set[str]
    ) -> dict[str, VendorError | None]:
        """Connect with those not connected yet, and read back once."""
        problems: dict[str, VendorError | None] = dict.fromkeys(row.unique_id for row in older)
        missing = [row.unique_id for row in older if row.unique_id not in connected]
        for other in missing:
            try:
                self.hook.relate(me.unique_id, other)
            except VendorError as error:
                problems[other] = error
        if missing:
            try:
                now = {c.unique_id for c in self.hook.connected(self.hook.tenant.incident_component, me.unique_id)}
            except VendorError as error:
                problems.update({other: problems[other] or error for other in missing})
            else:
                lost = Unexpected(VENDOR, "relate_incidents", "accepted, and not there when read back")
                for other in missing:
                    # An answer may have been lost on its way although the connection was made.
                    problems[other] = None if other in now else problems[other] or lost
        for problem in filter(None, problems.values()):
            self.failures.add(problem)
        return problems

    @staticmethod
    def _relation(
        me: api.Incident, older: api.Incident, shared: tuple[Observable, ...], outcome: str, detail: str
    ) -> Relation:
        return Relation(
            incident_id=me.unique_id,
            related_id=older.unique_id,
            related_readable_id=older.readable_id,
            shared=shared,
            outcome=outcome,
            detail=one_line(detail),
        )


# --- stage 9 ------------------------------------------------------------------------------------------------


class CywareUpdateIncidentsOperator(RespondOperator):
    """
    Each incident tells what was found, what was done where, what failed, what is pending and what was refused.
    Stage 9. Runs even when other stages failed.

    The comment bears a mark made of the state that it tells. A repeated run with the same state adds none, a changed
    state adds one.

    :param incidents: the ``IncidentBatch`` of ``open_incidents`` (templated)
    :param relations: the ``RelationBatch``, or None where that stage gave none (templated)
    :param actions: ``ActionBatch`` by control; None for one that gave none, which the incident then says (templated)
    :return: per incident what became of its comment and labels
    """

    template_fields: Sequence[str] = (
        *RespondOperator.template_fields,
        "incidents",
        "relations",
        "actions",
    )

    def __init__(self, *, incidents: Any, relations: Any = None, actions: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.incidents = incidents
        self.relations = relations
        self.actions = actions

    def execute(self, context: Context) -> dict[str, Any]:
        case, decision, pairs = self.read(self.incidents)
        given = dict(self.actions or {})
        batches = [ActionBatch.model_validate(b) for b in given.values() if b is not None]
        absent = sorted(name for name, batch in given.items() if batch is None)
        related = RelationBatch.model_validate(self.relations).relations if self.relations is not None else ()
        hook, failures, ledger, run = self.hook(context), Failures(), settings.ledger(), Run.of(context).name
        updates = []
        for finding, ref in pairs:
            unique_id = str(ref.unique_id)
            actions = texts.actions_of(case, finding, batches)
            reference = texts.state_reference(case, decision, finding, actions)
            markup = texts.state_report(
                case,
                decision,
                finding,
                actions=actions,
                relations=[r for r in related if r.incident_id == unique_id],
                skipped=absent,
                run=run,
                run_url=Run.of(context).url,
                at=settings.now(),
                reference=reference,
            )
            if not hook.writes_allowed:
                self.log.info("would be added as a comment:\n%s", clean.render_text(markup))
            update = {"incident": ref.readable_id or unique_id, "unique_id": unique_id, "reference": reference}
            update["outcome"] = self._update(
                hook,
                unique_id,
                actions,
                failures,
                partial(comment_once, hook, ledger, run, unique_id, markup),
                reference,
            )
            self.log.info(
                "incident %s: %s; state %s; %s",
                one_line(update["incident"]),
                update["outcome"],
                reference,
                ref.url or "no link",
            )
            updates.append(update)
        return self.finish(context, {"schema_version": SCHEMA_VERSION, "updates": updates}, failures)

    def _update(
        self,
        hook: CywareRespondHook,
        unique_id: str,
        actions: Sequence[Action],
        failures: Failures,
        comment: Callable[[Callable[[list[api.Comment]], bool]], bool],
        reference: str,
    ) -> str:
        try:
            if failures.stopped_by:
                raise failures.stopped_by
            incident = hook.get_incident(unique_id)
            if incident.status.lower() == hook.tenant.status_merged:
                return "passed over: merged by an analyst, so it is read-only"
            if not hook.writes_allowed:
                return "planned: a comment would be added"
            added = comment(lambda found: tells(found, reference))
            labels = wanted_labels(incident.labels, actions, hook.tenant)
            if labels != incident.labels:
                hook.update_incident(unique_id, {"labels": labels})
        except VendorError as error:
            failures.add(error)
            return f"failed: {error}"
        failures.recovered()
        told = "comment added" if added else "comment is there already"
        return told if labels == incident.labels else f"{told}, labels now {one_line(', '.join(labels))}"


def tells(comments: Iterable[api.Comment], reference: str) -> bool:
    """
    Whether the latest state report is this one. A state that returns after another one is news again; where the
    tenant's comments have no time, any report of this state counts.
    """
    reports = [(c.created, marks[-1]) for c in comments if (marks := marks_.STATE_REFERENCE.findall(c.text))]
    times = [created for created, _ in reports if created is not None]
    if len(times) < len(reports):
        return any(mark == reference for _, mark in reports)
    return any(mark == reference for created, mark in reports if created == max(times))


def wanted_labels(current: Sequence[str], actions: Sequence[Action], tenant: Tenant) -> list[str]:
    """
    The incident's labels with ours. Read, united and written whole, since a PUT may replace them. "Pending" is
    taken off again once nothing is: it would be untrue.
    """
    outcomes = {action.outcome for action in actions}
    labels = list(current)
    for label, holds in (
        (tenant.label_blocked, Outcome.BLOCKED in outcomes),
        (tenant.label_pending, Outcome.PENDING in outcomes),
    ):
        if holds and label not in labels:
            labels.append(label)
    if Outcome.PENDING not in outcomes:
        labels = [label for label in labels if label != tenant.label_pending]
    return labels
