"""Akamai Secure Internet Access (SIA, once ETP): the Reporting API v3, threat events only.

Imitates https://techdocs.akamai.com/etp-reporting/reference (the published OpenAPI ``apis/etp-report/v3`` and its
examples; where the two contradict each other, the examples) and what Akamai's own command line client relies on.
All routes stand behind EdgeGrid (:mod:`include.simulators.edgegrid`).

* ``POST /etp-report/v3/configs/{configId}/threat-events/details`` - a page of events, newest or oldest first
* ``GET  /etp-report/v3/configs/{configId}/threats/threat-meta`` - the threats that the seeded events name

Properties that a client has to live with: the row's ``id`` counts from "0" in every answer; an event is listed only
``complete_after_seconds`` after its detection, and later still with ``_available_at`` (the real service delivers up
to 3 hours late), so a window that has been read may grow; pages are cut anew for every request.

Seed: ``{"configs": {"41041": [row, ...]}}``, rows as in the vendor's examples (string ids, domains with a trailing
dot), each with ``event.detectionTime`` in ISO 8601. Seeding adds to what is there; ``{"41041": []}`` makes a
configuration without events. ``id`` and ``configId`` are set by the simulator.

Knobs: those of EdgeGrid; ``config_grant`` (None: every seeded configuration; else the list of ids that the API user
may read); ``max_page_size`` and ``default_page_size`` (INFERRED: the command line client asks for 5000, no limit and
no default is published); ``complete_after_seconds``; ``retention_days`` (None: for ever; the usual 30 days are
INFERRED); ``quiet`` (what a page without rows looks like: ``full``, ``no_rows``, ``no_page_info``, ``null`` or
``nothing``; none is published, since the schema forbids an empty ``dataRows``, and the vendor's own client reads all).

Not imitated: aggregates, time series, the other event kinds (AUP, DNS, proxy, network traffic, sinkhole), IOC
look-ups, report schedules and ``etp-config``; the filters ``isAlert``, ``encryptedUserName`` and
``hasSinkholeCorrelation`` (an unimitated filter is refused, never ignored); rate limits (use a fault: the 429's body
is unknown); other accounts. Stricter than the published schema: unknown members of the body, ``pageNumber`` 0 and
``pageSize`` 0 are refused. Looser: an empty window answers an empty ``dataRows``, which the schema forbids.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.edgegrid import (
    EDGEGRID_SETTINGS,
    PROBLEM_JSON,
    EdgeGridSimulator,
    Refused,
    no_query,
    read_json,
    reason_phrase,
)
from include.simulators.kit import Clock, parse_instant

PREFIX = "/etp-report/v3/configs/{config_id}"

# INFERRED: the window's bounds on event.detectionTime (the documentation names no side).
START_INCLUSIVE = True
END_INCLUSIVE = False

BAD_REQUEST = "The system cannot understand your request.  Please check the syntax and correct any problems."
INVALID_START = "Start time is invalid. Code-000104"
UNKNOWN_CONFIG = "Invalid SIA configuration {}. Code-090209"
#: The code is documented by Akamai's command line client; INFERRED: the sentence.
NO_ACCESS = "API user has no access to SIA configuration {}. Code-130009"

#: A filter's name -> where in a row its values stand; ``a|b`` is the first that exists, ``[]`` every member.
FILTERS = {
    "action": "event.actionId",
    "asName": "query.resolved[].asname",
    "blockDescription": "event.blockDescription",
    "category": "event.categoryId",
    "clientIP": "query.clientIp|request.clientIp",
    "clientRequestId": "event.clientRequestId",
    "confidence": "event.confidenceId",
    "destinationIP": "request.destinationIP",
    "detectionType": "event.detectionType",
    "deviceId": "event.deviceId|query.deviceId",
    "deviceOwnerId": "event.deviceOwnerId|query.deviceOwnerId",
    "devicePostureRisk": "event.devicePostureRisk",
    "dlpDictionaryId": "event.dlp[].dictionaryId[]",
    "dlpFileHash": "event.dlp[].fileHash",
    "dlpPatternId": "event.dlp[].patternId[]",
    "dohAttribution": "event.dohAttribution",
    "domain": "query.domain|request.domain",
    "encryptedInternalClientIP": "event.encryptedInternalClientIp",
    "encryptedInternalClientName": "event.encryptedInternalClientName",
    "encryptedMachineName": "event.correlatedSinkholeEvents[].encryptedMachineName",
    "fileType": "event.files[].fileType",
    "hostname": "event.correlatedSinkholeEvents[].hostname",
    "httpRequestMethod": "request.method",
    "internalIP": "event.internalClientIP",
    "l7Protocol": "l7Protocol",
    "list": "event.listId",
    "onRamp": "event.onRamp",
    "onRampType": "event.onrampType",
    "policy": "event.policyId",
    "proxyDestinationPort": "request.destinationPort",
    "reason": "event.reason",
    "severityId": "event.severityId",
    "sinkholeIP": "event.correlatedSinkholeEvents[].sinkholeIP",
    "site": "event.siteId",
    "sourcePort": "event.correlatedSinkholeEvents[].sourcePort",
    "sublocationId": "event.sublocationId",
    "threatId": "event.threatId",
    "transportType": "event.transportType",
    "uri": "request.uri",
}
UNIMITATED_FILTERS = frozenset({"encryptedUserName", "hasSinkholeCorrelation", "isAlert"})

#: Filters whose values the schema enumerates. A value may come as a number or as text: the schema has text, the
#: example numbers.
ENUMERATIONS = {
    "detectionType": {"inline", "lookback", "offline-dynamic", "offline"},
    "devicePostureRisk": {"low", "medium"},
    "httpRequestMethod": {"PUT", "POST", "PATCH", "OPTIONS", "HEAD", "GET", "DELETE", "CONNECT"},
    "l7Protocol": {"DNS", "HTTP", "HTTP(s)"},
    "onRamp": {"No", "Yes"},
    "onRampType": {
        "dns",
        "etp_client",
        "etp_offnet_client",
        "explicit_proxy_http",
        "explicit_proxy_tls",
        "http_forwarder",
        "ipsec_tunnel",
        "N/A",
        "onramp_dns",
        "tpaas",
    },
    "severityId": {"0", "1", "2", "3", "4"},
}
_BODY = ("startTimeSec", "endTimeSec", "orderBy", "pageNumber", "pageSize", "filters")


@dataclass(order=True)
class _Event:
    detected: float
    seq: int
    available: float = field(compare=False)
    row: dict[str, Any] = field(compare=False)


def _values(node: Any, path: str) -> Iterator[Any]:
    """What stands at a dotted path; ``name[]`` descends into every member of an array."""
    step, _, rest = path.partition(".")
    found = node.get(step.removesuffix("[]")) if isinstance(node, dict) else None
    for member in (found or []) if step.endswith("[]") else [found]:
        if rest:
            yield from _values(member, rest)
        elif member is not None:
            yield member


def _filter_values(row: dict[str, Any], name: str) -> set[str]:
    for path in FILTERS[name].split("|"):
        found = {_comparable(name, value) for value in _values(row, path)}
        if found:
            return found
    return set()


def _comparable(name: str, value: Any) -> str:
    # INFERRED: a domain is compared without its trailing dot and in lower case, everything else as it stands.
    return str(value).rstrip(".").lower() if name == "domain" else str(value)


class AkamaiSiaSimulator(EdgeGridSimulator):
    product = "akamai_sia"
    prefixes = ("/etp-report",)
    settings = {
        **EDGEGRID_SETTINGS,
        "config_grant": None,
        "max_page_size": 5000,
        "default_page_size": 100,
        "complete_after_seconds": 180,
        "retention_days": None,
        "quiet": "full",
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.on("POST", PREFIX + "/threat-events/details", self._details)
        self.on("GET", PREFIX + "/threats/threat-meta", self._threat_meta)
        self.refuse_the_rest()

    def clear(self) -> None:
        super().clear()
        self.events: dict[str, list[_Event]] = {}

    def seed(self, data: dict[str, Any]) -> None:
        for config_id, rows in data["configs"].items():
            events = self.events.setdefault(str(config_id), [])
            for row in rows:
                try:
                    detected = parse_instant(row["event"]["detectionTime"]).timestamp()
                except (KeyError, TypeError, ValueError):
                    raise HTTPException(400, f"akamai_sia: a row without event.detectionTime: {row}") from None
                available = parse_instant(row["_available_at"]).timestamp() if "_available_at" in row else detected
                shown = {k: v for k, v in row.items() if not k.startswith("_")}
                insort(events, _Event(detected, len(events), available, shown))

    def snapshot(self) -> dict[str, Any]:
        return {
            "configs": {
                config_id: {"events": len(events), "visible": sum(map(self._visible, events))}
                for config_id, events in self.events.items()
            }
        }

    def error(self, status: int, detail: str | None = None) -> Response:
        title = reason_phrase(status)
        problem = {
            # Published: bad-request, forbidden and not-found. INFERRED: the same rule for the others.
            "type": f"https://problems.omni.akamaiapis.net/http/{title.lower().replace(' ', '-')}",
            "title": title,
            "detail": detail or (BAD_REQUEST if status == 400 else title),
            "status": status,
            "instance": str(uuid.uuid4()),
        }
        return JSONResponse(problem, status, media_type=PROBLEM_JSON)

    def _visible(self, event: _Event) -> bool:
        now = self.clock.timestamp()
        return event.available <= now and event.detected + self.knobs["complete_after_seconds"] <= now

    def _config(self, request: Request) -> tuple[str, list[_Event]]:
        config_id = request.path_params["config_id"]
        if not config_id.isdecimal():
            raise Refused(400)
        grant = self.knobs["config_grant"]
        if config_id not in self.events:
            raise Refused(404, UNKNOWN_CONFIG.format(config_id))
        if grant is not None and config_id not in {str(granted) for granted in grant}:
            raise Refused(404, NO_ACCESS.format(config_id))
        return config_id, self.events[config_id]

    def _details(self, request: Request, body: bytes) -> Response:
        no_query(request)
        query = read_json(request, body, allowed=_BODY, required=("startTimeSec", "endTimeSec", "orderBy"))
        config_id, events = self._config(request)
        start, end = self._window(query)
        page, size = self._page(query)
        if query["orderBy"] not in ("ASC", "DESC"):
            raise Refused(400)
        filters = self._filters(query.get("filters", {}))

        first = (bisect_left if START_INCLUSIVE else bisect_right)(events, start, key=lambda e: e.detected)
        last = (bisect_right if END_INCLUSIVE else bisect_left)(events, end, key=lambda e: e.detected)
        rows = [e.row for e in events[first:last] if self._visible(e) and self._passes(e.row, filters)]
        if query["orderBy"] == "DESC":
            rows.reverse()
        shown = rows[(page - 1) * size : page * size]
        info = {"totalRecords": len(rows), "pageNumber": page, "pageSize": size}
        if not shown and self.knobs["quiet"] != "full":
            shapes: dict[str, Any] = {
                "no_rows": {"pageInfo": info},
                "no_page_info": {"dataRows": []},
                "null": {"pageInfo": {}, "dataRows": None},
                "nothing": {},
            }
            return JSONResponse(shapes[self.knobs["quiet"]])
        return JSONResponse(
            {
                "pageInfo": info,
                "dataRows": [{**row, "id": str(i), "configId": config_id} for i, row in enumerate(shown)],
            }
        )

    def _window(self, query: dict[str, Any]) -> tuple[int, int]:
        start, end = query["startTimeSec"], query["endTimeSec"]
        if type(start) is not int or type(end) is not int or end < 0:
            raise Refused(400)
        now, days = self.clock.timestamp(), self.knobs["retention_days"]
        # INFERRED: which starts are invalid. A start in milliseconds is in the future and is caught here.
        if start < 1 or start >= end or start > now or (days is not None and start < now - days * 86400):
            raise Refused(400, INVALID_START)
        return start, end

    def _page(self, query: dict[str, Any]) -> tuple[int, int]:
        page, size = query.get("pageNumber", 1), query.get("pageSize", self.knobs["default_page_size"])
        if type(page) is not int or type(size) is not int or page < 1 or not 1 <= size <= self.knobs["max_page_size"]:
            raise Refused(400)
        return page, size

    @staticmethod
    def _filters(given: Any) -> list[tuple[str, set[str] | None, set[str]]]:
        """(name, values of which one must be there or None, values of which none may be there)."""
        if not isinstance(given, dict):
            raise Refused(400)
        filters = []
        for name, condition in given.items():
            if name in UNIMITATED_FILTERS:
                raise Refused(400, f"This simulator does not imitate the filter {name}")
            if name not in FILTERS or not isinstance(condition, dict) or not condition:
                raise Refused(400)
            for operator, values in condition.items():
                if operator not in ("in", "nin") or not isinstance(values, list):
                    raise Refused(400)
                if not all(type(v) in (str, int) for v in values):
                    raise Refused(400)
                if name in ENUMERATIONS and not {str(v) for v in values} <= ENUMERATIONS[name]:
                    raise Refused(400)
            wanted = {_comparable(name, v) for v in condition["in"]} if condition.get("in") else None
            unwanted = {_comparable(name, v) for v in condition.get("nin", [])}
            filters.append((name, wanted, unwanted))
        return filters

    @staticmethod
    def _passes(row: dict[str, Any], filters: list[tuple[str, set[str] | None, set[str]]]) -> bool:
        for name, wanted, unwanted in filters:
            values = _filter_values(row, name)
            if values & unwanted or (wanted is not None and not values & wanted):
                return False
        return True

    def _threat_meta(self, request: Request, body: bytes) -> Response:
        no_query(request)
        _, events = self._config(request)
        threats: dict[str, str] = {}
        for event in events:
            if self._visible(event) and event.row["event"].get("threatId") is not None:
                threats.setdefault(str(event.row["event"]["threatId"]), event.row["event"].get("threatName", ""))
        return JSONResponse([{"id": i, "name": name} for i, name in sorted(threats.items())])
