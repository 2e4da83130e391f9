"""The free labels of a provider's answer, of which an answer keeps few and short ones: they are shown and stored."""

from __future__ import annotations

from collections.abc import Iterable

from include.soar.vendor.errors import one_line

MOST_TAGS, LONGEST_TAG = 20, 60


def distinct(labels: Iterable[str | None]) -> tuple[str, ...]:
    """The first of them, each once and on one line; where there are too many, the last ones are left out."""
    lines = (one_line(label, LONGEST_TAG) for label in labels if label)
    return tuple(dict.fromkeys(filter(None, lines)))[:MOST_TAGS]
