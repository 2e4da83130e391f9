"""Text and findings -> observables. Pure, linear, no network: the public-suffix list is the one inside tldextract.

A text is first undone (``refang.py``), URLs are read and taken out, and the rest is split at characters that belong to
no observable. Each distinct piece is then read once, however often it stands there, which makes a log as quick as a
report. What is encoded (percent, base64) is read again in its decoded form, to a bounded depth and size. What is not
clearly an indicator is left out.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from socket import AF_INET6, inet_ntoa, inet_ntop, inet_pton
from typing import NamedTuple
from urllib.parse import unquote

import tldextract

from include.soar.extract.refang import DEFANGED, plain, refang, scheme_at_end
from include.soar.model import HASH_BY_LENGTH, Finding, Observable, ObservableType, Observed, Role, Sighting

__all__ = [
    "NOTHING_OWN",
    "Extracted",
    "OwnSurface",
    "browser_number",
    "extract_finding",
    "extract_text",
    "forget",
    "observe",
    "parse_address",
    "parse_asn",
    "parse_cve",
    "parse_domain",
    "parse_email",
    "parse_hash",
    "parse_network",
    "parse_url",
    "refang",
]

IPV4, IPV6, CIDR = ObservableType.IPV4, ObservableType.IPV6, ObservableType.CIDR
DOMAIN, URL, EMAIL = ObservableType.DOMAIN, ObservableType.URL, ObservableType.EMAIL
FILE, CVE, ASN = ObservableType.FILE, ObservableType.VULNERABILITY, ObservableType.ASN


class Extracted(NamedTuple):
    """
    An observable, and where it stood.

    :param value: canonical, as ``Observable`` wants it
    :param start: offset in the text once it is undone; of what was decoded, that of the encoded piece
    :param steps: what had to be decoded to see it, outermost first: ``json``, ``html``, ``lookup``, ``percent``,
        ``base64``, ``hex``
    :param derived: it follows from another one: the host of a URL, the address with which a network was written
    :param inner: something else carried it, a URL or an encoded piece: what is said of the carrier is not said of it
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


# --- one value ---------------------------------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Offline: neither fetches a newer list nor writes a cache. And RFC 6761's name that documentation and the demo use.
_SUFFIXES = frozenset(
    suffix if suffix.isascii() else suffix.encode("idna").decode()
    for suffix in [
        *tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True).tlds,
        "example",
    ]
)
_TLDS = frozenset(suffix.rsplit(".", 1)[-1] for suffix in _SUFFIXES)
_WILD_TLDS = frozenset(suffix.rsplit(".", 1)[-1] for suffix in _SUFFIXES if suffix.startswith("*."))

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_ASN = re.compile(r"ASN?[ :#-]{0,2}([0-9]{1,10})", re.IGNORECASE)
_CVE = re.compile(r"CVE[-‐‑–_ ]([0-9]{4})[-‐‑–_ ]([0-9]{4,19})", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*+")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}){0,31}")
_BLANK = re.compile(r"[\s\x00-\x20\x7f]")

URL_SCHEMES = _words(
    """
    http https file ftp ftps sftp tftp ssh telnet ldap ldaps rmi dns ws wss smb tcp udp git svn rtsp irc ircs
    """
)
LONGEST_URL = 4096
LONGEST_NAME = 253


def parse_address(text: str) -> Observable | None:
    """
    One address in any of its written forms, canonical; None for anything else.

    An IPv6 zone id is dropped and an IPv4-mapped address is the IPv4 address. IPv4 octets with leading zeros
    are refused: half of the world reads them as octal.
    """
    read = _address(text.strip())
    return Observable(type=read[0], value=read[1]) if read else None


def _address(text: str) -> tuple[ObservableType, str] | None:
    if _IPV4.fullmatch(text):
        return IPV4, text
    if ":" not in text:
        return None
    if text[0] == "[" and text[-1] == "]":
        text = text[1:-1]
    try:
        packed = inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    if packed.startswith(_MAPPED):
        return IPV4, inet_ntoa(packed[12:])
    if packed.startswith(_COMPATIBLE):  # C writes ::1.2.3.4, Python ::102:304
        return IPV6, str(ipaddress.IPv6Address(packed))
    return IPV6, inet_ntop(AF_INET6, packed)


_MAPPED = bytes(10) + b"\xff\xff"
_COMPATIBLE = bytes(8)


def parse_network(text: str) -> Observable | None:
    """``192.0.2.7/24`` -> the network 192.0.2.0/24; a network of one address is that address."""
    written, slash, length = text.strip().partition("/")
    read = _network(written, length) if slash else None
    return Observable(type=read[0], value=read[1]) if read else None


def _network(written: str, length: str) -> tuple[ObservableType, str] | None:
    address = _address(written)
    if address is None or not (length.isdecimal() and length.isascii()) or len(length) > 3:
        return None
    kind, value = address
    width = 32 if kind is IPV4 else 128
    prefix = int(length) - (96 if kind is IPV4 and ":" in written else 0)  # IPv4-mapped
    if not 0 <= prefix <= width:
        return None
    return (CIDR, str(ipaddress.ip_network((value, prefix), strict=False))) if prefix < width else address


@lru_cache(maxsize=65536)
def _domain(text: str) -> str | None:
    name = text.lower()
    if name[-1:] == ".":
        name = name.rstrip(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return None
    rest, _, last = name.rpartition(".")
    if last not in _TLDS or not 3 < len(name) <= LONGEST_NAME or not _NAME.fullmatch(name):
        return None
    # No registry sells a name with an underscore; below one it is allowed (_dmarc.evil.example).
    if "_" in name and "_" in rest.rpartition(".")[2]:
        return None
    if ".." in name or "-." in name or ".-" in name or (len(name) > 64 and any(len(x) > 63 for x in rest.split("."))):
        return None
    if name in _SUFFIXES or (last in _WILD_TLDS and _is_wild(name)):
        return None
    return name


def _is_wild(name: str) -> bool:
    """Whether a rule such as ``*.ck`` makes it a public suffix."""
    return f"*.{name.partition('.')[2]}" in _SUFFIXES and f"!{name}" not in _SUFFIXES


def forget() -> None:
    """Empty what is kept between calls, for whoever measures or wants the memory back."""
    for kept in (_domain, _authority, _read_short, _scheme_at_end):
        kept.cache_clear()


def parse_domain(text: str) -> Observable | None:
    """A domain name that has a registrable part, lower-case, A-labels, without trailing dot; None otherwise."""
    name = _domain(text.strip()) if len(text) < 1000 else None
    return Observable(type=DOMAIN, value=name) if name else None


def parse_hash(text: str) -> Observable | None:
    """An MD5, SHA-1, SHA-256 or SHA-512 in hexadecimal; None otherwise, also for nothing but 0 or f."""
    value = _hash(text.strip())
    return Observable(type=FILE, value=value) if value else None


def _hash(text: str) -> str | None:
    if len(text) not in HASH_BY_LENGTH or not _HEX.fullmatch(text):
        return None
    value = text.lower()
    return None if value.strip("0") == "" or value.strip("f") == "" else value


def parse_email(text: str) -> Observable | None:
    """An e-mail address: the local part as it is, the domain in lower case."""
    value = _email(text.strip())
    return Observable(type=EMAIL, value=value) if value else None


def _email(text: str) -> str | None:
    local, at, name = text.rpartition("@")
    if not at or len(local) > 64 or len(name) > 1000 or not _LOCAL.fullmatch(local):
        return None
    domain = _domain(name)
    return f"{local}@{domain}" if domain else None


def parse_cve(text: str) -> Observable | None:
    """``cve-2026-0001`` -> ``CVE-2026-0001``."""
    match = _CVE.fullmatch(text.strip())
    return Observable(type=CVE, value=f"CVE-{match[1]}-{match[2]}") if match else None


def parse_asn(text: str) -> Observable | None:
    """``ASN 64496`` -> ``AS64496``."""
    value = _asn(text.strip())
    return Observable(type=ASN, value=value) if value else None


def _asn(text: str) -> str | None:
    match = _ASN.fullmatch(text)
    number = int(match[1]) if match else 0
    return f"AS{number}" if 0 < number < 2**32 else None


def parse_url(text: str) -> Observable | None:
    """
    An absolute URL with a real host: scheme and host lower-case, the rest as it is.

    A host that is an address in one of the forms that only browsers read (``0x7f.1``) is that address. None for a
    URL of more than 4,096 characters: one that is cut would be another URL.
    """
    scheme, mark, rest = text.partition("://")
    # A browser would quietly take a blank out, and the URL would be another.
    if not mark or scheme.lower() not in URL_SCHEMES or _BLANK.search(text):
        return None
    end = _AUTHORITY_END.search(rest)
    authority = rest[: end.start()] if end else rest
    read = _authority(authority)
    value = f"{scheme.lower()}://{read[0]}{rest[len(authority) :]}" if read else ""
    return Observable(type=URL, value=value) if 0 < len(value) <= LONGEST_URL else None


_AUTHORITY_END = re.compile(r"[/?#]")


@lru_cache(maxsize=16384)
def _authority(text: str) -> tuple[str, ObservableType, str] | None:
    """A URL's authority with its host canonical, and that host."""
    user, at, place = text.rpartition("@")
    if user and (place.upper() == "SSL" or (place.isdecimal() and len(place) < 6)):
        # Windows' WebDAV: file://host@SSL/x, file://host@8080/x.
        inside = _authority(user)
        return (f"{inside[0]}@{place}", *inside[1:]) if inside else None
    if place[:1] == "[":
        host, _, port = place[1:].partition("]")
        named = _address(host) if ":" in host else None
        port = port[1:] if port[:1] == ":" else port and "?"
    else:
        host, _, port = place.partition(":")
        if "." not in host and not host[:1].isdecimal():
            return None
        name = _domain(host) if len(host) < 1000 else None
        named = (DOMAIN, name) if name else _address(host) or _browser_address(host)
    if named is None or (port and not (port.isdecimal() and port.isascii() and int(port) < 65536)):
        return None
    kind, value = named
    shown = f"[{value}]" if kind is IPV6 else value
    return f"{user}{at}{shown}{f':{port}' if port else ''}", kind, value


def browser_number(name: str) -> bytes | None:
    """
    The IPv4 address that a browser reads in one to four numbers, decimal, octal or hexadecimal (``0xcb007107``,
    ``3405803783``, ``0313.0.0161.7``); None if in none. https://url.spec.whatwg.org/#concept-ipv4-parser

    :param name: lower-case, without a dot at its end
    :return: packed
    """
    parts = name.split(".")
    if len(parts) > 4 or not parts[-1][:1].isdigit():
        return None
    numbers = []
    for part in parts:
        base, digits = (16, part[2:] or "0") if part[:2] == "0x" else (8, part) if part[:1] == "0" else (10, part)
        # int() would also read signs, spaces and underscores.
        if not part or not digits.isalnum() or len(digits) > 64:
            return None
        try:
            numbers.append(int(digits, base))
        except ValueError:
            return None
    *high, low = numbers
    if any(number > 255 for number in high) or low >= 256 ** (5 - len(numbers)):
        return None
    return (sum(number << 24 - 8 * place for place, number in enumerate(high)) + low).to_bytes(4, "big")


def _browser_address(host: str) -> tuple[ObservableType, str] | None:
    """Such a host of a URL. Fewer numbers than four in decimal, or one small one (http://8080/), are typing errors."""
    name = host.lower().removesuffix(".")
    packed = browser_number(name) if len(name) <= 60 else None
    if packed is None or not packed[0] or (0 < name.count(".") < 3 and "x" not in name):
        return None
    return IPV4, inet_ntoa(packed)


# --- a piece of a text -------------------------------------------------------------------------------------------

#: Offset in the piece, length as written, type, value, derived.
Reading = tuple[int, int, ObservableType, str, bool]

#: Characters of which observables consist, URLs aside; all others part them.
_KEPT = "._:@%+-/"
_PARTING = "".join(c if c.isalnum() or c in _KEPT else " " for c in map(chr, range(128)))
_PIECE = re.compile(r"[\w.:@%+/-]+")

_DOTTED_WORD = re.compile(r"(?<![\w.-])[\w-]*+\.[\w.-]++")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9._-]+")
_ASCII_WORD = re.compile(r"[A-Za-z0-9._-]+")
_NO_AT = re.compile(r"(?<![^@.])[^@.][^@]*+")
_EMAIL_IN = re.compile(
    r"(?:(?<![\w.+%-])|(?<=--)|(?<=\A-))[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@"
    r"((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,126}[^\W_][\w-]{0,61}[^\W_]|(?:[0-9]{1,3}\.){3}[0-9]{1,3})(?![\w@])"
)
#: A label in front (src:2001:db8::1) has a letter that is no hexadecimal digit.
_IPV6_IN = re.compile(
    r"(?<![\w:.])(?:[A-Za-z_]{0,15}[G-Zg-z_][A-Za-z_]{0,15}:)?"
    r"([0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:.]{1,39})(?:%[\w.-]{1,16})?(?![\w:])"
)
_PLAIN_IPV6 = re.compile(r"[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,36}[0-9A-Fa-f]")
_EUI64 = re.compile(r"(?:[0-9A-Fa-f]{2}:){7}[0-9A-Fa-f]{2}")
_HAS_DIGIT = re.compile(r"[0-9]")
_PREFIX_LENGTH = re.compile(r"/([0-9]{1,3})(?!\w|\.\w)")
#: W3C Trace Context: 32 digits in the middle that are no hash.
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_HASH_IN = re.compile(r"(?<![0-9A-Za-z.])[0-9A-Fa-f]{32,128}+(?![0-9A-Za-z.])")
_HAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
#: Chinese, Japanese or Korean next to Latin letters: prose without blanks rather than a name.
_HAN_MIXED = re.compile(f"[{_HAN}][A-Za-z0-9]|[A-Za-z0-9][{_HAN}]")


def _read_piece(piece: str) -> Sequence[Reading]:
    """What may be in a piece without parting characters."""
    return _read_short(piece) if len(piece) < 300 else _readings(piece)


def _readings(piece: str) -> Sequence[Reading]:
    if piece[0].isdecimal() and _IPV4.fullmatch(piece):
        return ((0, len(piece), IPV4, piece, False),)
    found: list[Reading] = []
    if _PLAIN_WORD.fullmatch(piece):
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
    if ":" in piece and piece.count(":") > 1:
        _read_ipv6(piece, found)
    if len(piece) > 31:
        _read_hashes(piece, found)
    if "." in piece:
        _read_words(piece, found)
    return found


_read_short = lru_cache(maxsize=65536)(_readings)


def _read_hashes(piece: str, found: list[Reading]) -> None:
    if _TRACE.fullmatch(piece):
        return
    seen: set[str] = set()
    for match in _HASH_IN.finditer(piece):
        if match[0] in seen:
            continue
        seen.add(match[0])
        if value := _hash(match[0]):
            found.append((match.start(), len(match[0]), FILE, value, False))


def _read_emails(piece: str, found: list[Reading]) -> None:
    seen: set[str] = set()
    for match in _EMAIL_IN.finditer(piece):
        if match[0] in seen:
            continue
        seen.add(match[0])
        if email := _email(match[0]):
            found.append((match.start(), len(match[0]), EMAIL, email, False))
        elif _IPV4.fullmatch(match[1]):  # ssh root@203.0.113.7
            found.append((match.start(1), len(match[1]), IPV4, match[1], False))


def _read_around_at(piece: str, found: list[Reading]) -> None:
    """What is no e-mail address; a name behind an @ is a person's."""
    seen: set[str] = set()
    for match in _NO_AT.finditer(piece):
        if match[0] in seen:
            continue
        seen.add(match[0])
        if "." not in match[0] and ":" not in match[0] and len(match[0]) < 32:
            continue
        for offset, length, kind, value, derived in _readings(match[0]):
            if kind is not DOMAIN or not match.start():
                found.append((match.start() + offset, length, kind, value, derived))


def _read_ipv6(piece: str, found: list[Reading]) -> None:
    if _PLAIN_IPV6.fullmatch(piece) and (address := _address(piece)) and not _EUI64.fullmatch(piece):
        found.append((0, len(piece), *address, False))
        return
    seen: set[str] = set()
    for match in _IPV6_IN.finditer(piece):
        key = piece[match.start(1) : match.end(1) + 4]  # with the length of a prefix
        if key in seen:
            continue
        seen.add(key)
        written = match[1].rstrip(".")
        # "2001:db8::1: connection reset"
        for candidate in dict.fromkeys((written, written.removesuffix(":"))):
            colons = candidate.count(":")
            is_network = _PREFIX_LENGTH.match(piece, match.end(1)) is not None  # ::/0, b::/28
            if colons < 2 or (colons == len(candidate) and not is_network) or _EUI64.fullmatch(candidate):
                continue
            if not is_network and not _HAS_DIGIT.search(candidate) and candidate.strip(":").count(":") < 3:
                continue  # std::dec, Face::Bad: code
            if address := _address(candidate):
                _read_prefix(piece, match.start(1), candidate, address, found)
                break


def _read_prefix(
    piece: str, start: int, written: str, address: tuple[ObservableType, str], found: list[Reading]
) -> None:
    """An address, or the network that is written there."""
    length = _PREFIX_LENGTH.match(piece, start + len(written))
    network = _network(written, length[1]) if length else None
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
    seen: set[str] = set()
    for match in _DOTTED_WORD.finditer(piece):
        key = piece[match.start() : match.end() + 4]  # with the length of a prefix
        if key in seen:
            continue
        seen.add(key)
        while match.start() >= last > first:
            first, last = next(taken, (len(piece), 0))
        if match.end() <= first:
            _read_word(piece, match.start(), match[0], 0 <= path_at < match.start(), found)


def _read_word(piece: str, start: int, word: str, in_path: bool, found: list[Reading]) -> None:
    """:param in_path: what stands behind a slash is a file rather than a name"""
    if word[0] in ".-":
        bare = word.lstrip(".-")
        if word[0] == "." and _IPV4.fullmatch(bare.rstrip(".-_")):  # the end of a longer number
            return
        start += len(word) - len(bare)
        word = bare
    if word[-1:] in ".-_":
        word = word.rstrip(".-")
        if word[-1:] == "_":
            if word[0] != "_":  # table.id.in_ is code, _evil.example_ is emphasis
                _read_rest(start, word.rstrip("_"), found)
                return
            word, start = word.strip("_"), start + len(word) - len(word.lstrip("_"))
    if word[:1].isdecimal() and _IPV4.fullmatch(word):
        _read_prefix(piece, start, word, (IPV4, word), found)
    elif (
        len(word) < 300 and not in_path and (name := _domain(word)) and (word.isascii() or not _HAN_MIXED.search(word))
    ):
        found.append((start, len(word), DOMAIN, name, False))
    elif not word.isascii():
        seen = {word}
        for match in _ASCII_WORD.finditer(word):
            if "." in match[0] and match[0] not in seen:
                seen.add(match[0])
                _read_word(piece, start + match.start(), match[0], in_path, found)
    else:
        _read_rest(start, word, found)


def _read_rest(start: int, word: str, found: list[Reading]) -> None:
    """The two ends of a range of addresses; a hash that names a file."""
    if "-" in word:
        first, _, second = word.partition("-")
        if _IPV4.fullmatch(first) and _IPV4.fullmatch(second):
            found.append((start, len(first), IPV4, first, False))
            found.append((start + len(first) + 1, len(second), IPV4, second, False))
            return
    name, _, ending = word.partition(".")
    if len(name) > 31 and "." not in ending and not ending.isdecimal():
        written = name.rpartition("_")[2].rpartition("-")[2]
        if value := _hash(written):
            found.append((start + len(name) - len(written), len(written), FILE, value, False))


# --- what is encoded ---------------------------------------------------------------------------------------------

#: How deep what is encoded within what is encoded is followed.
DEPTH = 3

#: How many URLs deep a URL within a URL is looked for.
NESTED_URLS = 2

_BREAKS = re.compile(r"%0[AaDd]")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}+")
_HEX_URL = re.compile(r"(?:[0-9A-Fa-f]{2}){0,64}?(?:68747470|667470)(?:73)?3[Aa]2[Ff]2[Ff](?:[0-9A-Fa-f]{2})+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")


class _Encoded(NamedTuple):
    start: int
    piece: str
    in_url: bool


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


# --- a text ------------------------------------------------------------------------------------------------------

_QUOTES = "\u2018-\u201f\u00ab\u00bb\u3001\u3002\u300a-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b"
_AUTHORITY = re.compile(rf"[^\s/?#<>\"'`\x00-\x20\\^|{{}}(),;{_QUOTES}]{{1,600}}+")
_TAIL_END = re.compile(rf"[\s<>\"'`\x00-\x20\\^|{{}}{_QUOTES}]")
_SCHEMES = tuple(sorted(URL_SCHEMES, key=len, reverse=True))
_SCHEME_ENDS = (
    frozenset(scheme[-1] for scheme in URL_SCHEMES) | {scheme[-1].upper() for scheme in URL_SCHEMES} | set("xXwW*")
)
#: A second URL behind a comma or the like begins a new one; http://a.example/http://b.example/ is one that has another.
_NEXT_URL = re.compile(r"[,;|'\]](?:h[tx*]{2}ps?|f[tx]p)://|\]\(|\[/", re.IGNORECASE)
_HYPHEN_OR_DIGIT = re.compile(r"[-0-9]")
_BRACKETED_HOST = re.compile(r"\[[^\]]*\](?::[0-9]{1,5})?")
_PATH_BEGINS = frozenset("/?#")
_TRAILING = frozenset(".,;:!?'\"*_~…")
_BRACKETS = {")": "(", "]": "[", "}": "{"}

_OF_PARTS = re.compile(r"(?:imphash|import hash|authentihash|rich hash|telfhash|vhash)[\s:=\"'-]{0,9}$", re.IGNORECASE)
_FILE_IN_PATH = re.compile(r"(?<=/)[0-9A-Fa-f]{64}(?![0-9A-Za-z])")
_DOTTED = re.compile(r"[0-9](?<![\w.-].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![\w-]|\.\w)")
_CVE_IN = re.compile(r"[Cc][Vv][Ee](?<![A-Za-z0-9]...)[-‐‑–_ ][0-9]{4}[-‐‑–_ ][0-9]{4,19}(?![0-9A-Za-z])")
# Literal beginnings: the search for them costs next to nothing.
_ASN_IN = re.compile(r"AS(?:N[ :#-]{0,2}|[ ]?)[0-9]{1,10}(?![\w.]*\w)")
_ASN_SMALL_IN = re.compile(r"as(?:n[ :#]{0,2})?[0-9]{1,10}(?![\w.]*\w)")

_LAST_WORD = re.compile(r"[A-Za-z§]+$")
#: What stands before a number of four parts that is no address.
_VERSIONED = _words(
    """
    version versions ver release build rev v firmware driver update patch kernel section sections chapter figure
    table paragraph clause oid § openssl openssh apache nginx php java jquery windows chrome chromium firefox
    safari edge edg opera android linux python curl wordpress tomcat acrobat reader flash office exchange player
    """
)

#: Top-level domains that in prose are far more often a file's ending than a host's name. Only a bare name in the
#: middle of a text is doubted: a field that holds nothing else, a URL's host or a list's entry is what it says.
_FILE_LIKE_TLDS = _words("zip mov py sh pl rs ps md so java cab")
_NEVER_A_HOST = _words("py java zip md")
#: First labels of code rather than of names: ``this.name``, ``os.path``, ``window.open``.
_CODE = _words(
    """
    this self window document console request response req res event math json object array string system std os
    sys np pd e el obj item node data ctx config log logger options params args module exports process path fs app
    router operator datetime
    """
)
#: Top-level domains that are far more often an attribute (``result.name``) than the end of a name, unless that has a
#: hyphen, a digit or a www.
_ATTRIBUTE_TLDS = _words(
    """
    abc bar black blue build call case cat codes construction data day events foo green int map name new open prod
    properties read red select security storage style target
    """
)
#: Java and its kin name packages by reversed domains: ``com.example.foo.Bar``, ``org.apache.commons.io``.
_REVERSED = _words(
    """
    com org net edu gov io java javax jakarta sun android androidx kotlin scala de me
    """
)
#: Top-level domains under which a bare name is hardly ever anything but a name.
_PLAIN_TLDS = _words(
    """
    com net org edu gov mil info biz example ru cn de uk fr nl br jp kr ua eu top xyz online onion
    """
)
_PLATFORMS = frozenset({"ASP.NET", "VB.NET", "ADO.NET", "ML.NET"})


def _scheme_before(text: str, start: int, end: int) -> tuple[str, str]:
    """The URL scheme that ends at ``end``: as written, and what is meant by it; empty where there is none."""
    if text[end - 1 : end] not in _SCHEME_ENDS:
        return "", ""
    return _scheme_at_end(text[end - 6 if end - 6 > start else start : end])


@lru_cache(maxsize=4096)
def _scheme_at_end(text: str) -> tuple[str, str]:
    lower = text.lower()
    plain_one = next((scheme for scheme in _SCHEMES if lower.endswith(scheme)), "")
    odd_one, meant = scheme_at_end(text)
    if len(odd_one) > len(plain_one):
        return odd_one, meant
    return text[len(text) - len(plain_one) :], plain_one


class _Scan:
    """One text being read: what was found so far, and what is to be read again in its decoded form."""

    def __init__(self, text: str, *, nested: int = 0) -> None:
        """:param nested: in how many URLs the text stood"""
        self._plain = plain(text)
        self._text = self._plain.text
        self._marked = bool(self._plain.marks)
        self._nested = nested
        #: By value: no two types share one.
        self.found: dict[str, Extracted] = {}
        self.percent: list[_Encoded] = []
        self.base64: list[_Encoded] = []
        self.hex: list[_Encoded] = []

    def run(self) -> None:
        if "://" in self._text:
            self._text = self._take_urls(self._text)
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
            if self._marked:
                steps = tuple(step for step in self._plain.undone(start, start + length) if step != DEFANGED)
            self.found[value] = Extracted(kind, value, start if first is None else first.start, steps, derived, inner)

    # URLs

    def _take_urls(self, text: str) -> str:
        """Read the URLs, and give the text with blanks in their place."""
        kept: list[str] = []
        copied = 0
        self._run_end = self._next_url = 0
        place = text.find("://")
        while place >= 0:
            after = place + 3
            named, scheme = _scheme_before(text, copied, place)
            authority = _AUTHORITY.match(text, after) if scheme else None
            written = authority[0] if authority else ""
            if written[:1] == "[":
                if bracketed := _BRACKETED_HOST.match(written):
                    written = bracketed[0]
                elif ":" not in written:  # http://[a.example
                    after, written = after + 1, written[1:]
            elif authority and text[authority.end() : authority.end() + 1] not in _PATH_BEGINS:
                # The sentence's punctuation: "see http://a.example."
                written = written.rstrip("].:*_~!")
            # Quick to see, and the most that hostile text gets to: no name and no address is so.
            read = _authority(written) if "." in written or ":" in written or written[:1].isdecimal() else None
            if read:
                start, end = place - len(named), after + len(written)
                end = self._read_url(text, start, end, scheme, read)
                kept += (text[copied:start], " " * (end - start))
                copied = after = end
            place = text.find("://", after)
        return "".join((*kept, text[copied:])) if kept else text

    def _tail_end(self, text: str, path_at: int) -> int:
        """Where a path and query that begin here end at the latest. Each place of the text is looked at once."""
        if self._run_end <= path_at:
            stop = _TAIL_END.search(text, path_at)
            self._run_end = stop.start() if stop else len(text)
            self._next_url = 0
        if self._next_url <= path_at:
            following = _NEXT_URL.search(text, path_at, self._run_end)
            self._next_url = following.start() if following else self._run_end
        return self._next_url

    def _read_url(self, text: str, start: int, path_at: int, scheme: str, read: tuple[str, ObservableType, str]) -> int:
        """One URL whose authority ends at ``path_at``; gives where it ends."""
        authority, kind, host = read
        end = path_at
        if text[path_at : path_at + 1] in _PATH_BEGINS:
            end = self._tail_end(text, path_at)
        if end - start > LONGEST_URL:
            # No URL of ours, and too long to look for its end; what it carries is read like any text.
            self._add(start, path_at - start, kind, host, derived=True)
            return path_at
        tail = _trim(text[path_at:end])
        end = path_at + len(tail)
        self._add(start, end - start, URL, f"{scheme}://{authority}{tail}")
        self._add(start, end - start, kind, host, derived=True)
        if "://" in tail and self._nested < NESTED_URLS:
            inner = _Scan("", nested=self._nested + 1)
            inner._take_urls(tail)
            for item in inner.found.values():
                self._add(path_at + item.start, 0, item.type, item.value, item.derived, inner=True)
        if len(tail) > 64:
            for match in _FILE_IN_PATH.finditer(tail):  # an analysis page of that file
                self._add(path_at + match.start(), 64, FILE, match[0].lower(), inner=True)
        if "%" in tail or len(tail) > 15:
            for match in _PARAMETER.finditer(tail):
                self._note_encoded(path_at + match.start(), match[0], in_url=True)
        return end

    # all others

    def _read_pieces(self) -> None:
        text = self._text
        pieces = text.translate(_PARTING).split() if text.isascii() else _PIECE.findall(text)
        place = 0
        doubted: set[str] = set()
        # A word holds nothing, and by far the most pieces are one.
        for piece in [piece for piece in dict.fromkeys(pieces) if len(piece) > 15 or not piece.isalnum()]:
            if "." in piece or ":" in piece or "%" in piece or "@" in piece or len(piece) > 15:
                place = text.find(piece, place)
                if ("%" in piece or len(piece) > 15) and self._note_encoded(place, piece, in_url=False):
                    continue
                for offset, length, kind, value, derived in _read_piece(piece):
                    start, written = place + offset, piece[offset : offset + length]
                    if kind is IPV4 and self._is_version(start, written):
                        doubted.add(written)
                    elif (kind is not DOMAIN or self._is_name(start, written)) and (
                        kind is not FILE or self._is_of_a_file(start)
                    ):
                        self._add(start, length, kind, value, derived)
        if doubted:
            self._look_again(doubted)

    def _is_version(self, start: int, written: str) -> bool:
        before = self._text[start - 14 if start > 14 else 0 : start].rstrip(" :=/.\"'(")
        word = before.rpartition(" ")[2]
        if not word.isalpha():
            match = _LAST_WORD.search(word)
            if match is None:
                return False
            word = match[0]
        return word.lower() in _VERSIONED or (written.endswith(".0") and self._text[start - 1] == "/")

    def _is_of_a_file(self, start: int) -> bool:
        """An imphash or an Authentihash is a digest of parts of a file: no file is found by it."""
        return not _OF_PARTS.search(self._text, start - 24 if start > 24 else 0, start)

    def _look_again(self, doubted: set[str]) -> None:
        """Where a number was a version once, it may be an address elsewhere: one pass over all places."""
        text = self._text
        if len(doubted) < 9:  # nearly always: each stands there once, and counting is far quicker than the pattern
            doubted = {written for written in doubted if text.count(written) > 1}
        for match in _DOTTED.finditer(text) if doubted else ():
            if match[0] in doubted and not self._is_version(match.start(), match[0]):
                doubted.discard(match[0])
                self._add(match.start(), len(match[0]), IPV4, match[0])

    def _is_name(self, start: int, written: str) -> bool:
        """Whether what reads as a domain is not rather a file, a package, a piece of code, or two sentences."""
        end = start + len(written)
        if self._marked and DEFANGED in self._plain.undone(start, end):
            return True
        first, _, rest = written.partition(".")
        last = rest.rpartition(".")[2]
        tld, reversed_name = last.lower(), "." in rest and first.lower() in _REVERSED
        before = self._text[start - 1] if start else ""
        if (
            before == "$"
            or self._text[start - 2 : start] == "::"
            or (before == "\\" and self._text[start - 2 : start] != "\\\\")
        ):
            return False
        if tld in _PLAIN_TLDS and not (tld == "info" and first.lower() in _CODE):
            return written not in _PLATFORMS and not (reversed_name and last != tld)
        if tld in _ATTRIBUTE_TLDS and first != "www" and not _HYPHEN_OR_DIGIT.search(written):
            return False
        if tld == "app" and first[0].isupper():  # Safari.app
            return False
        if tld in _FILE_LIKE_TLDS and ("." not in rest or tld in _NEVER_A_HOST):
            return False
        if reversed_name or first.lower() in _CODE or self._text[end : end + 1] == "(":
            return False
        # "the end.It was" is two sentences, "Dr.No" is a person; "EVIL.IT" and "evil.it" are names.
        return not (last[0].isupper() and last[1:].islower())

    def _read_names(self) -> None:
        text = self._text
        if "CVE" in text or "cve" in text or "Cve" in text:
            for match in _CVE_IN.finditer(text):
                self._add(match.start(), len(match[0]), CVE, f"CVE-{match[0][4:8]}-{match[0][9:]}")
        seen: set[str] = set()
        for pattern in (_ASN_IN, _ASN_SMALL_IN):
            for match in pattern.finditer(text):
                before = text[match.start() - 1 : match.start()]
                if match[0] in seen or before.isalnum() or (before and before in "_-./@"):
                    continue
                seen.add(match[0])
                if value := _asn(match[0]):
                    self._add(match.start(), len(match[0]), ASN, value)

    # what is encoded

    def _note_encoded(self, start: int, piece: str, *, in_url: bool) -> bool:
        """Keep what a piece is once decoded for the next round; whether it needs no reading as it stands."""
        if "%" in piece and _PERCENT.search(piece):
            self.percent.append(_Encoded(start, piece, in_url))
            return True
        # Base64 of text that holds anything has letters of both kinds: aHR0, MjAz, LmNv.
        if len(piece) > 15 and not (piece.islower() or piece.isupper()):
            for match in _BASE64.finditer(piece):
                if (text := _from_base64(match[0])) is not None:
                    self.base64.append(_Encoded(start + match.start(), text.replace("\n", " "), in_url))
        if len(piece) > 23 and ("2f2f" in piece or "2F2F" in piece):
            for match in _HEX_URL.finditer(piece):
                text = bytes.fromhex(match[0]).decode("latin-1").replace("\n", " ")
                self.hex.append(_Encoded(start + match.start(), text, in_url))
        return False


_PARAMETER = re.compile(r"[^?&=#;]++")


def _trim(tail: str) -> str:
    """The path and query of a URL found in prose, without the punctuation that belongs to the sentence."""
    end = len(tail)
    if not tail or (tail[-1] not in _TRAILING and tail[-1] not in _BRACKETS):
        return tail
    surplus = {closing: tail.count(closing) - tail.count(opening) for closing, opening in _BRACKETS.items()}
    while end:
        last = tail[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return tail[:end]


def _scan(text: str, depth: int) -> Iterator[Extracted]:
    scan = _Scan(text)
    scan.run()
    yield from scan.found.values()
    if depth and scan.percent:
        # All at once, one a line: a line break that was encoded would be taken for the next piece.
        encoded = "\n".join(item.piece for item in scan.percent)
        yield from _decoded("percent", scan.percent, unquote(_BREAKS.sub(" ", encoded), errors="replace"), depth)
    for step, decoded in (("base64", scan.base64), ("hex", scan.hex)):
        if depth and decoded:
            yield from _decoded(step, decoded, "\n".join(item.piece for item in decoded), depth)


def _decoded(step: str, encoded: Sequence[_Encoded], lines: str, depth: int) -> Iterator[Extracted]:
    """What is in the pieces once they are decoded: all of them as the lines of one text, which is one scan."""
    starts, length = [], 0
    for line in lines.split("\n"):
        starts.append(length)
        length += len(line) + 1
    for item in _scan(lines, depth - 1):
        # Undoing only ever shortens a text, so this is the line or, after much of it, an earlier one.
        source = encoded[bisect_right(starts, item.start) - 1]
        in_clear = step == "percent" and len(source.piece) < LONGEST_URL and item.value in source.piece.lower()
        if source.in_url and step == "percent" and not item.derived and (in_clear or item.type is DOMAIN):
            continue
        steps = item.steps if in_clear else (step, *item.steps)
        # A field that was sent percent-encoded as a whole is the field all the same.
        inner = item.inner or source.in_url or step != "percent"
        yield Extracted(item.type, item.value, source.start, steps, item.derived, inner)


def extract_text(text: str) -> tuple[Extracted, ...]:
    """
    Every observable in a text, each once, in order of first place.

    A URL's host is an observable as well (``derived``); an e-mail address's domain is not: it is the victim's more
    often than not.
    """
    found: dict[str, Extracted] = {}
    for item in sorted(_scan(text, DEPTH), key=_BY_START):
        first = found.setdefault(item.value, item)
        if (first.inner, first.derived) > (item.inner, item.derived):
            found[item.value] = item._replace(start=first.start)
    return tuple(found.values())


_BY_START = itemgetter(2)


# --- a finding ---------------------------------------------------------------------------------------------------


#: Roles that cannot become a block. In the others, what a URL or an encoded piece carries is only mentioned: whoever
#: asks for http://evil.example/?next=http://good.example/ has not met good.example.
_HARMLESS = frozenset({Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED})
#: Roles in which what is ours belongs.
_OURS = frozenset({Role.VICTIM, Role.INTERNAL})


class OwnSurface:
    """What in a finding is our own API and hence no indicator, wherever it is but as the victim."""

    def __init__(self, hosts: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
        """
        :param hosts: domain names; every name below them is ours too
        :param paths: paths such as ``/v1/geo.lookup``, parts of which may look like names
        """
        self._hosts = frozenset(hosts)
        longest_first = sorted(paths, key=len, reverse=True)
        written = "|".join(map(re.escape, longest_first))
        self._paths = re.compile(rf"(?:{written})(?![\w.-])") if written else None

    def without_paths(self, text: str) -> str:
        return self._paths.sub(" ", text) if self._paths else text

    def has(self, item: Extracted) -> bool:
        if not self._hosts or item.type not in (DOMAIN, URL, EMAIL):
            return False
        host = item.value
        if item.type is URL:
            host = _AUTHORITY_END.split(host.partition("://")[2], maxsplit=1)[0]
            host = host.rpartition("@")[2].partition(":")[0]
        elif item.type is EMAIL:
            host = host.rpartition("@")[2]
        labels = host.split(".")
        return any(".".join(labels[place:]) in self._hosts for place in range(len(labels)))


NOTHING_OWN = OwnSurface()


def extract_finding(finding: Finding, own: OwnSurface = NOTHING_OWN) -> Iterator[tuple[Observable, Sighting]]:
    """Every observable of a finding, with where and in what role it was seen."""
    for mention in finding.mentions:
        ours = mention.role in _OURS
        for item in _in_field(mention.text if ours else own.without_paths(mention.text), mention.role):
            if not ours and own.has(item):
                continue
            sighting = Sighting(
                finding_uid=finding.uid,
                field=mention.field,
                role=Role.MENTIONED if item.inner and mention.role not in _HARMLESS else mention.role,
                seen_at=finding.detected_at,
                steps=item.steps,
            )
            yield item.observable, sighting


def _in_field(text: str, role: Role) -> Sequence[Extracted]:
    items = extract_text(text)
    # A field that holds nothing but a name says that it is one, even where prose would mean a file (evil.zip).
    name = _domain(text.strip()) if not items and role is not Role.MENTIONED and len(text) < 300 else None
    return [Extracted(DOMAIN, name, 0)] if name else items


def observe(findings: Iterable[Finding], own: OwnSurface = NOTHING_OWN) -> tuple[Observed, ...]:
    """
    The observables of a batch of findings, with all sightings.

    The same input gives the same output, byte for byte: observables by key, sightings by time, finding, field.
    """
    sightings: dict[Observable, list[Sighting]] = {}
    for finding in findings:
        for observable, sighting in extract_finding(finding, own):
            sightings.setdefault(observable, []).append(sighting)
    return tuple(
        Observed(observable=observable, sightings=_ordered(sightings[observable]))
        for observable in sorted(sightings, key=lambda o: o.key)
    )


def _ordered(sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    unique = dict.fromkeys(sightings)
    return tuple(sorted(unique, key=lambda s: (s.seen_at, s.finding_uid, s.field, s.role.value, s.steps)))
