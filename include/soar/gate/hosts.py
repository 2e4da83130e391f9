"""The host that a value names, as a client that connects reads it: a packed address or a lower-case ASCII name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from socket import AF_INET6, inet_aton, inet_pton
from urllib.parse import unquote

from include.soar.extract.names import JOINERS, ascii_name
from include.soar.extract.values import DOMAIN, EMAIL, IPV4, IPV6, URL, browser_number
from include.soar.model import Observable

#: Matches a URL that needs no careful reading, with its host.
match_plain_url = re.compile(
    r"https?+://([a-z0-9._-]++)(?<!\.)(?::[0-9]*+)?(?:[/?#]|\Z)",
).match
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_END_OF_AUTHORITY = re.compile(r"[/?#]")
#: What a browser leaves out of a URL, and what it cuts at both ends.
_DROPPED = {9: None, 10: None, 13: None}
_CONTROLS = "".join(map(chr, range(33)))
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


def host_of(observable: Observable) -> bytes | str | None:
    """The host that an address, domain, URL or e-mail address names: packed address, or name; None for the others."""
    value = observable.value
    if observable.type is IPV4:
        return inet_aton(value)
    if observable.type is IPV6:
        return inet_pton(AF_INET6, value)
    if observable.type is URL:
        return host_of_url(value)
    if observable.type is DOMAIN:
        return plain_host(value)
    if observable.type is EMAIL:
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
    name = (host.lower() if host.isascii() else _lenient_name(host)).rstrip(".")
    return browser_number(name) or name


def _lenient_name(host: str) -> str:
    """A name even where a browser would refuse it: a control may accept it, and protection must not depend on that."""
    without_joiners = host.translate(dict.fromkeys(map(ord, JOINERS)))
    name = ascii_name(host) or ascii_name(without_joiners)
    return name if name is not None else unicodedata.normalize("NFKC", without_joiners).lower()


def plain_name(text: str) -> str | None:
    """A name as observables spell it, or None if it is none."""
    name = ascii_name(text.strip().strip("."))
    return name if name and _NAME.fullmatch(name) else None


def levels(name: str) -> Iterator[str]:
    """A name and every name above it: ``a.b.c``, ``b.c``, ``c``; nothing of an empty one."""
    while name:
        yield name
        name = name.partition(".")[2]
