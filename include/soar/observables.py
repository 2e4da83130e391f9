"""Text and findings -> observables. Pure, linear, no network: the public-suffix list is the one inside tldextract.

Plain and correct; what is not clearly an indicator is left out. Every pattern is bounded, or possessive behind a
literal, and has no nested quantifier, so no input can stall it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import tldextract

from include.soar.model import HASH_BY_LENGTH, Finding, Observable, ObservableType, Observed, Sighting

#: Offline: neither fetches a newer list nor writes a cache.
_SUFFIXES = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)

#: RFC 6761 names that documentation and the demo use; not on the public-suffix list.
_DOCUMENTATION_TLDS = frozenset({"example"})
#: Top-level domains that in prose are far more often a file's ending than a host's name. Only a bare name in the
#: middle of a text is doubted: a field that holds nothing else, a URL's host or a list's entry is what it says.
_FILE_LIKE_TLDS = frozenset({"zip", "mov", "py", "sh", "pl", "rs", "ps", "md", "so", "java", "app", "cab"})

_ZERO_WIDTH = re.compile("[\u200b-\u200f\u2060\u00ad\ufeff]")
_DEFANGED = (
    (re.compile(r"h(?:xx|\*\*|XX)p(s?)(?=\[?:)", re.I), r"http\1"),
    (re.compile(r"\[(:/{0,2}|/{1,2})\]"), r"\1"),
    (re.compile(r"[\[({]\s?(?:\.|dot)\s?[\])}]", re.I), "."),
    (re.compile(r"[\[({]\s?(?:@|at)\s?[\])}]", re.I), "@"),
    (re.compile(r"\\\."), "."),
)

# Without an upper bound: a URL that is cut would be another URL. One that is too long is left out, its host is not.
_URL = re.compile(r"\b(?:https?|ftp)://[^\s<>\"'`\x00-\x20\\^|{}]{3,}+", re.I)
_EMAIL = re.compile(r"(?<![\w.+%-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{1,252}[A-Za-z]\b")
# Not what goes on as a name: 7.113.0.203.in-addr.arpa holds another address's digits, backwards.
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)")
# A label in front (src:2001:db8::1) has a letter that is no hexadecimal digit.
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[A-Za-z_]{0,15}[G-Zg-z_][A-Za-z_]{0,15}:)?"
    r"([0-9A-Fa-f:]{0,39}:[0-9A-Fa-f:.]{1,39}(?:%[\w.-]{1,16})?)(?![\w:])"
)
# 126 labels before the last are the most that a name's 253 characters hold: a name is never cut.
_DOMAIN = re.compile(
    r"(?<![\w@./-])(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.){1,126}[A-Za-z][A-Za-z0-9-]{1,62}\.?(?![\w@(-])"
)
#: Not next to a dot and a letter, as in a tunnel's domain name, whose labels look like hashes.
_HASH = re.compile(r"(?<![0-9A-Za-z])(?<![0-9A-Za-z]\.)[0-9A-Fa-f]{32,128}(?![0-9A-Za-z]|\.[0-9A-Za-z])")
_VERSION_BEFORE = re.compile(r"(?:version|ver|release|build|rev|v)[\s:=/.]{0,2}$", re.I)
#: Chrome/120.0.0.0 is a browser. (outside/203.0.113.5, as firewalls write it, is an address.)
_PRODUCT_BEFORE = re.compile(r"[A-Za-z]/$")
Parser = Callable[[str], Observable | None]

_BLANK = re.compile(r"[\s\x00-\x20\x7f]")
_TRAILING = ".,;:!?'\"*_~"
_BRACKETS = {")": "(", "]": "[", "}": "{"}


def refang(text: str) -> str:
    """Text with the usual defanging undone: ``hxxps[:]//a[.]example`` -> ``https://a.example``."""
    text = _ZERO_WIDTH.sub("", text)
    for pattern, plain in _DEFANGED:
        text = pattern.sub(plain, text)
    return text


def parse_address(text: str) -> Observable | None:
    """
    One address in any of its written forms, canonical; None for anything else.

    An IPv6 zone id is dropped and an IPv4-mapped address is the IPv4 address. IPv4 octets with leading zeros
    are refused: half of the world reads them as octal.
    """
    try:
        address = ipaddress.ip_address(text.strip().strip("[]").split("%", 1)[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    kind = ObservableType.IPV4 if address.version == 4 else ObservableType.IPV6
    return Observable(type=kind, value=str(address))


@lru_cache(maxsize=65536)
def parse_domain(text: str) -> Observable | None:
    """A domain name that has a registrable part, lower-case, A-labels, without trailing dot; None otherwise."""
    name = text.strip().rstrip(".").lower()
    if not 3 < len(name) < 254 or ".." in name:
        return None
    try:
        name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        return None
    if any(not label or len(label) > 63 for label in name.split(".")):
        return None
    last = name.rsplit(".", 1)[-1]
    if last not in _DOCUMENTATION_TLDS:
        parts = _SUFFIXES(name)
        if not parts.suffix or not parts.domain:
            return None
    elif "." not in name:
        return None
    return Observable(type=ObservableType.DOMAIN, value=name)


def parse_hash(text: str) -> Observable | None:
    """An MD5, SHA-1, SHA-256 or SHA-512 in hexadecimal; None otherwise, also for a run of one digit."""
    value = text.strip().lower()
    if len(value) not in HASH_BY_LENGTH or not re.fullmatch(r"[0-9a-f]+", value) or len(set(value)) < 4:
        return None
    return Observable(type=ObservableType.FILE, value=value)


def parse_url(text: str) -> Observable | None:
    """An absolute http, https or ftp URL with a real host: scheme and host lower-case, the rest as it is."""
    if _BLANK.search(text):  # urlsplit would quietly take it out, and the URL would be another
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme.lower() not in ("http", "https", "ftp"):
        return None
    named = parse_address(host) or parse_domain(host)
    if named is None:
        return None
    shown = f"[{named.value}]" if named.type is ObservableType.IPV6 else named.value
    user = parts.netloc.rpartition("@")[0]
    authority = (f"{user}@" if user else "") + shown + (f":{port}" if port is not None else "")
    rest = text[text.index("://") + 3 + len(parts.netloc) :]
    value = f"{parts.scheme.lower()}://{authority}{rest}"
    return Observable(type=ObservableType.URL, value=value) if len(value) <= 4096 else None


def _trim(url: str) -> str:
    """A URL found in prose, without the punctuation that belongs to the sentence."""
    surplus = {closing: url.count(closing) - url.count(opening) for closing, opening in _BRACKETS.items()}
    end = len(url)
    while end:
        last = url[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return url[:end]


def _parse_host(url: str) -> Observable | None:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    return parse_address(host) or parse_domain(host)


def _parse_email(text: str) -> Observable | None:
    local, _, domain = text.rpartition("@")
    if parse_domain(domain) is None:
        return None
    return Observable(type=ObservableType.EMAIL, value=f"{local}@{domain.lower()}")


def extract_text(text: str) -> list[Observable]:
    """
    Every observable in a text, each once, in order of first place.

    A URL's host is an observable as well; an e-mail address's domain is not (it is the victim's more often than
    not).
    """
    text = refang(text)
    # By parser and written form: what is written again is not parsed again.
    found: dict[tuple[Parser, str], tuple[int, Observable] | None] = {}
    taken: list[tuple[int, int]] = []

    def add(start: int, written: str, parse: Parser) -> bool:
        key = (parse, written)
        if key not in found:
            observable = parse(written)
            found[key] = (start, observable) if observable is not None else None
        if found[key] is None:
            return False
        taken.append((start, start + len(written)))
        return True

    for match in _URL.finditer(text):
        url = _trim(match.group())
        add(match.start(), url, parse_url)
        add(match.start(), url, _parse_host)
    for match in _free(_EMAIL, text, taken):
        add(match.start(), match.group(), _parse_email)
    for match in _free(_IPV6, text, taken):  # before IPv4: ::ffff:192.0.2.1 is one address
        written = match.group(1).rstrip(".")
        if written.count(":") >= 2 and written.strip(":"):
            # "2001:db8::1: connection reset"
            add(match.start(1), written, parse_address) or add(match.start(1), written.removesuffix(":"), parse_address)
    for match in _free(_IPV4, text, taken):
        before = text[max(0, match.start() - 12) : match.start()]
        product = match.group().endswith(".0") and _PRODUCT_BEFORE.search(before)
        if not product and not _VERSION_BEFORE.search(before):
            add(match.start(), match.group(), parse_address)
    for match in _free(_HASH, text, taken):
        add(match.start(), match.group(), parse_hash)
    for match in _free(_DOMAIN, text, taken):
        name = match.group()
        if name == text.strip() or name.rstrip(".").rsplit(".", 1)[-1].lower() not in _FILE_LIKE_TLDS:
            add(match.start(), name, parse_domain)
    in_order = sorted((first for first in found.values() if first), key=lambda first: first[0])
    return list(dict.fromkeys(observable for _, observable in in_order))


def _free(pattern: re.Pattern[str], text: str, taken: list[tuple[int, int]]) -> Iterator[re.Match[str]]:
    """Matches that do not lie in what an earlier pattern took. One pass: both sides are in order."""
    spans = sorted(taken)
    place, reach = 0, -1
    for match in pattern.finditer(text):
        start = match.start(pattern.groups)
        while place < len(spans) and spans[place][0] <= start:
            reach = max(reach, spans[place][1])
            place += 1
        if start >= reach:
            yield match


def extract_finding(finding: Finding) -> Iterator[tuple[Observable, Sighting]]:
    """Every observable of a finding, with where and in what role it was seen."""
    for mention in finding.mentions:
        for observable in extract_text(mention.text):
            sighting = Sighting(
                finding_uid=finding.uid, field=mention.field, role=mention.role, seen_at=finding.detected_at
            )
            yield observable, sighting


def observe(findings: Iterable[Finding]) -> tuple[Observed, ...]:
    """
    The observables of a batch of findings, with all sightings.

    The same input gives the same output, byte for byte: observables by key, sightings by time, finding, field.
    """
    sightings: dict[Observable, list[Sighting]] = {}
    for finding in findings:
        for observable, sighting in extract_finding(finding):
            sightings.setdefault(observable, []).append(sighting)
    return tuple(
        Observed(observable=observable, sightings=_ordered(sightings[observable]))
        for observable in sorted(sightings, key=lambda o: o.key)
    )


def _ordered(sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    unique = dict.fromkeys(sightings)
    return tuple(sorted(unique, key=lambda s: (s.seen_at, s.finding_uid, s.field, s.role.value)))
