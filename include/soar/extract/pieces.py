"""What may be in a piece of a text that has no blank or other parting character in it.

Whether a name is one, or a file or code, cannot be told from the piece alone: see ``prose.py``.
"""

from __future__ import annotations

import binascii
import contextlib
import ipaddress
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from include.soar.extract.values import (
    CIDR,
    DOMAIN,
    DOTTED_QUAD,
    EMAIL,
    FILE,
    IPV4,
    read_address,
    read_domain,
    read_email,
    read_hash,
    read_network,
)
from include.soar.model import ObservableType

#: Offset in the piece, length as written, type, value, derived.
Reading = tuple[int, int, ObservableType, str, bool]
#: Characters of which observables consist, URLs aside. All others part them: here for ASCII, then for any text.
_KEPT = "._:@%+-/"
PARTING = "".join(c if c.isalnum() or c in _KEPT else " " for c in map(chr, range(128)))
# The zero-width joiners belong to words of some scripts; refang.py has removed the others.
PIECE = re.compile(r"[\w\u200c\u200d.:@%+/-]+")
_DOTTED_WORD = re.compile(r"(?<![\w\u200c\u200d.-])[\w\u200c\u200d-]*+\.[\w\u200c\u200d.-]++")
_ASCII_WORD = re.compile(r"[A-Za-z0-9._-]+")
_NO_AT = re.compile(r"(?<![^@.])[^@.][^@]*+")
_EMAIL_IN = re.compile(
    r"(?:(?<![\w.+%-])|(?<=--)|(?<=\A-))[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@"
    r"((?:[^\W_](?:[\w\u200c\u200d-]{0,61}[^\W_])?\.){1,126}[^\W_][\w\u200c\u200d-]{0,61}[^\W_]|(?:[0-9]{1,3}\.){3}[0-9]{1,3})(?![\w@])"
)
#: What an e-mail address may stand behind with a colon between; behind any other word it is a password.
_EMAIL_LABEL = re.compile(
    r"(?:mail(?:to|s|address|box)?|from|to|b?cc|sender|recipients?|rcpt|smtp|sips?|xmpp|jabber|acct|contact|addr(?:ess)?"
    r"|author|owner|abuse|[^\x00-\x7f]):\Z",
    re.IGNORECASE,
)
_USER_BEFORE = re.compile(r"(?:\A|:)[\w.-]{1,64}/\Z")
_LETTER_AFTER_DOT = re.compile(r"\.[A-Za-z]")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)
_HAS_DIGIT = re.compile(r"[0-9]")
#: 203.0.113.0/255.255.255.0; not /255.255.255.255, which is the address.
_MASKED = re.compile(rf"({DOTTED_QUAD.pattern})/(255\.(?!255\.255\.255)[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]{{1,3}})")
#: Characters of the longest prefix length, /128.
_LONGEST_PREFIX = 4
_PREFIX_LENGTH = re.compile(r"/([0-9]{1,3})(?!\w|\.\w)")
#: W3C Trace Context: 32 digits in the middle that are no hash.
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_HASH_IN = re.compile(r"(?<![0-9A-Za-z.])[0-9A-Fa-f]{32,128}+(?![0-9A-Za-z.])")
_HASH_OF_NAME = re.compile(r"(?<![0-9A-Za-z.])[0-9A-Fa-f]{32,128}+(?![0-9A-Za-z]|\.[0-9]+\Z)")
_SHORT_RANGE = re.compile(rf"({DOTTED_QUAD.pattern})-([0-9]{{1,3}})")
_WITHOUT_JOINT = re.compile(r"[^_-]+")
#: A label in front (src:2001:db8::1, IPv6:2001:db8::1) has a letter that is no hexadecimal digit.
_IPV6_IN = re.compile(
    r"(?<![\w:.])(?:(?:AAAA|[A-Za-z_]{0,15}[G-Zg-z_][A-Za-z_]{0,15}[0-9]{0,2}):)?"
    r"([0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:.]{1,39})(?:%[\w.-]{1,16})?(?![\w:])"
)
_PLAIN_IPV6 = re.compile(r"[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,36}[0-9A-Fa-f]")
_EUI64 = re.compile(r"(?:[0-9A-Fa-f]{2}:){7}[0-9A-Fa-f]{2}")
_HAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
#: Chinese, Japanese or Korean next to Latin letters: prose without blanks rather than a name.
_HAN_MIXED = re.compile(f"[{_HAN}][A-Za-z0-9]|[A-Za-z0-9][{_HAN}]")
_is_han = re.compile(f"[{_HAN}]*").fullmatch
#: Signs that stand beside a name without being of it, though Unicode calls them symbols: arrows, boxes, ticks.
_BULLETS = re.compile(
    "[\u00a9\u00ae\u2122\u2190-\u21ff\u2500-\u25ff\u2605\u2606\u2700-\u27bf\u27f0-\u27ff\u2900-\u297f\u2b00-\u2bff]"
)


# --- what is encoded ---------------------------------------------------------------------------------------------

PERCENT, BASE64, HEX = "percent", "base64", "hex"
#: Step, offset in the piece, and what is to be read: decoded, or of ``percent`` the piece itself.
EncodedPart = tuple[str, int, str]
_PERCENT = re.compile(r"%(?:[0-9A-Fa-f]{2}|[uU][0-9A-Fa-f]{4})")
_BASE64_BEGIN = re.compile(r"/base64/", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}+")
_HEX_RUN = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{14,}+")
#: http://, https:// or ftp:// in hexadecimal.
_HEX_SCHEME = re.compile(r"(?:68747470|667470)(?:73)?3[Aa]2[Ff]2[Ff](?=[0-9A-Fa-f]{2})")
#: So many digits before it are decoded too.
_BEFORE_HEX_SCHEME = 128
_HEX_URL = re.compile(
    rf"(?:[0-9A-Fa-f]{{2}}){{0,{_BEFORE_HEX_SCHEME // 2}}}?{_HEX_SCHEME.pattern}(?:[0-9A-Fa-f]{{2}})+"
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")


def encoded_in(piece: str) -> Sequence[EncodedPart]:
    """What is encoded in a piece; it need not be read in its encoded form where that is ``percent``."""
    if "%" in piece and _PERCENT.search(piece):
        return ((PERCENT, 0, piece),)
    found: list[EncodedPart] = []
    # Base64 of an observable has letters in both cases: aHR0, MjAz, LmNv.
    if len(piece) > 15 and not (piece.islower() or piece.isupper() or piece.isdecimal()):
        for match in _BASE64.finditer(piece):
            text, at = _from_base64(match[0]), match.start()
            if text is None and "/" in match[0]:  # a/b/Base64/Y3VybC…: the words before it are none of it
                begin = _BASE64_BEGIN.search(match[0])
                at += begin.end() if begin else match[0].rfind("/") + 1
                text = _from_base64(piece[at : match.end()]) if match.end() - at > 15 else None
            if text is not None:
                found.append((BASE64, at, text.replace("\n", " ")))
    if len(piece) > 23 and ("2f2f" in piece or "2F2F" in piece):
        for match in _hex_urls(piece):
            found.append((HEX, match.start(), bytes.fromhex(match[0]).decode("latin-1").replace("\n", " ")))
    return found or ()


def _from_base64(written: str) -> str | None:
    """The text behind a piece of base64, standard or URL-safe, of UTF-8 or (PowerShell) UTF-16; None for bytes."""
    if len(written) % 4 == 1:
        return None
    if "-" in written or "_" in written:
        written = written.replace("-", "+").replace("_", "/")
    try:
        raw = binascii.a2b_base64(written + "=" * (-len(written) % 4))
        text = raw.decode("utf-16-le" if raw[1:8:2] == b"\0\0\0\0" else "utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return None if _CONTROL.search(text) else text


def _hex_urls(piece: str) -> Iterator[re.Match[str]]:
    """URLs in hexadecimal, with what is before and after them. The short pattern finds where the long one begins."""
    for run in _HEX_RUN.finditer(piece):
        if scheme := _HEX_SCHEME.search(piece, *run.span()):
            begin = max(run.start(), scheme.start() - _BEFORE_HEX_SCHEME)
            if match := _HEX_URL.search(piece, begin, run.end()):
                yield match


# --- what is written as it is ------------------------------------------------------------------------------------


def _readings(piece: str) -> Sequence[Reading]:
    if piece.isascii():  # most pieces, and most of them are read or known to hold nothing at one look
        if piece[0].isdecimal() and DOTTED_QUAD.fullmatch(piece):
            return ((0, len(piece), IPV4, piece, False),)
        if piece.isalnum():
            value = read_hash(piece)
            return ((0, len(piece), FILE, value, False),) if value else ()
        if len(piece) < 32 and _holds_nothing(piece):
            return ()
    found: list[Reading] = []
    if _ASCII_WORD.fullmatch(piece):
        if "." in piece:
            _read_word(piece, 0, piece, False, found)
        elif len(piece) > 31:
            _read_hashes(piece, found)
        return found
    if "@" in piece:
        _read_emails(piece, found)
        if not found:
            _read_around_at(piece, found)
        return found
    if "/255." in piece and (masked := _MASKED.fullmatch(piece)):
        with contextlib.suppress(ValueError):  # a mask with holes
            network = ipaddress.IPv4Network((masked[1], masked[2]), strict=False)
            return ((0, len(piece), CIDR, str(network), False), (0, len(masked[1]), IPV4, masked[1], True))
    if ":" in piece and piece.count(":") > 1:
        _read_ipv6(piece, found)
    if len(piece) > 31:
        _read_hashes(piece, found)
    if "." in piece:
        _read_words(piece, found)
    return found


def _read(piece: str) -> tuple[Sequence[EncodedPart], Sequence[Reading]]:
    encoded = encoded_in(piece) if "%" in piece or len(piece) > 15 else ()
    return encoded, () if encoded and encoded[0][0] is PERCENT else _readings(piece)


def _holds_nothing(piece: str) -> bool:
    """
    Whether a short piece of ASCII is one of those that are frequent and name nothing: ``0.9``, ``Mozilla/5.0``, the end
    of a sentence, a time. No name has a top-level domain that begins with a digit.
    """
    colons = piece.count(":")
    if colons > 1:
        return piece[4:5] == "-" and _TIME.fullmatch(piece) is not None
    return piece.count(".") < 3 and _LETTER_AFTER_DOT.search(piece) is None


_read_short = lru_cache(maxsize=16384)(_read)


def read_piece(piece: str) -> tuple[Sequence[EncodedPart], Sequence[Reading]]:
    """What is encoded in a piece, and what may be in it. A short piece is read once, however many texts hold it."""
    return _read_short(piece) if len(piece) < 300 else _read(piece)


def forget_pieces() -> None:
    _read_short.cache_clear()
    _may_be_of_a_name.cache_clear()


@lru_cache(maxsize=4096)
def _may_be_of_a_name(character: str) -> bool:
    """Whether a character that parts pieces may be one of a name all the same: a mark, a ringed letter, an emoji."""
    return not character.isascii() and unicodedata.category(character)[0] in "LMNS" and not _BULLETS.match(character)


def is_part_of_a_word(text: str, start: int, end: int) -> bool:
    """
    Whether a name goes on beyond ``text[start:end]``, with a character that parts pieces: ``ⓑank-of-us.example`` is
    bank-of-us.example to a browser, and ``ank-of-us.example`` is somebody else's.
    """
    return _may_be_of_a_name(text[start - 1 : start]) or _may_be_of_a_name(text[end : end + 1])


def _each_once(pattern: re.Pattern[str], piece: str, group: int = 0, behind: int = 0) -> Iterator[re.Match[str]]:
    """
    The matches without those that say the same again, so that a value repeated a thousand times is read once.

    :param group: what tells one from another
    :param behind: and so many characters after it
    """
    seen: set[str] = set()
    for match in pattern.finditer(piece):
        said = piece[match.start(group) : match.end(group) + behind]
        if said not in seen:
            seen.add(said)
            yield match


def _read_hashes(piece: str, found: list[Reading]) -> None:
    if _TRACE.fullmatch(piece):
        return
    for match in _each_once(_HASH_IN, piece):
        if value := read_hash(match[0]):
            found.append((match.start(), len(match[0]), FILE, value, False))


def _read_emails(piece: str, found: list[Reading]) -> None:
    if (match := _EMAIL_IN.match(piece)) and match.end() == len(piece) and (email := read_email(piece)):
        found.append((0, len(piece), EMAIL, email, False))
        return
    for match in _each_once(_EMAIL_IN, piece):
        if _is_password(piece, match.start(), match.end()):
            if name := read_domain(match[1]) if len(match[1]) < 300 else None:
                found.append((match.start(1), len(match[1]), DOMAIN, name, False))
            elif DOTTED_QUAD.fullmatch(match[1]):
                found.append((match.start(1), len(match[1]), IPV4, match[1], False))
        elif email := read_email(match[0]):
            found.append((match.start(), len(match[0]), EMAIL, email, False))
        elif DOTTED_QUAD.fullmatch(match[1]):  # ssh root@203.0.113.7
            found.append((match.start(1), len(match[1]), IPV4, match[1], False))


def _is_password(piece: str, start: int, end: int) -> bool:
    """Whether what stands before an @ belongs to a user's name: user:it@host, user/it@host:1521."""
    before = piece[start - 1] if start else ""
    if before == ":":
        return not _EMAIL_LABEL.search(piece, max(0, start - 24), start)
    return (
        before == "/"
        and _USER_BEFORE.search(piece, max(0, start - 80), start) is not None
        and piece[end : end + 1] in "/:"
        and end < len(piece)
    )


def _read_around_at(piece: str, found: list[Reading]) -> None:
    """The parts around an @ that makes no e-mail address; a name after one is an account, not a host."""
    for match in _each_once(_NO_AT, piece):
        if "." not in match[0] and ":" not in match[0] and len(match[0]) < 32:
            continue
        for offset, length, kind, value, derived in _readings(match[0]):
            if kind is not DOMAIN or not match.start():
                found.append((match.start() + offset, length, kind, value, derived))


def _read_ipv6(piece: str, found: list[Reading]) -> None:
    if (
        piece[:5] != "AAAA:"
        and _PLAIN_IPV6.fullmatch(piece)
        and (address := read_address(piece))
        and not _EUI64.fullmatch(piece)
    ):
        found.append((0, len(piece), *address, False))
        return
    for match in _each_once(_IPV6_IN, piece, 1, _LONGEST_PREFIX):
        written = match[1].rstrip(".")
        # "2001:db8::1: connection reset"
        for candidate in dict.fromkeys((written, written.removesuffix(":"))):
            colons = candidate.count(":")
            is_network = _PREFIX_LENGTH.match(piece, match.end(1)) is not None  # ::/0, b::/28
            if colons < 2 or (colons == len(candidate) and not is_network) or _EUI64.fullmatch(candidate):
                continue
            if not is_network and not _HAS_DIGIT.search(candidate) and candidate.strip(":").count(":") < 3:
                continue  # std::dec, Face::Bad: code
            if address := read_address(candidate):
                _read_prefix(piece, match.start(1), candidate, address, found)
                break


def _read_prefix(
    piece: str, start: int, written: str, address: tuple[ObservableType, str], found: list[Reading]
) -> None:
    """An address, or the network that is written there."""
    length = _PREFIX_LENGTH.match(piece, start + len(written))
    network = read_network(written, length[1]) if length else None
    is_network = network is not None and network[0] is CIDR
    if network and length and is_network:
        found.append((start, len(written) + len(length[0]), *network, False))
    if not (network and is_network and network[1].partition("/")[0] == address[1]):
        # 203.0.113.7/24 names a host and its network
        found.append((start, len(written), *address, is_network))


def _read_words(piece: str, found: list[Reading]) -> None:
    # "//evil.example/x" names a host: what a browser is redirected to without a scheme.
    path_at = piece.find("/", 2 if piece.startswith("//") else 0)
    taken = iter([(start, start + length) for start, length, *_ in found])
    first, last = next(taken, (len(piece), 0))
    for match in _each_once(_DOTTED_WORD, piece, 0, _LONGEST_PREFIX):
        while match.start() >= last > first:
            first, last = next(taken, (len(piece), 0))
        if match.end() <= first:
            _read_word(piece, match.start(), match[0], 0 <= path_at < match.start(), found)


def _read_word(piece: str, start: int, word: str, in_path: bool, found: list[Reading]) -> None:
    """:param in_path: after a slash, where it is a file rather than a name"""
    if word[0] in ".-":
        bare = word.lstrip(".-")
        if word[0] == "." and DOTTED_QUAD.fullmatch(bare.rstrip(".-_")):  # the end of a longer number
            return
        start += len(word) - len(bare)
        word = bare
    if word[-1:] in ".-_":
        word = word.rstrip(".-")
        if word[-1:] == "_":
            if word[0] != "_":  # table.id.in_ is code, _evil.example_ is emphasis
                _read_rest(start, word.rstrip("_"), found)
                return
            word, start = word.strip("_").rstrip(".-"), start + len(word) - len(word.lstrip("_"))
    if word[:1].isdecimal() and DOTTED_QUAD.fullmatch(word):
        _read_prefix(piece, start, word, (IPV4, word), found)
    elif (
        len(word) < 300
        and not in_path
        and (name := read_domain(word))
        and (word.isascii() or not _HAN_MIXED.search(word))
    ):
        found.append((start, len(word), DOMAIN, name, False))
    elif not word.isascii():
        seen = {word}
        for match in _ASCII_WORD.finditer(word):
            if "." in match[0] and match[0] not in seen:
                seen.add(match[0])
                # Of a name with other letters in it this is a piece, and somebody else's name.
                is_piece = not _is_han(word[: match.start()][-1:] + word[match.end() :][:1])
                _read_word(piece, start + match.start(), match[0], in_path or is_piece, found)
    else:
        _read_rest(start, word, found)


def _read_rest(start: int, word: str, found: list[Reading]) -> None:
    """The two ends of a range of addresses, several addresses in one word, a hash that names a file."""
    if len(word) > 300:
        return
    if word[:1].isdecimal() and ("-" in word or "_" in word) and (ends := _addresses(word)):
        found += [(start + at, len(value), IPV4, value, False) for at, value in ends]
    elif len(word) > 31:
        for match in _HASH_OF_NAME.finditer(word):
            if value := read_hash(match[0]):
                found.append((start + match.start(), len(match[0]), FILE, value, False))
                return


def _addresses(word: str) -> list[tuple[int, str]]:
    """203.0.113.7-203.0.113.9, 203.0.113.7-9 and 203.0.113.7_203.0.113.9, with where in the word each is written."""
    if (short := _SHORT_RANGE.fullmatch(word)) and int(short[1].rpartition(".")[2]) < int(short[2]) < 256:
        return [(0, short[1]), (short.start(2), f"{short[1].rpartition('.')[0]}.{short[2]}")]
    parts = re.split("[-_]", word)
    if len(parts) > 16 or not all(DOTTED_QUAD.fullmatch(part) for part in parts):
        return []
    return [(match.start(), match[0]) for match in _WITHOUT_JOINT.finditer(word)]
