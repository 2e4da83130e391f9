"""TODO: what hosts is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from socket import AF_INET6, inet_aton, inet_pton
from urllib.parse import unquote

from include.soar.extract.values import browser_number
from include.soar.model import Observable, ObservableType

#: A URL without anything that would have to be read with care, and its host.
_PLAIN_URL = re.compile(
    r"https?+://([a-z0-9._-]++)(?<!\.)(?::[0-9]*+)?(?:[/?#]|\Z)",
).match
#: The same of many, one a line: one call for all of them.
_PLAIN_URLS = re.compile(
    r"^(?:https?+://([a-z0-9._-]++)(?<!\.)(?::[0-9]*+)?(?=[/?#]|$))?.*$",
    re.MULTILINE,
).findall
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_END_OF_AUTHORITY = re.compile(r"[/?#]")
#: What a browser leaves out of a URL, and what it cuts at both ends.
_DROPPED = {9: None, 10: None, 13: None}
_CONTROLS = "".join(map(chr, range(33)))


def _plain_hosts(urls: Sequence[str]) -> list[str]:
    """The host of each URL; empty where it has to be read with care."""
    if not urls:
        return []
    hosts = _PLAIN_URLS("\n".join(urls))
    if len(hosts) == len(urls):
        return hosts
    # A line break within a URL.
    return [plain[1] if (plain := _PLAIN_URL(url)) else "" for url in urls]


def host_of(observable: Observable) -> bytes | str | None:
    """The host that an address, domain, URL or e-mail address names: packed address, or name; None for the others."""
    value = observable.value
    if observable.type is _IPV4:
        return inet_aton(value)
    if observable.type is _IPV6:
        return inet_pton(AF_INET6, value)
    if observable.type is _URL:
        return host_of_url(value)
    if observable.type is _DOMAIN:
        return plain_host(value)
    if observable.type is ObservableType.EMAIL:
        return plain_host(value.rpartition("@")[2])
    return None


def host_of_url(url: str) -> bytes | str | None:
    """
    The host as a browser reads it (https://url.spec.whatwg.org/#host-parsing), so that no spelling hides it: user
    names, ports, percent-encoding, backslashes, full-width characters, and numbers such as ``0x08080808``.

    :return: a packed address or a name; None if there is no host
    """
    text = url.translate(_DROPPED).strip(_CONTROLS).replace("\\", "/")
    rest = (text[scheme.end() :] if (scheme := _SCHEME.match(text)) else text).lstrip("/")
    user, _, authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0].rpartition("@")
    if user and text[:5].lower() == "file:" and (authority.upper() == "SSL" or authority.isdecimal()):
        authority = user.rpartition("@")[2]  # Windows' WebDAV: file://host@SSL/x
    if authority.startswith("["):
        return plain_host(authority.partition("]")[0] + "]")
    return plain_host(authority.partition(":")[0]) or None


def plain_host(host: str) -> bytes | str:
    """A host as we compare it: the packed address that it is read as, or a lower-case ASCII name."""
    if host.startswith("["):
        try:
            return inet_pton(AF_INET6, host.strip("[]").removeprefix("IPv6:").partition("%")[0])
        except OSError:
            return plain_host(host.strip("[]"))
    if "%" in host:
        host = unquote(host)
    name = host.lower().rstrip(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode().lower().rstrip(".")
        except UnicodeError:
            name = unicodedata.normalize("NFKC", name).lower().rstrip(".")
    return browser_number(name) or name


def plain_name(text: str) -> str | None:
    """A name as observables spell it, or None if it is none."""
    name = text.strip().lower().strip(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return None
    return name if _NAME.fullmatch(name) else None


_IPV4, _IPV6, _DOMAIN, _URL = ObservableType.IPV4, ObservableType.IPV6, ObservableType.DOMAIN, ObservableType.URL

_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
