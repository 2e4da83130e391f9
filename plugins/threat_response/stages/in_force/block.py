"""A block by hand: refused where the gate protects the value, and told in an incident like any other."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from include.soar.in_force.by_hand import LONGEST, Wish, case_of, decision_of
from include.soar.incident import marks
from include.soar.model import CaseBatch, IncidentBatch, IncidentOutcome, IncidentRef, Rung
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator
from threat_response.stages.in_force.asked import CannotDo, reason_of, value_of, who
from threat_response.stages.open_incidents import OpenIncidents

if TYPE_CHECKING:
    from include.soar.ledger import Ledger
    from threat_response.stages.incident_system import IncidentWork


def wish_of(run: Run) -> Wish:
    """
    What the run's parameters ask for: ``value``, ``hours``, ``rung``, ``reason``.

    :raises CannotDo: naming the parameter that is wrong, or the layer of the gate that protects the value
    """
    params = run.params
    observable, reason = value_of(str(params.get("value") or "")), reason_of(params.get("reason"))
    try:
        duration = timedelta(hours=float(params.get("hours") or 0))
        rung = Rung(params["rung"]) if params.get("rung") else None
    except (ValueError, OverflowError) as error:
        raise CannotDo(one_line(error)) from None
    if not timedelta() < duration <= LONGEST:
        raise CannotDo(f"it must end, after more than nothing and at most {LONGEST.days} days")
    now = settings.now()
    if hit := settings.gate(now).check(observable):
        raise CannotDo(
            f"refused: the layer {hit.layer} of the never-block gate protects {one_line(observable.value, 100)}: "
            f"{one_line(hit.reason)}. Nobody can overrule it but by changing the policy or ending the entry"
        )
    return Wish(observable, duration, who(run), reason, run.started_at or now, rung)


class AskedBlock(StageOperator):
    """
    Read the trigger form of ``block_by_hand``. Gives the ``Decision``, and under the key ``case`` the ``CaseBatch``.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        try:
            wish = wish_of(Run.of(context))
        except CannotDo as problem:
            raise AirflowFailException(str(problem)) from None
        self.log.info(
            "%s wants %s: %s until %s: %s",
            wish.by,
            one_line(wish.observable.key),
            wish.highest.value,
            f"{wish.ends_at:%Y-%m-%d %H:%M} UTC",
            wish.reason,
        )
        context["ti"].xcom_push(key="case", value=case_of(wish).to_json())
        return decision_of(wish, settings.policy().digest).to_json()


class OpenIncidentByHand(OpenIncidents):
    """
    The incidents that tell of what is in force of the value already; where there are none, one of its own. Gives an
    ``IncidentBatch``.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        with self.work(context) as work:
            refs = self._known(work)
        if not refs:
            return super().execute(context)
        for ref in refs:
            self.log.info("incident %s tells of it already; %s", one_line(ref.readable_id or ref.unique_id), ref.url)
        return IncidentBatch(incidents=tuple(refs)).to_json()

    @staticmethod
    def _known(work: IncidentWork) -> list[IncidentRef]:
        [finding] = work.case.findings
        refs = []
        for id in incidents_in_force(work.ledger, work.case):
            case = work.system.get(id)
            if case is not None:
                refs.append(
                    IncidentRef(
                        finding_uid=finding.uid,
                        marker=marks.marker_in(case.title) or marks.marker(finding.uid),
                        outcome=IncidentOutcome.EXISTING,
                        title=case.title,
                        unique_id=case.id,
                        readable_id=case.readable_id,
                        url=work.system.page(case),
                        created_at=case.created_at,
                    )
                )
        return refs


def incidents_in_force(ledger: Ledger, case: CaseBatch) -> list[str]:
    """The product's ids of the incidents that tell of what is in force of the case's values."""
    keys = {item.observable.key for item in case.observed}
    rows = ledger.actions.rows_in_force(settings.now())
    names = {name for row in rows if row.key in keys for name in row.incidents}
    known = ledger.incidents.named(sorted(names))
    return sorted({known.get(name, name) for name in names})
