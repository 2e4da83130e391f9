"""*Test connection*'s words for an error: which of the usual causes it is, by the error's class and status."""

from __future__ import annotations

from include.soar.vendor.errors import (
    ClockSkew,
    RateLimited,
    Unauthorized,
    Unavailable,
    Unexpected,
    UntrustedHost,
    VendorError,
    WrongConnection,
)

#: The first class that fits says the cause, so a kind of ``Unauthorized`` stands before it.
_CAUSES: tuple[tuple[type[VendorError], str], ...] = (
    (WrongConnection, "Incomplete or wrong connection"),
    (ClockSkew, "Clock skew (this machine's time differs from the vendor's), or an expired signature"),
    (UntrustedHost, "Wrong host, or a certificate that this machine does not trust"),
    (Unauthorized, "Wrong key"),
    (Unavailable, "Wrong host, or the vendor is down"),
    (RateLimited, "The key works, but its quota is used up"),
    (Unexpected, "Wrong host: what answers there is not this vendor's API"),
)
#: What a web server says to a test's question that its application does not know.
_NOT_THIS_API = frozenset({404, 405, 406, 410, 415, 422})


def cause(error: VendorError) -> str:
    """The usual cause of an error, in the words that a person looks for."""
    if type(error) is Unauthorized and error.status == 403:
        return "Missing grant: the key is known but may not do this"
    if isinstance(error, Unavailable) and error.status in (401, 403):  # a page: see ``wire.failure``
        return "A proxy or gateway answered in the vendor's place"
    if type(error) is Unauthorized and error.status == 407:
        return "The connection's proxy refuses us"
    for kind, words in _CAUSES:
        if isinstance(error, kind):
            return words
    if error.status in _NOT_THIS_API:
        return "Wrong host: what answers there is not this vendor's API"
    return "The vendor refused"
