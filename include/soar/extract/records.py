"""Evidence in a vendor's record, made fit for a finding: bounded, printable, and without a customer's credentials.

An attacker writes it, so no record may be larger or hold more than this, whatever arrives.
"""

from __future__ import annotations

from collections.abc import Iterable

from include.soar.model import Mention, Role, storable

LONGEST_TEXT = 65_536
MOST_MENTIONS = 1_000
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


def bounded(mentions: Iterable[Mention]) -> tuple[Mention, ...]:
    """The first thousand and a note about the rest: vendors put first what can be blocked."""
    kept: list[Mention] = []
    for mention in mentions:
        if len(kept) == MOST_MENTIONS:
            kept.append(Mention(field="(cut)", role=Role.MENTIONED, text=f"more than {MOST_MENTIONS} texts{CUT}"))
            break
        kept.append(mention)
    return tuple(kept)
