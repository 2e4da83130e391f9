"""The members of findings, incidents and alerts, their filters, and errors."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from include.simulators.kit import parse_instant

#: The 30 names that third-party clients ask findings for.
FINDING_FIELDS = (
    "id",
    "title",
    "url",
    "typeId",
    "apiId",
    "relatedApiIds",
    "module",
    "host",
    "path",
    "method",
    "resourceGroupName",
    "status",
    "severity",
    "owaspTags",
    "complianceFrameworkTags",
    "vulnerabilityFrameworkTags",
    "detectionTime",
    "lastUpdate",
    "triggeredOn",
    "description",
    "impact",
    "remediation",
    "investigate",
    "comments",
    "tickets",
    "externalTickets",
    "evidence",
    "source",
    "hasRelatedIncidents",
    "tagsIds",
)
#: INFERRED: by analogy with findings, and from the payload that Google's parser reads.
INCIDENT_FIELDS = (
    *(f for f in FINDING_FIELDS if f != "hasRelatedIncidents"),
    "lastActivity",
    "attacker",
    "attackerIp",
    "attackerIps",
    "attackerConfidence",
    "countries",
    "responseCodes",
)
#: A parameter's stem (``...StartDate``, ``...EndDate``) -> the record's field. INFERRED: the fields; that a start is
#: inclusive and an end exclusive; and that a record without the field is in no window.
DATE_FILTERS = {"detection": "detectionTime", "lastUpdate": "lastUpdate", "lastActivity": "lastActivity"}
START: Callable[[Any, Any], bool] = operator.ge
END: Callable[[Any, Any], bool] = operator.lt
#: INFERRED: that these filter by equality, and may be repeated.
EQUALITY_FILTERS = ("severity", "status", "module", "typeId", "host")
#: INFERRED: what lists are sorted by.
SORT_FIELD = "detectionTime"
#: Neosec. The cap is what the vendor's own integration keeps to; INFERRED: that more is refused, and Gte, Lt, Lte.
NEOSEC_MAX_LIMIT = 50
NEOSEC_FILTERS = ("status", "alert_type", "severity", "triggered_at")
NEOSEC_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "Gt": operator.gt,
    "Gte": operator.ge,
    "Lt": operator.lt,
    "Lte": operator.le,
}
NEOSEC_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def read_instant(text: str) -> datetime:
    """
    A full ISO 8601 date and time with its zone.

    :raises ValueError: for anything less
    """
    if not _ISO.fullmatch(text):
        raise ValueError(text)
    return parse_instant(text)


class Refused(Exception):
    """Ends a handler with an error; ``messages`` as NestJS lists them."""

    def __init__(self, status: int, *messages: str) -> None:
        super().__init__(status, *messages)
        self.status = status
        self.messages = messages


Record = dict[str, Any]
