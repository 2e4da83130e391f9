"""Every observable in a text. Pure; takes time linear in the length of the text, even of a hostile one.

Obfuscation is undone first (``refang.py``), URLs are read and removed, and the rest is split at characters that belong
to no observable. Each distinct piece is read once, however often it occurs, so a log takes no longer than a report.
What is encoded (percent, base64) is read again in its decoded form, to a bounded depth and size. What is not clearly an
indicator is left out.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import quote, unquote

from include.soar.extract.pieces import (
    BASE64,
    HEX,
    PARTING,
    PERCENT,
    PIECE,
    EncodedPart,
    Reading,
    encoded_in,
    forget_pieces,
    is_part_of_a_word,
    read_piece,
)
from include.soar.extract.prose import forget_words, is_name, is_secret, is_slice, is_version, verp_prefix
from include.soar.extract.refang import DEFANGED, Plain, plain
from include.soar.extract.urls import FoundUrl, find_urls, forget_schemes
from include.soar.extract.values import (
    ASN,
    CVE,
    DOMAIN,
    DOTTED_QUAD,
    EMAIL,
    FILE,
    IPV4,
    IPV6,
    LONGEST_URL,
    URL,
    read_asn,
    read_authority,
    read_domain,
)
from include.soar.model import Observable, ObservableType


class Extracted(NamedTuple):
    """
    An observable, and where it was found.

    :param value: canonical, as ``Observable`` wants it
    :param start: offset in the refanged text; of a decoded observable, that of the encoded piece
    :param steps: what had to be decoded to see it, outermost first: ``json``, ``html``, ``lookup``, ``percent``,
        ``base64``, ``hex``
    :param derived: it follows from another one: the host of a URL, the address of ``203.0.113.7/24``
    :param inner: it is inside a URL or an encoded piece: what is said of that is not said of it
    """

    type: ObservableType
    value: str
    start: int
    steps: tuple[str, ...] = ()
    derived: bool = False
    inner: bool = False

    @property
    def observable(self) -> Observable:
        return Observable(type=self.type, value=self.value)


# --- what is encoded ---------------------------------------------------------------------------------------------

#: How many layers of encoding are undone.
DEPTH = 3
#: How many URLs deep a URL within a URL is looked for.
NESTED_URLS = 2
_BREAKS = re.compile(r"%0[AaDd]")
#: IIS reads it as a character of UTF-16.
_PERCENT_U = re.compile(r"%[uU]([0-9A-Fa-f]{4})")
_BY_START = itemgetter(2)


class _Encoded(NamedTuple):
    start: int
    piece: str
    in_url: bool


# --- a text ------------------------------------------------------------------------------------------------------

_PARAMETER = re.compile(r"[^?&=#;]++")
#: Those in which something without a percent sign may be encoded.
_LONG_PARAMETER = re.compile(r"(?<![^?&=#;])[^?&=#;]{16,}+")
_OF_PARTS = re.compile(r"(?:imphash|import hash|authentihash|rich hash|telfhash|vhash)[\s:=\"'-]{0,9}$", re.IGNORECASE)
_FILE_IN_PATH = re.compile(r"(?<=/)[0-9A-Fa-f]{64}(?![0-9A-Za-z])")
_DOTTED = re.compile(r"[0-9](?<![\w.-].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![\w-]|\.\w)")
#: tcpdump writes the port behind a dot: 203.0.113.9.4444 > 198.51.100.3.443: Flags [S]
_QUAD = DOTTED_QUAD.pattern
_PACKET = re.compile(rf"(?<![\w.-])({_QUAD})\.[0-9]{{1,5}} > ({_QUAD})\.[0-9]{{1,5}}(?![\w.])")
# Of two characters and more, a pattern is searched faster than a string; it should begin with a rare character.
_ARROW = re.compile("> (?<= > )")
_CVE_WORD, _CVE_SMALL, _CVE_TITLE = re.compile("CVE"), re.compile("cve"), re.compile("Cve")
_CVE_IN = re.compile(r"[Cc][Vv][Ee](?<![A-Za-z0-9]...)[-‐‑–_ ][0-9]{4}[-‐‑–_ ][0-9]{4,19}(?![0-9A-Za-z])")
# Both begin with literal characters, for which the search is fast.
_ASN_IN = re.compile(r"AS(?:N[ :#-]{0,2}|[ ]?)[0-9]{1,10}(?!\.*+\w)")
_ASN_SMALL_IN = re.compile(r"as(?:n[ :#]{0,2})?[0-9]{1,10}(?!\.*+\w)")


_NAMES = frozenset({DOMAIN, EMAIL})
_ONLY_DEFANGED = (DEFANGED,)


class _Scan:
    """One pass over a text: what was found, and what is to be read again in its decoded form."""

    def __init__(self, text: Plain, *, nested: int = 0) -> None:
        """:param nested: inside how many URLs the text is"""
        self._plain = text
        self._text = text.text
        self._marked = bool(text.marks)
        self._nested = nested
        #: By value: no two types share one.
        self.found: dict[str, Extracted] = {}
        self.encoded: dict[str, list[_Encoded]] = {}

    def run(self) -> None:
        if "://" in self._text:
            self._text = self._take_urls()
        if self._text and not self._text.isspace():  # a URL alone is a frequent text
            self._read_pieces()
            self._read_names()

    def _add(
        self,
        start: int,
        length: int,
        kind: ObservableType,
        value: str,
        derived: bool = False,
        inner: bool = False,
    ) -> None:
        first = self.found.get(value)
        if first is None or (first.inner, first.derived) > (inner, derived):
            steps: tuple[str, ...] = ()
            if self._marked and (undone := self._plain.undone(start, start + length)) and undone != _ONLY_DEFANGED:
                steps = tuple([step for step in undone if step != DEFANGED])
            self.found[value] = Extracted(kind, value, start if first is None else first.start, steps, derived, inner)

    # URLs

    def _take_urls(self) -> str:
        """Read the URLs; return the text with blanks in their place."""
        text = self._text
        kept: list[str] = []
        copied = 0
        for found in find_urls(text):
            if found.host:
                self._add_url(text, found)
            kept += (text[copied : found.start], " " * (found.end - found.start))
            copied = found.end
        return "".join((*kept, text[copied:])) if kept else text

    def _add_url(self, text: str, found: FoundUrl) -> None:
        start, tail_at, length = found.start, found.tail_at, found.end - found.start
        if found.url:
            self._add(start, length, URL, found.url)
        host_at = text.find("://", start) + 3
        if not found.doubted or found.kind is not DOMAIN or self._is_name(host_at, found.host):
            self._add(start, length, found.kind, found.host, derived=bool(found.url))
        tail = text[tail_at : found.end]
        if "://" in tail and self._nested < NESTED_URLS:
            inner = _Scan(Plain(tail), nested=self._nested + 1)
            inner._take_urls()
            for item in inner.found.values():
                self._add(tail_at + item.start, 0, item.type, item.value, item.derived, inner=True)
        if len(tail) > 64:
            for match in _FILE_IN_PATH.finditer(tail):  # an analysis page of that file
                self._add(tail_at + match.start(), 64, FILE, match[0].lower(), inner=True)
        if "%" in tail or len(tail) > 15:
            for match in (_PARAMETER if "%" in tail else _LONG_PARAMETER).finditer(tail):
                self._note(tail_at + match.start(), encoded_in(match[0]), in_url=True)

    # all others

    def _read_pieces(self) -> None:
        text = self._text
        is_ascii = text.isascii()
        pieces = text.translate(PARTING).split() if is_ascii else PIECE.findall(text)
        place = 0
        doubted: set[str] = set()
        parts: set[str] = set()
        # Most pieces are plain words, which hold nothing.
        for piece in [piece for piece in dict.fromkeys(pieces) if len(piece) > 15 or not piece.isalnum()]:
            if "." in piece or ":" in piece or "%" in piece or "@" in piece or len(piece) > 15:
                place = text.find(piece, place)
                encoded, readings = read_piece(piece)
                if encoded:
                    self._note(place, encoded, in_url=False)
                if not readings:
                    continue
                if not is_ascii and is_part_of_a_word(text, place, place + len(piece)):
                    parts.add(piece)
                else:
                    self._take(place, piece, readings, doubted)
        if doubted:
            self._look_again(doubted)
        if parts:
            self._read_parts(parts)

    def _take(self, place: int, piece: str, readings: Sequence[Reading], doubted: set[str]) -> None:
        for offset, length, kind, value, derived in readings:
            start, written = place + offset, piece[offset : offset + length]
            if kind is IPV4 and is_version(self._text, start, written):
                doubted.add(written)
            elif kind is EMAIL:
                self._add_email(start, length, value)
            elif (
                (kind is not DOMAIN or self._is_name(start, written))
                and (kind is not FILE or self._is_of_a_file(start))
                and (kind is not IPV6 or not is_slice(self._text, start, start + length))
            ):
                self._add(start, length, kind, value, derived)

    def _add_email(self, start: int, length: int, value: str) -> None:
        before = self._text[start - 1 : start]
        if before and before in "=!#$&*?~^>:\"' ":
            if is_secret(self._text, start):
                return
            if before == "=" and (prefix := verp_prefix(self._text, start, value)):
                start, length, value = start - len(prefix), length + len(prefix), prefix + value
                for part in prefix.split("="):
                    if part in self.found and self.found[part].start >= start:
                        del self.found[part]
        self._add(start, length, EMAIL, value)

    def _read_parts(self, parts: set[str]) -> None:
        """Pieces that a sign parts from the rest of a word: they are no names, but where they stand by themselves."""
        for match in PIECE.finditer(self._text):
            if match[0] in parts:
                is_part = is_part_of_a_word(self._text, *match.span())
                _, read = read_piece(match[0])
                readings = [reading for reading in read if not (is_part and reading[2] in _NAMES)]
                self._take(match.start(), match[0], readings, set())
                if not is_part:
                    parts.discard(match[0])

    def _is_name(self, start: int, written: str) -> bool:
        if self._marked and DEFANGED in self._plain.undone(start, start + len(written)):
            return True
        return is_name(self._text, start, written)

    def _is_of_a_file(self, start: int) -> bool:
        """An imphash or an Authentihash is a digest of parts of a file: no file is found by it."""
        return not _OF_PARTS.search(self._text, start - 24 if start > 24 else 0, start)

    def _look_again(self, doubted: set[str]) -> None:
        """A number that is a version in one place may be an address in another: one pass over all places."""
        text = self._text
        if len(doubted) < 9:  # usually each occurs once, and counting is far faster than the pattern
            doubted = {written for written in doubted if text.count(written) > 1}
        for match in _DOTTED.finditer(text) if doubted else ():
            if match[0] in doubted and not is_version(text, match.start(), match[0]):
                doubted.discard(match[0])
                self._add(match.start(), len(match[0]), IPV4, match[0])

    def _read_names(self) -> None:
        text = self._text
        if ">" in text and _ARROW.search(text):
            for match in _PACKET.finditer(text):
                for side in (1, 2):
                    self._add(match.start(side), len(match[side]), IPV4, match[side])
        if _CVE_WORD.search(text) or _CVE_SMALL.search(text) or _CVE_TITLE.search(text):
            for match in _CVE_IN.finditer(text):
                self._add(match.start(), len(match[0]), CVE, f"CVE-{match[0][4:8]}-{match[0][9:]}")
        seen: set[str] = set()
        for pattern in (_ASN_IN, _ASN_SMALL_IN):
            for match in pattern.finditer(text):
                before = text[match.start() - 1 : match.start()]
                if match[0] in seen or before.isalnum() or (before and before in "_-./@"):
                    continue
                seen.add(match[0])
                if value := read_asn(match[0]):
                    self._add(match.start(), len(match[0]), ASN, value)

    def _note(self, start: int, encoded: Sequence[EncodedPart], *, in_url: bool) -> None:
        """Keep for the next pass what is encoded in a piece that begins at ``start``."""
        for step, at, text in encoded:
            self.encoded.setdefault(step, []).append(_Encoded(start + at, text, in_url))


def _scan(text: str, depth: int) -> Iterator[Extracted]:
    scan = _Scan(plain(text))
    scan.run()
    yield from scan.found.values()
    if not (depth and scan.encoded):
        return
    if percent := scan.encoded.get(PERCENT):
        # All at once, one per line; an encoded line break would look like the start of the next piece.
        encoded = "\n".join(item.piece for item in percent)
        if "%u" in encoded or "%U" in encoded:
            encoded = _PERCENT_U.sub(lambda match: quote(chr(int(match[1], 16)), errors="replace"), encoded)
        yield from _decoded(PERCENT, percent, unquote(_BREAKS.sub(" ", encoded), errors="replace"), depth)
    for step in (BASE64, HEX):
        if decoded := scan.encoded.get(step):
            yield from _decoded(step, decoded, "\n".join(item.piece for item in decoded), depth)


def _decoded(step: str, encoded: Sequence[_Encoded], lines: str, depth: int) -> Iterator[Extracted]:
    """The observables of decoded pieces, which are scanned together as the lines of one text."""
    starts, length = [], 0
    for line in lines.split("\n"):
        starts.append(length)
        length += len(line) + 1
    for item in _scan(lines, depth - 1):
        # Refanging only shortens a text, so this is the right line or, after much shortening, an earlier one.
        source = encoded[bisect_right(starts, item.start) - 1]
        in_clear = step == PERCENT and len(source.piece) < LONGEST_URL and item.value in source.piece.lower()
        if source.in_url and step == PERCENT and not item.derived and (in_clear or item.type is DOMAIN):
            continue
        steps = item.steps if in_clear else (step, *item.steps)
        # A field that was percent-encoded as a whole still is that field.
        inner = item.inner or source.in_url or step != PERCENT
        yield Extracted(item.type, item.value, source.start, steps, item.derived, inner)


def extract_text(text: str) -> tuple[Extracted, ...]:
    """
    Every observable in a text, each once, in order of first occurrence.

    A URL's host is an observable as well (``derived``); an e-mail address's domain is not: it is the victim's more
    often than not.
    """
    found: dict[str, Extracted] = {}
    for item in sorted(_scan(text, DEPTH), key=_BY_START):
        first = found.setdefault(item.value, item)
        if (first.inner, first.derived) > (item.inner, item.derived):
            found[item.value] = item._replace(start=first.start)
    return tuple(found.values())


def forget() -> None:
    """Empty what is kept between calls: for a measurement, or for its memory."""
    for kept in (read_domain, read_authority):
        kept.cache_clear()
    forget_schemes()
    forget_words()
    forget_pieces()
