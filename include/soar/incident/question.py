"""The question whether to block, when a run would block more than its caps allow."""

from __future__ import annotations

from datetime import timedelta

from include.soar.incident.inputs import SHIPPED, Templates
from include.soar.model import Decision

#: Where a person answers: the id of the DAG's task that asks.
APPROVAL_TASK = "approve_blocks"


def question(decision: Decision, *, wait: timedelta, templates: Templates = SHIPPED) -> tuple[str, str]:
    """
    What a person is asked when a run has stopped before blocking: the subject, and the rest in Markdown.

    :param wait: how long the run waits for the answer
    """
    from include.soar.incident import gather  # when it is asked, not when the DAG is read

    body = templates.text(gather.question(decision, wait.total_seconds() / 3600))
    return f"Block {len(decision.held)} indicators? A cap is exceeded", body
