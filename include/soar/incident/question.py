"""TODO: what question is."""

from __future__ import annotations

import re
from datetime import timedelta

from include.soar.incident.clean import ROWS, clean, defang, when
from include.soar.model import (
    Decision,
)

#: Where a person answers: the id of the DAG's task that asks.
APPROVAL_TASK = "approve_blocks"
#: What has a meaning in Markdown. A backslash takes it away from any punctuation (CommonMark, section 2.4).
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|&~^$])")


def _markdown(text: object) -> str:
    return _MARKDOWN.sub(r"\\\1", clean(text))


def question(decision: Decision, *, wait: timedelta) -> tuple[str, str]:
    """
    What a person is asked when a run has stopped before blocking: the subject, and the rest in Markdown.

    :param wait: how long the run waits for the answer
    """
    held, hours = decision.held, wait.total_seconds() / 3600
    lines = [
        f"The run has stopped before blocking: **{len(held)} indicators** wait. Nothing of them is blocked or watched"
        " yet; the incidents are open and say so.",
        "",
        *(f"- {_markdown(reason)}" for reason in decision.hold_reasons),
        "",
        f"**Approve** acts on all {len(held)}, **Reject** on none. Without an answer within {hours:g} hours none is"
        " acted on, and the run ends red.",
        "",
        "| Observable | Seen as | Confidence | Until | Events |",
        "|---|---|---|---|---|",
    ]
    for indicator in sorted(held, key=lambda i: (-i.confidence, i.observable.key))[:ROWS]:
        cells = (
            defang(indicator.observable),
            ", ".join(role.value for role in indicator.roles),
            indicator.confidence,
            when(indicator.expires_at),
            len(indicator.finding_uids),
        )
        lines.append(f"| {' | '.join(map(_markdown, cells))} |")
    if len(held) > ROWS:
        lines += ["", f"and {len(held) - ROWS} more"]
    return f"Block {len(held)} indicators? A cap is exceeded", "\n".join(lines)
