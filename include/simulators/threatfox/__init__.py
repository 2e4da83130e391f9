"""ThreatFox (abuse.ch), its two searches (https://threatfox.abuse.ch/api/).

``POST /api/v1/`` with JSON, whatever its ``Content-Type`` says: ``{"query": "search_ioc", "search_term": …,
"exact_match": …}`` or ``{"query": "search_hash", "hash": …}``, the key in ``Auth-Key``. Every answer to a known key is
a 200 with a ``query_status``; where nothing is found, ``data`` is a sentence and no list.

Seed::

    {"iocs": [{"ioc": "203.0.113.9:443", "threat_type": "botnet_cc", "malware": "win.cobalt_strike",
               "malware_printable": "Cobalt Strike", "confidence_level": 75, "tags": ["c2"], "is_compromised": false,
               "first_seen": "2026-11-06 09:10:23 UTC", "last_seen": null,
               "samples": [{"sha256": "…", "md5": "…"}]}]}

What is left out is made up; ``ioc_type`` follows from the indicator, ``first_seen`` is the moment of seeding.
``search_hash`` finds the indicators with such a sample, and the hash itself where it is one.

Knobs: ``api_key``; ``expires_after_days`` (an indicator first seen longer ago is not found any more).

Not imitated: every other query (recent, by id, tag, malware), submission, wildcards with a sign, fair use.
Recorded by third parties: 401 without a key, 403 for an unknown one, ``no_result`` with its sentence, the row.
Inferred: ``exact_match`` and that without it the term is looked for anywhere in an indicator; which terms are
``illegal_search_term`` (shorter than three characters) and ``illegal_hash`` (not MD5 or SHA-256); the word for an
unknown query. Stricter than the vendor: an unknown member is refused.
"""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.abuse_ch import AbuseChSimulator, said
from include.simulators.kit import Clock

SITE = "https://threatfox.abuse.ch"
NOTHING = "Your search did not yield any results"
TIME = "%Y-%m-%d %H:%M:%S UTC"
SHORTEST_TERM = 3
MEMBERS = {"search_ioc": {"query", "search_term", "exact_match"}, "search_hash": {"query", "hash"}}
IOC_MEMBERS = frozenset(
    {
        *("ioc", "threat_type", "malware", "malware_printable", "confidence_level", "tags", "is_compromised"),
        *("first_seen", "last_seen", "reporter", "reference", "samples"),
    }
)
FIRST_ID = 1400001


class ThreatfoxSimulator(AbuseChSimulator):
    product = "threatfox"
    prefixes = ("/api/v1/",)
    settings = {"api_key": "demo-threatfox-key", "expires_after_days": 183}

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.router.add_api_route("/api/v1/", self.ask, methods=["GET", "POST"], response_model=None)

    def clear(self) -> None:
        self.iocs: list[dict[str, Any]] = []

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"iocs"}
        for given in data.get("iocs", []):
            unknown |= set(given) - IOC_MEMBERS
            identity = str(FIRST_ID + len(self.iocs))
            self.iocs.append({"id": identity, "first_seen": f"{self.clock.now():{TIME}}", **given})
        if unknown:
            raise HTTPException(400, f"threatfox: unknown seed members {sorted(unknown)}")

    def snapshot(self) -> dict[str, Any]:
        return {"iocs": self.iocs}

    async def ask(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        try:
            body = json.loads(await request.body())
        except ValueError:
            return said("illegal_json")
        query = body.get("query") if isinstance(body, dict) else None
        if query not in MEMBERS:
            return said("unknown_query")
        if set(body) - MEMBERS[query]:
            return self.error(400, f"unknown members {sorted(set(body) - MEMBERS[query])}")
        return self._by_hash(body) if query == "search_hash" else self._by_term(body)

    def _by_term(self, body: dict[str, Any]) -> Response:
        term = str(body.get("search_term", "")).lower()
        if len(term) < SHORTEST_TERM or not isinstance(body.get("exact_match", False), bool):
            return said("illegal_search_term")
        exact = body.get("exact_match", False)
        return self._answer([i for i in self.iocs if (term == i["ioc"].lower() if exact else term in i["ioc"].lower())])

    def _by_hash(self, body: dict[str, Any]) -> Response:
        wanted = str(body.get("hash", "")).lower()
        if not re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", wanted):
            return said("illegal_hash")
        return self._answer(
            [
                ioc
                for ioc in self.iocs
                if ioc["ioc"].lower() == wanted
                or any(wanted in (s.get("md5"), s.get("sha256")) for s in ioc.get("samples", []))
            ]
        )

    def _answer(self, found: list[dict[str, Any]]) -> Response:
        oldest = self.clock.now() - timedelta(days=self.knobs["expires_after_days"])
        alive = [i for i in found if datetime.strptime(i["first_seen"], TIME).replace(tzinfo=UTC) >= oldest]
        if not alive:
            return JSONResponse({"query_status": "no_result", "data": NOTHING})
        return JSONResponse({"query_status": "ok", "data": [_row(ioc) for ioc in alive]})


def _row(ioc: dict[str, Any]) -> dict[str, Any]:
    kind, words = _kind(ioc["ioc"])
    malware = ioc.get("malware", "win.made_up")
    return {
        "id": ioc["id"],
        "ioc": ioc["ioc"],
        "threat_type": ioc.get("threat_type", "botnet_cc"),
        "threat_type_desc": "Indicator that identifies a botnet command&control server (C&C)",
        "ioc_type": kind,
        "ioc_type_desc": words,
        "malware": malware,
        "malware_printable": ioc.get("malware_printable", "Made Up"),
        "malware_alias": None,
        "malware_malpedia": f"https://malpedia.caad.fkie.fraunhofer.de/details/{malware}",
        "confidence_level": ioc.get("confidence_level", 50),
        "is_compromised": ioc.get("is_compromised", False),
        "first_seen": ioc["first_seen"],
        "last_seen": ioc.get("last_seen"),
        "reference": ioc.get("reference"),
        "reporter": ioc.get("reporter", "abuse_ch"),
        "tags": ioc.get("tags") or None,
        "malware_samples": [
            {
                "time_stamp": ioc["first_seen"],
                "md5_hash": sample.get("md5"),
                "sha256_hash": sample.get("sha256"),
                "malware_bazaar": f"https://bazaar.abuse.ch/sample/{sample.get('sha256')}/",
            }
            for sample in ioc.get("samples", [])
        ],
    }


def _kind(ioc: str) -> tuple[str, str]:
    address, _, port = ioc.rpartition(":")
    if "://" in ioc:
        return "url", "URL that is used for botnet Command&control (C&C)"
    if re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{64}", ioc):
        return ("md5_hash" if len(ioc) == 32 else "sha256_hash"), "Hash of a malware sample (payload)"
    try:
        if port.isdigit() and ipaddress.ip_address(address.strip("[]")):
            return "ip:port", "ip:port combination that is used for botnet Command&control (C&C)"
    except ValueError:
        pass
    return "domain", "Domain that is used for botnet Command&control (C&C)"
