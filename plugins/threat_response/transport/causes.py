"""TODO: what causes is."""

from __future__ import annotations

from include.soar.vendor.errors import (
    RateLimited,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
)


def _cause(error: VendorError) -> str:
    """The usual cause behind an error, in the words a person looks for."""
    reason = error.reason.lower()
    if "timestamp" in reason or "clock" in reason or "expired" in reason:
        return "Clock skew (this machine's time differs from the vendor's), or an expired signature"
    if isinstance(error, Unauthorized):
        if "certificate" in reason:
            return "Wrong host, or a certificate that this machine does not trust"
        if "has no" in reason:
            return "Incomplete connection"
        return "Missing grant: the key is known but may not do this" if error.status == 403 else "Wrong key"
    if isinstance(error, Unavailable):
        return "Wrong host, or the vendor is down"
    if isinstance(error, RateLimited):
        return "The key works, but its quota is used up"
    if isinstance(error, Unexpected) or error.status == 404:
        return "Wrong host: what answers there is not this vendor's API"
    return "The vendor refused"
