"""Secrets in a vendor's own words: some vendors, proxies and gateways repeat what they were sent, whole or cut.

Airflow's masker knows whole secrets in one spelling, and the log only. An error's text goes further: into XCom, into
the incident and onto the page of *Test connection*. So no text of ours that quotes an answer may hold ``PIECE`` or more
characters in a row of any secret, in any encoding that an echo may have. A secret that is shorter cannot be told from
an ordinary word, and is not looked for.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote

#: So many characters in a row of a secret are never shown.
PIECE = 6
MASK = "***"
#: Secrets that a process remembers: those of connections, and the newest of those that live for one request.
MOST_KEPT, MOST_PASSING = 1_000, 64
#: An echo may be encoded more than once (a form in a JSON text).
DEEPEST = 2

#: Case is no disguise, nor is a form's spelling of a space, nor Base64's other alphabet.
_LOWER = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
_PLAIN = _LOWER.translate(bytes.maketrans(b"+", b" "))
_BASE64 = _LOWER.translate(bytes.maketrans(b"-_", b"+/"))

#: One byte of a text, and the place in the original text that it comes from: start and end.
_Byte = tuple[int, int, int]


class Secrets:
    """What a process must never show. Several threads may use it: each step below is one to them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, None] = OrderedDict()
        self._passing: deque[str] = deque(maxlen=MOST_PASSING)

    def add(self, secret: str, *, passing: bool = False) -> None:
        """:param passing: it dies within the minute (a request's signature), so only the newest are remembered"""
        if passing:
            self._passing.append(secret)
            return
        self._kept[secret] = None
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        self._kept.clear()
        self._passing.clear()

    def redact(self, text: str) -> str:
        """``text`` with every piece of a secret replaced; the rest as it is."""
        known = [*self._kept, *self._passing]
        return redact(text, known) if known else text


#: Those of this process. ``threat_response.transport.http.hide`` adds to them, and every ``VendorError`` is cleaned.
KNOWN = Secrets()


def redact(text: str, secrets: Iterable[str]) -> str:
    """:param secrets: in plain spelling; those shorter than ``PIECE`` are passed over"""
    known = list(secrets)
    plain, base64_ = (frozenset[bytes]().union(*map(pieces, known)) for pieces in (_plain_pieces, _base64_pieces))
    hidden = bytearray(len(text))
    for spelling in _all_spellings(text) if plain else ():
        raw = bytes(byte for byte, _, _ in spelling)
        for folded, pieces in ((raw.translate(_PLAIN), plain), (raw.translate(_BASE64), base64_)):
            for place in range(len(folded) - PIECE + 1):
                if folded[place : place + PIECE] in pieces:
                    start, end = spelling[place][1], spelling[place + PIECE - 1][2]
                    hidden[start:end] = b"\1" * (end - start)
    return "".join(_masked(text, hidden)) if any(hidden) else text


def _masked(text: str, hidden: bytearray) -> Iterator[str]:
    within = False
    for character, is_hidden in zip(text, hidden, strict=True):
        if not is_hidden:
            yield character
        elif not within:
            yield MASK
        within = bool(is_hidden)


@lru_cache(maxsize=2 * MOST_KEPT)
def _plain_pieces(secret: str) -> frozenset[bytes]:
    if len(secret) < PIECE:
        return frozenset()
    # Encoded as well, for an echo that is cut within an escape.
    forms = (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], html.escape(secret))
    return frozenset[bytes]().union(*(_pieces_of(form.encode("utf-8", "replace"), _PLAIN) for form in forms))


@lru_cache(maxsize=2 * MOST_KEPT)
def _base64_pieces(secret: str) -> frozenset[bytes]:
    """Of the secret somewhere in Base64: behind 0, 1 or 2 bytes of something else (``login:password``, a form)."""
    if len(secret) < PIECE:
        return frozenset()
    raw = secret.encode("utf-8", "replace")
    pieces = frozenset[bytes]()
    for before, start in ((0, 0), (1, 2), (2, 3)):
        form = base64.b64encode(b"\0" * before + raw).rstrip(b"=")
        # At both ends the bits of a character may be shared with what stands beside the secret.
        whole = form[start : len(form) - bool((before + len(raw)) % 3)]
        pieces |= _pieces_of(whole, _BASE64)
    return pieces


def _pieces_of(form: bytes, fold: bytes) -> frozenset[bytes]:
    form = form.translate(fold)
    return frozenset(form[at : at + PIECE] for at in range(len(form) - PIECE + 1))


# --- spellings ----------------------------------------------------------------------------------------------


def _all_spellings(text: str) -> Iterator[list[_Byte]]:
    for spelling in _spellings(list(_bytes_of(text)), DEEPEST):
        yield spelling
        yield from _from_hex(spelling)


def _from_hex(text: list[_Byte]) -> Iterator[list[_Byte]]:
    """What runs of hexadecimal digits spell, from their first digit on and from their second."""
    for run in _HEX.finditer(bytes(byte for byte, _, _ in text)):
        for first in (run.start(), run.start() + 1):
            pairs = [text[at : at + 2] for at in range(first, run.end() - 1, 2)]
            yield [(int(bytes((one[0], other[0])), 16), one[1], other[2]) for one, other in pairs]


def _spellings(text: list[_Byte], depth: int) -> Iterator[list[_Byte]]:
    """The text as it stands, and with the escapes of one kind or all kinds taken off, up to ``depth`` times."""
    yield text
    if depth:
        for escape in _ESCAPES:
            decoded = list(_decoded(text, escape))
            if len(decoded) < len(text):
                yield from _spellings(decoded, depth - 1)


def _bytes_of(text: str) -> Iterator[_Byte]:
    for place, character in enumerate(text):
        for byte in character.encode("utf-8", "replace"):
            yield byte, place, place + 1


def _decoded(text: list[_Byte], escape: re.Pattern[str]) -> Iterator[_Byte]:
    done = 0
    for found in escape.finditer(bytes(byte for byte, _, _ in text).decode("latin-1")):
        yield from text[done : found.start()]
        start, end = text[found.start()][1], text[found.end() - 1][2]
        for byte in _MEANING[found[0][0]](found[0]):
            yield byte, start, end
        done = found.end()
    yield from text[done:]


def _of_json(escape: str) -> bytes:
    return str(json.loads(f'"{escape}"')).encode("utf-8", "replace")


_MEANING: dict[str, Callable[[str], bytes]] = {
    "%": lambda escape: bytes([int(escape[1:], 16)]),
    "\\": _of_json,
    "&": lambda escape: html.unescape(escape).encode("utf-8", "replace"),
}
_PERCENT = r"%[0-9a-fA-F]{2}"
_JSON = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[\"\\/bfnrt]"
_HTML = r"&(?:[a-zA-Z]{2,8}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});"
#: As long as a piece at least.
_HEX = re.compile(rb"[0-9a-fA-F]{%d,}" % (2 * PIECE))
_ESCAPES = tuple(map(re.compile, (_PERCENT, _JSON, _HTML, f"{_PERCENT}|{_JSON}|{_HTML}")))
