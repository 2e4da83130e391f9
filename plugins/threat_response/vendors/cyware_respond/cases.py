"""Cyware Respond as the incident system of stages 4, 5 and 9; the protocol is in ``stages/incident_system.py``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from include.soar.model import Observable
from include.soar.vendor.errors import Rejected
from threat_response.stages.incident_system import Case, CaseId, Comment, Draft, IncidentSystem, State, Words
from threat_response.vendors.cyware_respond import api
from threat_response.vendors.cyware_respond.hook import CywareRespondHook
from threat_response.vendors.cyware_respond.tenant import VENDOR, Tenant


def cases(conn_id: str, *, writes_allowed: bool) -> IncidentSystem:
    return RespondCases(CywareRespondHook(conn_id, writes_allowed=writes_allowed))


class RespondCases:
    """
    Respond's threat intel is a record per value, connected with incidents by *Connect the Dots*. So "attached" means
    connected with the value's record, and what an incident shares with another is found by way of these records.
    """

    name = VENDOR

    def __init__(self, hook: CywareRespondHook) -> None:
        self.hook = hook
        self.writes_allowed = hook.writes_allowed
        #: Ids of threat intel records by observable key.
        self._records: dict[str, str] = {}
        #: What each component and id is connected with, until we change it: an address may be in many incidents.
        self._ends: dict[tuple[str, str], list[api.Connected]] = {}

    @property
    def tenant(self) -> Tenant:
        return self.hook.tenant

    @cached_property
    def words(self) -> Words:
        tenant = self.tenant
        return Words(tenant.label_blocked, tenant.label_pending, tenant.sources, opened=tenant.labels)

    # --- incidents ------------------------------------------------------------------------------------------

    def created_since(self, at: datetime) -> list[Case]:
        return [self._case(row) for row in self.hook.list_incidents(at)]

    def get(self, id: str) -> Case | None:
        try:
            return self._case(self.hook.get_incident(id))
        except Rejected as error:
            if error.status != 404:
                raise
            return None

    def _case(self, row: api.IncidentRow) -> Case:
        states = {self.tenant.status_closed: State.CLOSED, self.tenant.status_merged: State.MERGED}
        whole = row if isinstance(row, api.Incident) else None
        return Case(
            id=row.unique_id,
            readable_id=row.readable_id,
            title=row.title,
            created_at=row.created,
            state=states.get(row.status.lower(), State.OPEN),
            description=whole.description if whole else None,
            labels=tuple(whole.labels) if whole else (),
        )

    def create(self, draft: Draft) -> CaseId:
        created = self.hook.create_incident(self._fields(draft))
        return CaseId(created.unique_id, created.readable_id)

    def _fields(self, draft: Draft) -> dict[str, Any]:
        """By the names of the tenant's form."""
        tenant, finding, at = self.tenant, draft.finding, draft.finding.detected_at
        fields: dict[str, Any] = {
            "title": draft.title,
            "description": draft.description,
            "status": tenant.status_open,
            "level": tenant.levels[finding.severity],
            "ie_incident_type": tenant.incident_types.get(finding.source, tenant.incident_type),
            "sources": tenant.source_of(finding.source),
            "assigned_group": tenant.assigned_group,
            "detection_date": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
            "labels": tenant.labels_of(finding.source),
        }
        if tenant.phase:
            fields["phase"] = tenant.phase
        if draft.attackers:
            fields["source_ip"] = draft.attackers[0]  # the field holds one; the description has them all
        return {**fields, **tenant.extra_fields}

    def close_as_duplicate(self, case: Case, of: Case, note: str) -> None:
        self.hook.close_incident(case.id, note)

    def comments(self, id: str) -> list[Comment]:
        return [Comment(text=c.text, created_at=c.created) for c in self.hook.comments(id)]

    def comment(self, id: str, markup: str) -> None:
        self.hook.add_comment(id, markup)

    def label(self, id: str, labels: Sequence[str]) -> None:
        self.hook.update_incident(id, {"labels": list(labels)})

    def page(self, case: CaseId) -> str | None:
        return self.hook.page_of(case.id, case.readable_id)

    # --- threat intel and connections -----------------------------------------------------------------------

    def can_attach(self, observable: Observable) -> bool:
        return api.ioc_key(observable, self.tenant) is not None

    def attached(self, id: str, observables: Sequence[Observable]) -> set[str]:
        return set(self._attached(id, observables))

    def _attached(self, id: str, observables: Sequence[Observable]) -> dict[str, str]:
        """Ids of the threat intel records that an incident is connected with, by observable key."""
        keys = {*self.tenant.ioc_keys.values(), *self.tenant.hash_keys.values()}
        ends = [c for c in self._connected(self.tenant.incident_component, id) if c.component in keys]
        found = api.match_values(((c.value, c.unique_id) for c in ends if c.value), observables)
        if any(c.value is None for c in ends):  # this tenant's connections do not tell the values
            here = {c.unique_id for c in ends}
            records = self._find([o for o in observables if o.key not in found])
            found.update({key: record for key, record in records.items() if record in here})
        return found

    def _find(self, observables: Sequence[Observable]) -> dict[str, str]:
        """Threat intel records of these values. Reads the whole list at worst, and no value's twice."""
        self._records.update(self.hook.find_iocs([o for o in observables if o.key not in self._records]))
        return {o.key: self._records[o.key] for o in observables if o.key in self._records}

    def attach(self, id: str, observables: Sequence[Observable]) -> dict[str, Rejected]:
        records, refused = self.hook.ensure_iocs(observables)
        self._records.update(records)
        groups: dict[str, list[str]] = {}
        for observable in observables:
            if record := records.get(observable.key):
                groups.setdefault(api.ioc_key(observable, self.tenant) or "", []).append(record)
        if groups:
            self._ends.clear()
            self.hook.link_components({self.tenant.incident_component: [id], **groups})
        return refused

    def sharing(self, id: str, observables: Sequence[Observable]) -> dict[str, tuple[Observable, ...]]:
        records = self._attached(id, observables)
        found: dict[str, list[Observable]] = {}
        for observable in observables:
            if record := records.get(observable.key):
                for other in self._linked(self.tenant.ioc_component, record) - {id}:
                    found.setdefault(other, []).append(observable)
        return {other: tuple(shared) for other, shared in sorted(found.items())}

    def linked(self, id: str) -> set[str]:
        return self._linked(self.tenant.incident_component, id)

    def _linked(self, component: str, id: str) -> set[str]:
        ends = self._connected(component, id)
        return {c.unique_id for c in ends if c.component == self.tenant.incident_component}

    def link(self, id: str, other: str) -> None:
        # Before the write, since its answer may be lost.
        for incident in (id, other):
            self._ends.pop((self.tenant.incident_component, incident), None)
        self.hook.relate(id, other)

    def _connected(self, component: str, id: str) -> list[api.Connected]:
        if (component, id) not in self._ends:
            self._ends[component, id] = self.hook.connected(component, id)
        return self._ends[component, id]
