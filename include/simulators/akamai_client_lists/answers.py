"""Problem documents, limits and the reading of a request's fields."""

from __future__ import annotations

import csv
import email
import io
import ipaddress
import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

from fastapi import Request

from include.simulators.edgegrid import Refused

BASE = "/client-list/v1"
NETWORKS = ("STAGING", "PRODUCTION")
#: Published limits on items by type.
MAX_ITEMS = {
    "IP": 10_000,
    "GEO": 275,
    "ASN": 100,
    "FILE_HASH": 100,
    "TLS_FINGERPRINT": 100,
    "USER": 1_000,
    "USER_ID": 1_000,
    "DOMAIN": 500,
    "REQUEST_HEADER_NAME_VALUE": 100,
}
MAX_TAGS = 5
MAX_TAG_LENGTH = 256
#: Default page sizes. Lists: from a recorded answer. INFERRED: items, from a recorded answer about a snapshot.
LISTS_PAGE_SIZE = 50
ITEMS_PAGE_SIZE = 100
#: status -> (the last part of ``type``, ``title``). From the SDK's tests: 403, 404, 500; from Terraform's: 400.
#: INFERRED: 409, 415 and 429, and 400 and 403 (rather than 409 or 404) wherever a handler raises them, except
#: for "Invalid network" and for deactivating a list in use.
ERRORS = {
    400: ("INVALID-INPUT-ERROR", "Invalid Input Error"),
    403: ("FORBIDDEN-OPERATION", "This operation is invalid"),
    404: ("NOT-FOUND", "Not Found"),
    409: ("CONFLICT", "Conflict"),
    429: ("TOO-MANY-REQUESTS", "Too Many Requests"),
    500: ("INTERNAL-SERVER-ERROR", "Internal Server Error"),
}
#: INFERRED, but for ``updatedBy`` and ``value``. A member that an object does not have sorts first.
SORTABLE = frozenset(
    {"listId", "name", "type", "version", "itemsCount", "value", "expirationDate"}
    | {"createDate", "createdBy", "updateDate", "updatedBy", "stagingActivationStatus", "productionActivationStatus"}
)
#: Where the word of a list's type and that of its items differ (Terraform, XSOAR).
ITEM_TYPES = {"USER": "USER_ID"}
PENDING = ("PENDING_ACTIVATION", "PENDING_DEACTIVATION")
PAGING = ("page", "pageSize", "search")
Item = dict[str, Any]


def date(instant: datetime, zone: str = "+00:00") -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}{zone}"


def canonical(list_type: str, value: str) -> str:
    """
    What makes two values the same item. INFERRED: addresses are compared as addresses, the rest as text.

    :raises ValueError: when the value is no address or CIDR block of an IP list
    """
    if list_type == "IP":
        if "%" in value:
            raise ValueError(value)
        return str(ipaddress.ip_interface(value))
    return value


def check_tags(tags: Any) -> list[str]:
    if tags is None:
        return []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Refused(400, "Validation failed: Invalid tags")
    if len(tags) > MAX_TAGS or any(not tag or len(tag) > MAX_TAG_LENGTH or set(tag) & set(",;") for tag in tags):
        raise Refused(400, f"Validation failed: At most {MAX_TAGS} tags of 1 to {MAX_TAG_LENGTH} characters, no , or ;")
    return tags


def text_of(document: dict[str, Any], name: str) -> str | None:
    """An optional text member; empty text means none, as Akamai's own SDK sends it."""
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"Validation failed: Invalid {name}")
    return value or None


def read_form(request: Request, body: bytes, required: Collection[str]) -> dict[str, str]:
    """
    The text parts of a multipart form, by name. Lines may end in LF only, as Akamai's PowerShell module writes them.

    :raises Refused: 415 for another content type, 400 when a part is missing
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Refused(415)
    message = email.message_from_bytes(f"Content-Type: {kind}\n\n".encode() + body)
    parts = message.get_payload() if message.is_multipart() else []
    form = {}
    for part in parts if isinstance(parts, list) else []:
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            form[name] = content.decode("utf-8", "replace").strip()
    for name in required:
        if not form.get(name):
            raise Refused(400, f"Missing field: {name}")
    return form


def rows_of(text: str) -> list[dict[str, Any]]:
    """Items of a CSV file with the columns value, description, tags and expirationDate."""
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        tags = [tag.strip() for tag in re.split("[,;]", row.get("tags") or "") if tag.strip()]
        rows.append({name: row.get(name) for name in ("value", "description", "expirationDate")} | {"tags": tags})
    return rows


def integer(text: str, name: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise Refused(400, f"Validation failed: Invalid {name}")
    return int(text)


def flag(query: dict[str, list[str]], name: str, default: bool = False) -> bool:
    """In any spelling: Python clients send ``True`` and ``False``."""
    value = query.get(name, [str(default)])[0].lower()
    if value not in ("true", "false"):
        raise Refused(400, f"Validation failed: Invalid {name}")
    return value == "true"


def item_matches(item: Item, text: str) -> bool:
    return any(text in part.lower() for part in (item["value"], item.get("description") or "", *item["tags"]))
