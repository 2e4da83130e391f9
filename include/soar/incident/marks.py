"""Short tokens in titles and comments, by which a repeated run finds what an earlier one wrote.

They are in live tenants: a token that is made differently makes a second incident or a second comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from include.soar.model import own_id

#: An incident's, at the end of its title.
MARKER = re.compile(r"\[(TR-[0-9a-f]{16})\]")
#: A state report's, of a whole finding or of what was added to it later.
STATE_REFERENCE = re.compile(r"\bTR-(?:S|G-[0-9a-f]{16})-[0-9a-f]{16}\b")
#: Markup and blanks, also where the text is a string within JSON.
_NOTHING = r"(?:\s|\\n|&nbsp;|</?[a-zA-Z][^<>]*>)*"
#: It ends the report. Anywhere else an attacker's text, or a person who quotes a report, may have written it.
_ENDS_WITH = r"\bref\b{nothing}({mark}){nothing}(?:\Z|\"\s*[,}}\]])"
_TOLD = re.compile(_ENDS_WITH.format(nothing=_NOTHING, mark=STATE_REFERENCE.pattern))
_NOTED = re.compile(_ENDS_WITH.format(nothing=_NOTHING, mark=r"\bTR-N-[0-9a-f]{16}\b"))


def marker(finding_uid: str) -> str:
    """The mark of a finding's incident: ``TR-`` and 16 hexadecimal digits."""
    return "TR-" + _short(own_id("incident", finding_uid))


def relation_reference(older_id: str, newer_id: str) -> str:
    """The mark of the comment on the older incident about the newer one."""
    return "TR-R-" + _short(own_id("relation", older_id, newer_id))


def state_reference(finding_uid: str, grown_at: datetime | None, state: str) -> str:
    """
    The mark of a state report.

    :param grown_at: of a report that is about what was added to the finding then
    :param state: a digest of the state, in hexadecimal digits
    """
    if grown_at is None:
        return "TR-S-" + state[:16]
    return f"TR-G-{_short(own_id('growth', finding_uid, grown_at.isoformat()))}-{state[:16]}"


def state_told(comment_text: str) -> str | None:
    """The mark of a comment that is a state report."""
    found = _TOLD.findall(comment_text)
    return found[-1] if found else None


def note_reference(incident_id: str, told: Iterable[tuple[str, ...]]) -> str:
    """
    The mark of a note about what became of blocks.

    :param told: what it tells of each, in words that another try gives as well
    """
    return "TR-N-" + _short(own_id("note", incident_id, *sorted("|".join(words) for words in told)))


def noted(comment_text: str) -> str | None:
    """The mark of a comment that is such a note."""
    found = _NOTED.findall(comment_text)
    return found[-1] if found else None


def subject(state_mark: str) -> str:
    """What a state report is about: reports about the same say one after the other what is true now."""
    return state_mark.rpartition("-")[0]


def signed(markup: str, mark: str, *, word: str) -> str:
    """
    The text with its mark where a repeated run looks for it. A SOC's own template may have put it elsewhere.

    :param word: ``ref`` of a state report, which it ends; ``reference`` of a description
    """
    there = mark in (state_told(markup), noted(markup)) if word == "ref" else bears(markup, mark)
    return markup if there else f"{markup}<p>{word} {mark}</p>"


def bears(description: str, mark: str) -> bool:
    """Whether an incident's description has the mark in its row ``reference``: a copied title has not."""
    return bool(re.search(rf"\breference\b(?:[:|]|{_NOTHING})*{re.escape(mark)}\b", description))


def marker_in(title_text: str) -> str | None:
    """The mark in an incident's title. The last one counts: ours comes after all foreign text."""
    marks = MARKER.findall(title_text)
    return marks[-1] if marks else None


def _short(uid: str) -> str:
    return uid.replace("-", "")[:16]
