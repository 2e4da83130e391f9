"""
### Lift expired blocks

Every 15 minutes, at each control: what the ledger says has ended, or what the control holds of ours past its end, is
removed, read back as absent, written down in the ledger, and told in the incidents concerned. What is not ours, or
what a person has changed since, is not touched. A removal that a person wanted and that did not get through is
finished, too.

A control whose connection is absent, or that the policy switches off (`response.switched_off`), is skipped.

Runbook: `docs/runbook.md`, *What is in force*.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, Param, dag

from threat_response.groups import INCIDENT_SYSTEM, fail_the_run, reconcile_all
from threat_response.stages.in_force.tell import TellIncidents
from threat_response.transport.retry import VendorRetryPolicy

PARAMS = {
    "effects": Param(
        "apply",
        title="Effects",
        enum=["apply", "plan"],
        description_md="**apply** removes what has ended, **plan** only shows what it would do.",
    ),
}


@dag(
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    # It only takes away what was to end anyhow: nobody should have to remember to switch it on (docs/decisions/0023).
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(hours=1),
    default_args={
        "owner": "soc",
        "retries": 3,
        "retry_delay": timedelta(seconds=5),
        "retry_policy": VendorRetryPolicy(),
        "execution_timeout": timedelta(minutes=15),
    },
    params=PARAMS,
    render_template_as_native_obj=True,
    tags=["threat-response", "in-force"],
    doc_md=__doc__,
)
def lift_expired_blocks() -> None:
    ended = reconcile_all(only_expired=True)
    TellIncidents(task_id="tell_incidents", vendor=INCIDENT_SYSTEM, actions=ended)
    fail_the_run()


lift_expired_blocks()
