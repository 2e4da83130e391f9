"""The question whether to block, when a run would block more than its caps allow."""

from __future__ import annotations

from datetime import timedelta

from include.soar.incident import views
from include.soar.incident.clean import ROWS, clean, defang, when
from include.soar.model import Decision

#: Where a person answers: the id of the DAG's task that asks.
APPROVAL_TASK = "approve_blocks"


def question(decision: Decision, *, wait: timedelta, templates: views.Templates = views.SHIPPED) -> tuple[str, str]:
    """
    What a person is asked when a run has stopped before blocking: the subject, and the rest in Markdown.

    :param wait: how long the run waits for the answer
    """
    held = sorted(decision.held, key=lambda i: (-i.confidence, i.observable.key))
    rows = tuple(
        views.QuestionRow(
            value=defang(indicator.observable),
            roles=", ".join(role.value for role in indicator.roles),
            confidence=indicator.confidence,
            until=when(indicator.expires_at),
            events=len(indicator.finding_uids),
        )
        for indicator in held[:ROWS]
    )
    view = views.Question(
        number=len(held),
        hours=f"{wait.total_seconds() / 3600:g}",
        because=tuple(map(clean, decision.hold_reasons)),
        held=views.Rows(rows, more=max(0, len(held) - ROWS)),
    )
    return f"Block {len(held)} indicators? A cap is exceeded", templates.text(view)
