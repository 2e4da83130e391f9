"""
### API threat response

Akamai events in, incidents and blocks out. The nine stages of the runbook, in its order:

| # | Task | What it does |
|---|---|---|
| 1 | `fetch` | every finding of the window, once, from each Akamai source |
| 2 | `extract` | addresses, domains, URLs, e-mail addresses and file hashes, with where each was seen |
| 3 | `enrich` | what the reputation sources say; `decide` makes one verdict of it, and the plan |
| 4 | `open_incidents` | one Cyware Respond incident per high-priority finding, ever |
| | `plan_blocks` | what would change at each control, as a diff; `effects` = `plan` ends here |
| 5 | `relate` | older incidents that share an indicator get the new findings and a relationship |
| 6 | `block.waf` | attackers' addresses on the Akamai client list, until the environment says *active* |
| 7 | `block.edr` | indicators on CrowdStrike Falcon: hashes prevented, addresses and domains detected |
| 8 | `watch` | every indicator on the Splunk watchlist |
| 9 | `update_incidents` | the incident tells what was done where, what failed and what is pending |
| | `approve_blocks` | asks a person about each value that is held; the others do not wait for it |
| | `approved` | stages 6 to 9 once more, for what that person has approved |

An optional stage whose connection is absent is skipped. A stage that failed turns the run red, and the incident is
updated all the same. **A backfill only plans its blocks** unless it is given `{"effects": "apply"}`: yesterday's
address may be someone else's today. What its questions to the reputation sources would cost:
`make plan-enrichment FROM=… TO=…`.

Runbook: `docs/runbook.md`. Vendors: `plugins/threat_response/registry.py`. Thresholds, and what is never
blocked: `include/config/policy.yaml`.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import CronDataIntervalTimetable, Param, TaskGroup, dag

from threat_response.groups import INCIDENT_SYSTEM, act, block_all, controls, each, enrich_all, fail_the_run, fetch_all
from threat_response.stages.approve_blocks import APPROVED, ApproveBlocks
from threat_response.stages.decide import Decide
from threat_response.stages.extract import Extract
from threat_response.stages.open_incidents import OpenIncidents
from threat_response.stages.plan_blocks import PlanBlocks
from threat_response.stages.relate import Relate
from threat_response.stages.update_incidents import UpdateIncidents
from threat_response.transport.retry import VendorRetryPolicy

PARAMS = {
    "effects": Param(
        "auto",
        title="Effects",
        enum=["auto", "apply", "plan"],
        description_md="**apply** writes outside, **plan** only shows what it would do. "
        "**auto** applies, except that a backfill only plans its blocks.",
    ),
    "minimum_severity": Param(
        None,
        title="Minimum severity",
        type=["null", "string"],
        enum=[None, "informational", "low", "medium", "high", "critical"],
        description_md="A finding becomes an incident from here upwards. Empty or null: as the policy says.",
    ),
    "answers": Param(
        "fresh",
        title="Answers of the reputation sources",
        enum=["fresh", "frozen"],
        description_md="**fresh** asks, **frozen** takes what was known when the window was first decided, and asks "
        "nobody. What a window or a backfill would cost: `make plan-enrichment FROM=… TO=…` (runbook, *Before a "
        "backfill*).",
    ),
    "window_start": Param(
        None,
        title="Window start",
        type=["null", "string"],
        format="date-time",
        section="Explicit window",
        description_md="With an offset, e.g. 2026-01-31T08:00:00Z. Both or neither; both override the data interval. "
        "Only for a single run: in a backfill each run reads its own hour, and refuses another.",
    ),
    "window_end": Param(
        None,
        title="Window end",
        type=["null", "string"],
        format="date-time",
        section="Explicit window",
        description_md="Not part of the window itself.",
    ),
    "lookback_minutes": Param(
        60,
        title="Look-back in minutes",
        type="integer",
        minimum=1,
        maximum=43200,
        section="Explicit window",
        description_md="Only for a run without a logical date and without an explicit window.",
    ),
}


@dag(
    # Not a cron string: that would give empty data intervals (docs/decisions/0003).
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    # A run that waits for a person must not keep the next hours from being read. Enough places for one that waits in
    # every hour of the longest wait; runs that overlap do not harm each other (docs/decisions/0015).
    max_active_runs=32,
    # A day of waiting for a person and six hours of work: a run that hangs ends before the 32 places are taken.
    dagrun_timeout=timedelta(hours=30),
    default_args={
        "owner": "soc",
        "retries": 6,
        # After an error the policy decides; this is for a task that died without one.
        "retry_delay": timedelta(seconds=5),
        "retry_policy": VendorRetryPolicy(),
        # For one try, which is then tried again: the longest that a vendor's slow pages or a quota may take. What a
        # sensor or a question waits in between is not part of it (docs/runbook.md, "Nothing runs for ever").
        "execution_timeout": timedelta(hours=1),
    },
    params=PARAMS,
    render_template_as_native_obj=True,
    tags=["threat-response", "akamai", "cyware"],
    doc_md=__doc__,
)
def api_threat_response() -> None:
    findings = fetch_all()  # 1
    case = Extract(task_id="extract", batches=findings).output  # 2
    answers = enrich_all(case)  # 3
    decision = Decide(task_id="decide", case=case, answers=answers).output
    work = {"vendor": INCIDENT_SYSTEM, "case": case}
    incidents = OpenIncidents(task_id="open_incidents", decision=decision, **work).output  # 4
    relations = Relate(task_id="relate", decision=decision, incidents=incidents, **work).output  # 5
    plan = PlanBlocks(task_id="plan_blocks", decision=decision, controls=controls()).output
    actions = block_all(plan, incidents) | each("watch", decision=plan, incidents=incidents)  # 6 7 8
    told = {"decision": plan, "incidents": incidents, "relations": relations, "actions": actions, **work}
    updated = UpdateIncidents(task_id="update_incidents", **told)  # 9
    approved = ApproveBlocks(task_id="approve_blocks", decision=plan, incidents=incidents).output
    with TaskGroup(APPROVED):  # 6 to 9 of what was held, once a person has answered
        later = act(approved, incidents)
        updated >> UpdateIncidents(task_id="update_incidents", approved=approved, approved_actions=later, **told)
    fail_the_run()


api_threat_response()
