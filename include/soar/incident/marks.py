"""Short tokens in titles and comments, by which a repeated run finds what an earlier one wrote.

They are in live tenants: a token that is made differently makes a second incident or a second comment.
"""

from __future__ import annotations

import re

from include.soar.model import own_id

#: An incident's, at the end of its title; and a state report's, in its text.
MARKER = re.compile(r"\[(TR-[0-9a-f]{16})\]")
STATE_REFERENCE = re.compile(r"\bTR-S-[0-9a-f]{16}\b")


def marker(finding_uid: str) -> str:
    """The mark of a finding's incident: ``TR-`` and 16 hexadecimal digits."""
    return "TR-" + _short(own_id("incident", finding_uid))


def relation_reference(older_id: str, newer_id: str) -> str:
    """The mark of the comment on the older incident about the newer one."""
    return "TR-R-" + _short(own_id("relation", older_id, newer_id))


def marker_in(title_text: str) -> str | None:
    """The mark in an incident's title. The last one counts: ours comes after all foreign text."""
    marks = MARKER.findall(title_text)
    return marks[-1] if marks else None


def _short(uid: str) -> str:
    return uid.replace("-", "")[:16]
