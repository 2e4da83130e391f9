"""TODO: what values is."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from socket import AF_INET6, inet_ntoa, inet_ntop, inet_pton

import tldextract

from include.soar.extract.refang import scheme_at_end
from include.soar.model import HASH_BY_LENGTH, Observable, ObservableType

IPV4, IPV6, CIDR = ObservableType.IPV4, ObservableType.IPV6, ObservableType.CIDR
DOMAIN, URL, EMAIL = ObservableType.DOMAIN, ObservableType.URL, ObservableType.EMAIL
FILE, CVE, ASN = ObservableType.FILE, ObservableType.VULNERABILITY, ObservableType.ASN


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


_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


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


_SCHEMES = tuple(sorted(URL_SCHEMES, key=len, reverse=True))
_SCHEME_ENDS = (
    frozenset(scheme[-1] for scheme in URL_SCHEMES) | {scheme[-1].upper() for scheme in URL_SCHEMES} | set("xXwW*")
)
