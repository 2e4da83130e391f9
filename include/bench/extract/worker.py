"""
One extractor in a process of its own, so that one that hangs can be ended: ``python worker.py NAME``.

Reads one JSON list of texts a line, answers one JSON object a line: ``found`` (per text, pairs of type and value) and
``seconds`` (CPU, all texts together). Needs the standard library, the package idna and the extractor.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Pair = tuple[str, str]
Extractor = Callable[[str], set[Pair]]
#: RFC 3986 6.2.3: an empty path is "/", and a scheme's own port need not be written.
_PORTS = {"http": ":80", "https": ":443", "ftp": ":21", "ws": ":80", "wss": ":443"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?#]*)@)?([^/?#]*)(.*)", re.DOTALL)


_DEFANGED = re.compile(r"[\[({]\s?(?:(?P<dot>\.|dot)|(?P<at>@|at)|(?P<as_it_is>:|://|/))\s?[\])}]", re.IGNORECASE)


def pair(kind: str, value: str) -> Pair:
    """A peer's find in our canonical form, so that nobody loses by spelling; as it is where it has no such form."""
    plain = _DEFANGED.sub(lambda m: "." if m["dot"] else "@" if m["at"] else m["as_it_is"], value.strip())
    try:
        return _canonical(kind, re.sub(r"^(?:hxxp|fxp)(?=s?://)", lambda m: "http" if m[0] == "hxxp" else "ftp", plain))
    except ValueError:
        return kind, value


def _canonical(kind: str, value: str) -> Pair:
    match kind:
        case "ipv4-addr":
            return kind, str(ipaddress.IPv4Address(".".join(str(int(octet)) for octet in value.split("."))))
        case "ipv6-addr":
            address = ipaddress.IPv6Address(value.partition("%")[0])
            return ("ipv4-addr", str(address.ipv4_mapped)) if address.ipv4_mapped else (kind, str(address))
        case "cidr":
            network = ipaddress.ip_network(value, strict=False)
            return (kind, str(network)) if network.num_addresses > 1 else pair(f"ipv{network.version}-addr", value[:-3])
        case "domain-name":
            return kind, _ascii(value.rstrip("."))
        case "email-addr":
            local, _, domain = value.rpartition("@")
            return kind, f"{local}@{_ascii(domain)}"
        case "url":
            return kind, _url(value)
        case "vulnerability":
            return kind, value.upper()
        case "autonomous-system":
            return kind, f"AS{int(re.sub('[^0-9]', '', value))}"
    return kind, value.lower()


def _ascii(name: str) -> str:
    """:raises ValueError: no browser would look it up"""
    from include.soar.extract.names import ascii_name

    spelled = ascii_name(name)
    if spelled is None:
        raise ValueError(f"{name!r} is no name")
    return spelled


def _url(value: str) -> str:
    match = _URL.fullmatch(value)
    if not match:
        raise ValueError("no URL with a scheme")
    scheme, user, host, rest = match.groups()
    if bracketed := re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](:[0-9]+)?", host):
        host = f"[{ipaddress.IPv6Address(bracketed[1])}]{bracketed[2] or ''}"
    else:
        host = _ascii(host)
    if port := _PORTS.get(scheme.lower()):
        host, rest = host.removesuffix(port), rest if rest[:1] == "/" else f"/{rest}"
    return f"{scheme.lower()}://{f'{user}@' if user is not None else ''}{host}{rest}"


def ours() -> Extractor:
    from include.soar.extract.text import extract_text

    return lambda text: {(item.type.value, item.value) for item in extract_text(text)}


def ioc_finder() -> Extractor:
    from ioc_finder import find_iocs

    kinds = {
        **{"ipv4s": "ipv4-addr", "ipv6s": "ipv6-addr", "ipv4_cidrs": "cidr", "domains": "domain-name", "urls": "url"},
        **{"email_addresses": "email-addr", "cves": "vulnerability", "asns": "autonomous-system"},
        **dict.fromkeys(("md5s", "sha1s", "sha256s", "sha512s"), "file"),
    }

    def extract(text: str) -> set[Pair]:
        found = find_iocs(text, parse_unicode_iocs=True, included_ioc_types=list(kinds))
        # Without a scheme it names a path on a host; the host is among the domains.
        return {pair(kinds[k], v) for k, values in found.items() for v in values if k != "urls" or "://" in v}

    return extract


def iocextract() -> Extractor:
    import iocextract as peer

    hashes = (
        *(peer.extract_md5_hashes, peer.extract_sha1_hashes),
        *(peer.extract_sha256_hashes, peer.extract_sha512_hashes),
    )

    def extract(text: str) -> set[Pair]:
        found = {pair("ipv4-addr", value) for value in peer.extract_ipv4s(text, refang=True)}
        found |= {pair("ipv6-addr", value) for value in peer.extract_ipv6s(text)}
        found |= {pair("email-addr", value) for value in peer.extract_emails(text, refang=True)}
        found |= {pair("file", value) for each in hashes for value in each(text)}
        found |= {pair("url", value) for value in peer.extract_encoded_urls(text, refang=True)}
        for written in peer.extract_unencoded_urls(text):
            value = peer.refang_data(written)
            if re.match(r"\W*\w+ ?(?::|\[:|__)", written):
                found.add(pair("url", value))
            elif match := _URL.fullmatch(value):  # it has no type for domains: example[.]com is its URL
                found.add(pair("domain-name", match[3].partition(":")[0]))
        return found

    return extract


def iocsearcher() -> Extractor:
    import logging

    from iocsearcher.searcher import Searcher

    logging.disable(logging.CRITICAL)
    searcher = Searcher()
    kinds = {
        **{"ip4": "ipv4-addr", "ip6": "ipv6-addr", "ip4Net": "cidr", "fqdn": "domain-name", "url": "url"},
        **{"onionAddress": "domain-name", "email": "email-addr", "cve": "vulnerability"},
        **dict.fromkeys(("md5", "sha1", "sha256", "sha512"), "file"),
    }
    return lambda text: {pair(kinds[i.name], i.value) for i in searcher.search_data(text, targets=set(kinds))}


def msticpy() -> Extractor:
    from msticpy.transform.iocextract import IoCExtract

    extractor = IoCExtract()
    kinds = {
        **{"ipv4": "ipv4-addr", "ipv6": "ipv6-addr", "dns": "domain-name", "url": "url", "email": "email-addr"},
        **dict.fromkeys(("md5_hash", "sha1_hash", "sha256_hash"), "file"),
    }

    def extract(text: str) -> set[Pair]:
        return {pair(kinds[k], v) for k, values in extractor.extract(text).items() if k in kinds for v in values}

    return extract


EXTRACTORS: dict[str, Callable[[], Extractor]] = {
    "ours": ours,
    "ioc-finder": ioc_finder,
    "iocextract": iocextract,
    "iocsearcher": iocsearcher,
    "msticpy": msticpy,
}


def answer(extract: Extractor, texts: list[str]) -> dict[str, Any]:
    found: list[list[Pair]] = []
    started_at = time.process_time()
    for text in texts:
        try:
            found.append(sorted(extract(text)))
        except Exception:  # whatever a library raises: it has found nothing
            found.append([])
    return {"found": found, "seconds": time.process_time() - started_at}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    extract = EXTRACTORS[sys.argv[1]]()
    extract("warm up: 192.0.2.1 http://a.example/")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(extract, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
