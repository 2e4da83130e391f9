"""How abuse.ch answers, whichever of its products is asked: a 200 with a ``query_status``, and times in UTC."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from include.soar.vendor.errors import Rejected, Unauthorized, Unexpected
from include.soar.vendor.wire import Response, VendorShape, decode, load_json

# Third party or inferred: the vendor's pages do not settle it.
UNKNOWN_KEY = frozenset({"unknown_auth_key", "unauthorized"})


def _moment(value: Any) -> Any:
    """``2020-12-06 09:10:23 UTC``, in some answers without the zone; never another one."""
    try:
        return datetime.strptime(value.removesuffix(" UTC"), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except (AttributeError, ValueError):  # its own words would repeat the value, which is foreign
        raise ValueError("not a time such as 2020-12-06 09:10:23 UTC") from None


Moment = Annotated[datetime, BeforeValidator(_moment)]


class Status(VendorShape):
    query_status: str = Field(min_length=1)


def is_found(
    vendor: str,
    operation: str,
    response: Response,
    *,
    nothing: str,
    refused: Collection[str],
    shape: type[Status] = Status,
) -> bool:
    """
    What ``query_status`` means: whether the product has a record. Only two of its words are answers.

    :param nothing: the product's word for no record
    :param refused: its words for a value that it cannot take
    :raises Rejected: the product cannot take the value
    :raises Unauthorized: it does not know the key
    :raises Unexpected: any other word; it says nothing about the value
    """
    word = decode(vendor, operation, shape, load_json(vendor, operation, response.body)).query_status
    if word in ("ok", nothing):
        return word == "ok"
    kind = Rejected if word in refused else Unauthorized if word in UNKNOWN_KEY else Unexpected
    raise kind(vendor, operation, f"query_status: {word}", status=response.status)
