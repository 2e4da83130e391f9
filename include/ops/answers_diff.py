"""What the sources say now and did not say then: the difference between a frozen and a fresh replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from include.ops.text import safe, when
from include.soar.model import Reputation


def render(changes: Sequence[tuple[Reputation | None, Reputation]]) -> str:
    """
    A line for each value about which a source changed its mind, and how many were not known at all before.

    :param changes: what was known before (None: nothing), and after
    """
    lines, new, same = [], Counter[str](), 0
    for before, after in changes:
        if before is None:
            new[after.provider] += 1
        elif (before.answer, before.score) == (after.answer, after.score):
            same += 1
        else:
            value = safe(after.observable.value)
            lines.append(
                f"{after.provider}: {after.observable.type.value} {value}: {_words(before)} -> {_words(after)}"
            )
            lines += [f"    {safe(one.summary)}" for one in (before, after) if one.summary]
    counts = ", ".join(f"{count} by {provider}" for provider, count in sorted(new.items())) or "none"
    return "\n".join(
        [*lines, f"{len(changes) - sum(new.values()) - same} changed, {same} asked again and the same, new: {counts}"]
    )


def _words(reputation: Reputation) -> str:
    return f"{reputation.answer.value} {reputation.score} ({when(reputation.known_at)})"
