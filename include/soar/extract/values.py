"""One value at a time: text to its canonical form, or None. Pure, no network, and linear in the text.

``parse_*`` give an :class:`Observable` and take what a person or a vendor wrote; ``read_*`` give its type and value, or
its value alone, and are what extraction calls for each piece of a text. ``KINDS`` has both sides of each type.

The public-suffix list is the one inside tldextract (docs/decisions/0010); importing that takes far longer than
reading a value, so it is imported when the first name is read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from socket import AF_INET6, inet_ntoa, inet_ntop, inet_pton
from types import MappingProxyType
from typing import NamedTuple

from include.soar.extract.names import ascii_name
from include.soar.model import HASH_BY_LENGTH, Observable, ObservableType

IPV4, IPV6, CIDR = ObservableType.IPV4, ObservableType.IPV6, ObservableType.CIDR
DOMAIN, URL, EMAIL = ObservableType.DOMAIN, ObservableType.URL, ObservableType.EMAIL
FILE, CVE, ASN = ObservableType.FILE, ObservableType.VULNERABILITY, ObservableType.ASN

LONGEST_URL = 4096
LONGEST_NAME = 253


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


URL_SCHEMES = word_set(
    """
    http https file ftp ftps sftp tftp ssh telnet ldap ldaps rmi dns ws wss smb tcp udp git svn rtsp irc ircs
    """
)
#: Schemes of which a browser takes a backslash for a slash, with the port that need not be written: RFC 3986 6.2.3,
#: https://url.spec.whatwg.org/#special-scheme
DEFAULT_PORTS: Mapping[str, str] = MappingProxyType(
    {"http": ":80", "https": ":443", "ftp": ":21", "ws": ":80", "wss": ":443"}
)
#: What ends the authority of a URL. https://good.example\\@evil.example/ is a page of good.example.
AUTHORITY_END = re.compile(r"[/?#\\]")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
DOTTED_QUAD = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_MAPPED = bytes(10) + b"\xff\xff"
_COMPATIBLE = bytes(8)
_HEX = "0123456789ABCDEFabcdef"
_ASN = re.compile(r"ASN?[ :#-]{0,2}([0-9]{1,10})", re.IGNORECASE)
_CVE = re.compile(r"CVE[-‐‑–_ ]([0-9]{4})[-‐‑–_ ]([0-9]{4,19})", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*+")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}){0,31}")
_QUERY = re.compile(r"[?#]")
_BLANK = re.compile(r"[\s\x00-\x20\x7f]")


# --- addresses and networks --------------------------------------------------------------------------------------


def parse_address(text: str) -> Observable | None:
    """
    One address in any of its written forms, canonical; None for anything else.

    An IPv6 zone id is dropped and an IPv4-mapped address is the IPv4 address. IPv4 octets with leading zeros
    are refused: half of all programs read them as octal.
    """
    read = read_address(text.strip())
    return Observable(type=read[0], value=read[1]) if read else None


def read_address(text: str) -> tuple[ObservableType, str] | None:
    """As :func:`parse_address`, for a text without blanks around it."""
    if DOTTED_QUAD.fullmatch(text):
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


def parse_network(text: str) -> Observable | None:
    """``192.0.2.7/24`` -> the network 192.0.2.0/24; a network of one address is that address."""
    written, slash, length = text.strip().partition("/")
    read = read_network(written, length) if slash else None
    return Observable(type=read[0], value=read[1]) if read else None


def read_network(written: str, length: str) -> tuple[ObservableType, str] | None:
    """A network, or the address where it is a network of one, given what is before and after the slash."""
    address = read_address(written)
    if address is None or not (length.isdecimal() and length.isascii()) or len(length) > 3:
        return None
    kind, value = address
    width = 32 if kind is IPV4 else 128
    prefix = int(length) - (96 if kind is IPV4 and ":" in written else 0)  # IPv4-mapped
    if not 0 <= prefix <= width:
        return None
    return (CIDR, str(ipaddress.ip_network((value, prefix), strict=False))) if prefix < width else address


# --- names -------------------------------------------------------------------------------------------------------


#: The rules of the public-suffix list, with ``*.`` and ``!``, as A-labels; the last labels of those with ``*.``; and
#: every last label. Empty until the first name is read. Sets of the module, since each name asks them.
_RULES: set[str] = set()
_WILD: set[str] = set()
_TOP: set[str] = set()


def _load_suffixes() -> None:
    import tldextract

    # Offline: this neither fetches a newer list nor writes a cache.
    listed = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True).tlds
    # "example" is RFC 6761's, which documentation and the demo use.
    rules = {name for suffix in (*listed, "example") if (name := ascii_name(suffix))}
    _RULES.update(rules)
    _WILD.update({rule.rpartition(".")[2] for rule in rules if rule.startswith("*.")})
    # Last, for this one tells other threads that all three are complete.
    _TOP.update({rule.rpartition(".")[2] for rule in rules})


@lru_cache(maxsize=16384)
def read_domain(text: str) -> str | None:
    """As :func:`parse_domain`, for a text without blanks around it."""
    name = text.lower() if text.isascii() else ascii_name(text) or ""
    if name[-1:] == ".":
        name = name.rstrip(".")
    if not _TOP:
        _load_suffixes()
    rest, _, last = name.rpartition(".")
    if last not in _TOP or not 3 < len(name) <= LONGEST_NAME or not _NAME.fullmatch(name):
        return None
    # No registry sells a name with an underscore; below one it is allowed (_dmarc.evil.example).
    if "_" in name and "_" in rest.rpartition(".")[2]:
        return None
    if ".." in name or "-." in name or ".-" in name or (len(name) > 64 and any(len(x) > 63 for x in rest.split("."))):
        return None
    if name in _RULES or (last in _WILD and _is_wild(name)):
        return None
    return name


def _is_wild(name: str) -> bool:
    """Whether a rule such as ``*.ck`` makes it a public suffix."""
    return f"*.{name.partition('.')[2]}" in _RULES and f"!{name}" not in _RULES


def parse_domain(text: str) -> Observable | None:
    """A domain name that has a registrable part, lower-case, A-labels, without trailing dot; None otherwise."""
    name = read_domain(text.strip()) if len(text) < 1000 else None
    return Observable(type=DOMAIN, value=name) if name else None


def parse_email(text: str) -> Observable | None:
    """An e-mail address: the local part as it is, the domain in lower case."""
    value = read_email(text.strip())
    return Observable(type=EMAIL, value=value) if value else None


def read_email(text: str) -> str | None:
    """As :func:`parse_email`, for a text without blanks around it."""
    local, at, name = text.rpartition("@")
    if not at or len(local) > 64 or len(name) > 1000 or not _LOCAL.fullmatch(local):
        return None
    domain = read_domain(name)
    return f"{local}@{domain}" if domain else None


# --- hashes, CVEs, AS numbers --------------------------------------------------------------------------------------


def parse_hash(text: str) -> Observable | None:
    """An MD5, SHA-1, SHA-256 or SHA-512 in hexadecimal; None otherwise, also for nothing but 0 or f."""
    value = read_hash(text.strip())
    return Observable(type=FILE, value=value) if value else None


def read_hash(text: str) -> str | None:
    """As :func:`parse_hash`, for a text without blanks around it."""
    if len(text) not in HASH_BY_LENGTH or text.strip(_HEX):
        return None
    value = text.lower()
    return None if value.strip("0") == "" or value.strip("f") == "" else value


def parse_cve(text: str) -> Observable | None:
    """``cve-2026-0001`` -> ``CVE-2026-0001``."""
    match = _CVE.fullmatch(text.strip())
    return Observable(type=CVE, value=f"CVE-{match[1]}-{match[2]}") if match else None


def parse_asn(text: str) -> Observable | None:
    """``ASN 64496`` -> ``AS64496``."""
    value = read_asn(text.strip())
    return Observable(type=ASN, value=value) if value else None


def read_asn(text: str) -> str | None:
    """As :func:`parse_asn`, for a text without blanks around it."""
    match = _ASN.fullmatch(text)
    number = int(match[1]) if match else 0
    return f"AS{number}" if 0 < number < 2**32 else None


# --- URLs --------------------------------------------------------------------------------------------------------


def parse_url(text: str) -> Observable | None:
    """
    An absolute URL with a real host: scheme and host lower-case, the scheme's own port left out, an empty path "/", the
    rest as it is.

    A host that is an address in one of the forms that only browsers read (``0x7f.1``) is that address. None for a
    URL of more than 4,096 characters: one that is cut would be another URL.
    """
    scheme, mark, rest = text.partition("://")
    # A browser would quietly take a blank out, and the URL would be another.
    if not mark or scheme.lower() not in URL_SCHEMES or _BLANK.search(text):
        return None
    end = AUTHORITY_END.search(rest)
    authority = rest[: end.start()] if end else rest
    read = read_authority(authority)
    value = url_of(scheme.lower(), read[0], rest[len(authority) :]) if read else ""
    return Observable(type=URL, value=value) if 0 < len(value) <= LONGEST_URL else None


def url_of(scheme: str, authority: str, tail: str) -> str:
    """
    A URL as we compare it: ``http://a.example``, ``http://a.example:80`` and ``http://a.example/`` are one.

    The slash at the end of a longer path does matter.

    :param authority: as :func:`read_authority` gives it
    :param tail: path, query and fragment
    """
    if port := DEFAULT_PORTS.get(scheme):
        authority = authority.removesuffix(port)
        if "\\" in tail:
            path = _QUERY.split(tail, maxsplit=1)[0]
            tail = path.replace("\\", "/") + tail[len(path) :]
        if tail[:1] != "/":
            tail = f"/{tail}"
    return f"{scheme}://{authority}{tail}"


@lru_cache(maxsize=16384)
def read_authority(text: str) -> tuple[str, ObservableType, str] | None:
    """The authority of a URL with its host in canonical form, then that host's type and value."""
    user, at, place = text.rpartition("@")
    if user and (place.upper() == "SSL" or (place.isdecimal() and len(place) < 6)):
        # Windows' WebDAV: file://host@SSL/x, file://host@8080/x.
        inside = read_authority(user)
        return (f"{inside[0]}@{place}", *inside[1:]) if inside else None
    if place[:1] == "[":
        host, _, port = place[1:].partition("]")
        named = read_address(host) if ":" in host else None
        port = port[1:] if port[:1] == ":" else port and "?"
    else:
        host, _, port = place.partition(":")
        if "." not in host and not host[:1].isdecimal():
            return None
        name = read_domain(host) if len(host) < 1000 else None
        named = (DOMAIN, name) if name else read_address(host) or _browser_address(host)
    if named is None or (port and not (port.isdecimal() and port.isascii() and int(port) < 65536)):
        return None
    kind, value = named
    shown = f"[{value}]" if kind is IPV6 else value
    return f"{user}{at}{shown}{f':{int(port)}' if port else ''}", kind, value


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
    """The address meant. Fewer than four decimal numbers, or one small one (http://8080/), is a slip of the pen."""
    name = host.lower().removesuffix(".")
    packed = browser_number(name) if len(name) <= 60 else None
    if packed is None or not packed[0] or (0 < name.count(".") < 3 and "x" not in name):
        return None
    return IPV4, inet_ntoa(packed)


# --- all of them -------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """
    What a type of observable is.

    :param words: what a person calls it
    :param parse: text to an observable of this type; that of an address gives either family, and that of a network
        gives an address where it is a network of one
    """

    words: str
    parse: Callable[[str], Observable | None]


#: Every type, in the order in which a text that may be any of them is tried: the first that reads it is right.
KINDS: Mapping[ObservableType, Kind] = MappingProxyType(
    {
        IPV4: Kind("address", parse_address),
        IPV6: Kind("address", parse_address),
        CIDR: Kind("network", parse_network),
        FILE: Kind("hash", parse_hash),
        CVE: Kind("CVE", parse_cve),
        ASN: Kind("AS number", parse_asn),
        URL: Kind("URL", parse_url),
        EMAIL: Kind("e-mail address", parse_email),
        DOMAIN: Kind("domain", parse_domain),
    }
)


def parse_any(text: str) -> Observable | None:
    """A value of any type."""
    return next((found for kind in KINDS.values() if (found := kind.parse(text))), None)
