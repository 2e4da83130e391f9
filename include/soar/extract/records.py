"""Evidence in a vendor's record, made fit for a finding: bounded, printable, and without a customer's credentials.

An attacker writes it, so no record may be larger or hold more than this, whatever arrives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from include.soar.model import Mention, Role, storable
from include.soar.vendor.errors import Unavailable, Unexpected
from include.soar.vendor.wire import load_json

LONGEST_TEXT = 65_536
MOST_MENTIONS = 1_000
#: Texts of a record of which most say who attacked.
MOST_ATTACKERS = 50_000
#: The field of the note that says how many texts of a record were left out.
LEFT_OUT = "(cut)"
#: What stands in a record in the place of what is nested deeper than this.
TOO_DEEP = "[…nested too deep, left out]"
DEEPEST = 300
CUT = " […cut]"
_SEPARATORS = frozenset(" \t\r\n,;|\"'<>()[]{}")

#: Request headers in which a client (or a proxy that it chose) says where it comes from: a claim, never a proof.
CLAIM_HEADERS = frozenset(
    {
        *("x-forwarded-for", "forwarded", "forwarded-for", "x-forwarded", "x-original-forwarded-for"),
        *("true-client-ip", "client-ip", "x-client-ip", "x-cluster-client-ip", "x-real-ip", "x-originating-ip"),
        *("x-remote-ip", "x-remote-addr", "cf-connecting-ip", "fastly-client-ip", "x-azure-clientip"),
    }
)
#: Evidence of these names can hold a customer's credentials. It is kept in the archived page only.
CREDENTIALS = frozenset(
    {
        *("authorization", "proxy-authorization", "cookie", "cookies", "set-cookie", "x-api-key", "apikey", "api_key"),
        *("x-auth-token", "x-csrf-token", "password", "secret", "token", "access_token", "refresh_token", "id_token"),
    }
)


def clip(text: str) -> str:
    """
    At most 65,536 characters, with a note when cut, and only what a store can carry.

    Cut between words where it can: half an address would be another address.
    """
    if len(text) > LONGEST_TEXT:
        end = LONGEST_TEXT - len(CUT)
        word = next((i for i in range(end, end - 4_096, -1) if text[i] in _SEPARATORS), end)
        text = text[:word] + CUT
    return storable(text)


def chunks(text: str) -> Iterator[str]:
    """A text that may hold attackers, whole: in pieces that :func:`clip` would not cut, parted between words."""
    while len(text) > LONGEST_TEXT:
        end = next((i for i in range(LONGEST_TEXT, LONGEST_TEXT - 4_096, -1) if text[i] in _SEPARATORS), LONGEST_TEXT)
        yield clip(text[:end])
        text = text[end:]
    yield clip(text)


def bounded(mentions: Iterable[Mention]) -> tuple[Mention, ...]:
    """
    All that say who attacked, of the rest the first thousand, and a note with the number of those left out.

    The rest is bounded, since an attacker chooses how much of it there is (evidence, a name's addresses), and vendors
    put first what can be blocked. Whoever the source says has attacked is not left out.
    """
    kept: list[Mention] = []
    left_out = 0
    for mention in mentions:
        if len(kept) < (MOST_ATTACKERS if mention.role is Role.ATTACKER else MOST_MENTIONS):
            kept.append(mention)
        else:
            left_out += 1
    if left_out:
        kept.append(Mention(field=LEFT_OUT, role=Role.MENTIONED, text=f"{left_out:,} more texts{CUT}"))
    return tuple(kept)


# --- a page of records ---------------------------------------------------------------------------------------

#: A string (the last one may lack its end), a bracket, or a number so long that Python refuses to read it.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]|-?[0-9]{300,}', re.DOTALL)


def load_records(vendor: str, operation: str, body: bytes) -> Any:
    """
    A page of a source's records as JSON. What an attacker can put into one record must not cost the others: a byte
    that is no UTF-8 becomes U+FFFD, and what is nested too deep, or a number that is too long, a text in its place.

    :raises Unavailable: the text stops in the middle of JSON
    :raises Unexpected: it is no JSON
    """
    try:
        return load_json(vendor, operation, body)
    except (Unavailable, Unexpected):
        repaired = _repaired(body)
        if repaired == body:
            raise
    return load_json(vendor, operation, repaired)


def _repaired(body: bytes) -> bytes:
    """Read in one pass and without recursion, however deep it goes."""
    text = body.decode(json.detect_encoding(body), "replace")
    kept: list[str] = []
    depth = done = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            if depth == DEEPEST:
                kept += text[done : token.start()], json.dumps(TOO_DEEP)
        elif first in "]}":
            if depth == DEEPEST:
                done = token.end()
            depth -= 1
        elif first != '"' and depth < DEEPEST:
            kept += text[done : token.start()], f'"a number of {len(token[0])} digits"'
            done = token.end()
    if depth < DEEPEST:
        kept.append(text[done:])
    return "".join(kept).encode()


def has_too_deep(record: Any) -> bool:
    """Whether :func:`load_records` has cut something out of this record."""
    todo = [record]
    while todo:
        node = todo.pop()
        if node == TOO_DEEP:
            return True
        todo.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    return False
