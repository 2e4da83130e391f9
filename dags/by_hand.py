"""
What a person does by hand, as three trigger forms: lift a block, block a value, allow a value.

Each goes the way of a run: the never-block gate, the plan, the proof that reads back, the incident. Who filled in the
form is in the ledger and in every incident concerned. The same as commands: `airflow threat-response lift`, `block`,
`allow` (`docs/runbook.md`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag

from threat_response.groups import INCIDENT_SYSTEM, act, controls, fail_the_run, lift_all
from threat_response.stages.in_force.asked import AskedAllow, AskedLift
from threat_response.stages.in_force.block import AskedBlock, OpenIncidentByHand
from threat_response.stages.in_force.tell import TellIncidents
from threat_response.stages.plan_blocks import PlanBlocks
from threat_response.stages.update_incidents import UpdateIncidents
from threat_response.transport.retry import VendorRetryPolicy

#: Without a default the form does not let it through empty.
VALUE = Param(
    title="Value",
    type="string",
    minLength=1,
    maxLength=4096,
    description_md="An address, network, domain name, URL, e-mail address or file hash; defanged or not.",
)
REASON = Param(
    title="Reason",
    type="string",
    minLength=3,
    maxLength=300,
    description_md="For the ledger and the incidents: whoever reads it later was not there.",
)

#: Of the three DAGs.
BY_HAND: dict[str, Any] = {
    "catchup": False,
    # Two people at once do not wait for each other; at each control a claim keeps them apart.
    "max_active_runs": 16,
    # A form that is paused does nothing, and says so nowhere.
    "is_paused_upon_creation": False,
    "dagrun_timeout": timedelta(hours=3),
    "default_args": {
        "owner": "soc",
        "retries": 6,
        "retry_delay": timedelta(seconds=5),
        "retry_policy": VendorRetryPolicy(),
        "execution_timeout": timedelta(minutes=30),
    },
    "render_template_as_native_obj": True,
    "tags": ["threat-response", "by-hand"],
}


@dag(params={"value": VALUE, "reason": REASON}, schedule=None, **BY_HAND)
def lift_block() -> None:
    """
    ### Lift a block

    At every control where the ledger or the control itself has the value as ours, also at one that the policy switches
    off. Removed, read back, told in the incidents concerned, and remembered: no run blocks it again until it is seen
    again. What is not ours, or what a person has changed since, stays, and the task says so.
    """
    asked = AskedLift(task_id="asked").output
    lifted = lift_all(asked)
    TellIncidents(task_id="tell_incidents", vendor=INCIDENT_SYSTEM, actions=lifted, asked=asked)
    fail_the_run()


@dag(
    params={
        "value": VALUE,
        "hours": Param(
            4,
            title="Hours",
            type="number",
            exclusiveMinimum=0,
            maximum=720,
            description_md="After so long it is lifted. There is no block without an end.",
        ),
        "rung": Param(
            None,
            title="How far",
            type=["null", "string"],
            enum=[None, "watch", "detect", "block_short", "block_long"],
            description_md="Empty: a block. **watch**: the SIEM reports it; **detect**: the EDR, too.",
        ),
        "reason": REASON,
    },
    schedule=None,
    **BY_HAND,
)
def block_by_hand() -> None:
    """
    ### Block by hand

    Refused where the never-block gate protects the value, and the refusal names the layer: no parameter overrules it.
    Otherwise planned, written, read back and told as in a run, in the incidents that tell of the value already or in
    one of its own.
    """
    asked = AskedBlock(task_id="asked").output
    work = {"vendor": INCIDENT_SYSTEM, "case": asked["case"]}
    incidents = OpenIncidentByHand(task_id="open_incidents", decision=asked, **work).output
    decision = PlanBlocks(task_id="plan_blocks", decision=asked, controls=controls()).output
    actions = act(decision, incidents)
    UpdateIncidents(task_id="update_incidents", decision=decision, incidents=incidents, actions=actions, **work)
    fail_the_run()


@dag(
    params={
        "value": VALUE,
        "until": Param(
            title="Until",
            type="string",
            minLength=10,
            description_md="A day, which counts to its end (UTC), or a time with its zone: 2026-01-31T08:00Z.",
        ),
        "owner": Param(
            "", title="Owner", type="string", description_md="Who answers for it. Empty: who triggers this."
        ),
        "reason": REASON,
    },
    schedule=None,
    **BY_HAND,
)
def allow_value() -> None:
    """
    ### Allow a value

    Beside the policy's `never_block.allow`, at once and until its end: no run blocks it, and what is in force of it is
    lifted now and told in the incidents concerned. Kept in the ledger with who did it.
    """
    asked = AskedAllow(task_id="asked").output
    lifted = lift_all(asked)
    TellIncidents(task_id="tell_incidents", vendor=INCIDENT_SYSTEM, actions=lifted, asked=asked)
    fail_the_run()


lift_block()
block_by_hand()
allow_value()
