"""
### Reconcile blocks

Every hour, and whenever it is triggered, at each control: what it really holds of ours against what the ledger says.

| What is found | What is done |
|---|---|
| ours, past its end, still there | removed |
| ours, and protected by now (policy, or an entry of `allow_value`) | removed |
| ours, and the ledger does not know it (it was lost) | written down again with its end |
| ours, there, and not in force (an activation failed) | brought into force |
| in force by the ledger, and gone or changed before its end | a person did that: respected, and told in the incident |
| not ours | never touched |

After it the ledger and the controls say the same. A control whose connection is absent, or that the policy switches off
(`response.switched_off`), is skipped.

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
        description_md="**apply** brings them in line, **plan** only shows what it would do.",
    ),
}


@dag(
    # Not at the full hour, when the runs of the response begin.
    schedule=CronTriggerTimetable("37 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    # It never adds what was not decided before: nobody should have to remember to switch it on (docs/decisions/0023).
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(hours=1),
    default_args={
        "owner": "soc",
        "retries": 3,
        "retry_delay": timedelta(seconds=5),
        "retry_policy": VendorRetryPolicy(),
        "execution_timeout": timedelta(minutes=30),
    },
    params=PARAMS,
    render_template_as_native_obj=True,
    tags=["threat-response", "in-force"],
    doc_md=__doc__,
)
def reconcile_blocks() -> None:
    changed = reconcile_all(only_expired=False)
    TellIncidents(task_id="tell_incidents", vendor=INCIDENT_SYSTEM, actions=changed)
    fail_the_run()


reconcile_blocks()
