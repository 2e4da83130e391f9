"""What AbuseIPDB remembers: addresses, our own reports, the day's blacklist and the spent quota."""

from __future__ import annotations

import ipaddress
import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from fastapi import HTTPException

from include.simulators.abuseipdb.answers import (
    ADDRESS_MEMBERS,
    BLACKLIST_LIFE,
    DAILY_LIMITS,
    ENDPOINTS,
    LIKE_BLACKLIST,
    LOWEST_CONFIDENCE,
    OWN_REPORTER_ID,
    QUOTA_DAY_STARTS,
    RECORDED,
    SAME_ADDRESS_PAUSE,
    STANDARD_BLACKLIST_LIFE,
    Address,
    Network,
    Refused,
    categories_of,
    iso,
    not_an_address,
    reports_of,
)
from include.simulators.kit import Simulator, parse_instant


class Reports(Simulator):
    """The database of addresses, and one key's quota."""

    def clear(self) -> None:
        self.addresses: dict[str, dict[str, Any]] = {}
        self.public_networks: list[Network] = []
        self.own_reports: dict[str, list[dict[str, Any]]] = {}
        self.used: dict[tuple[date, str], int] = {}
        self.elsewhere_day: date | None = None
        self.cached_blacklist: tuple[datetime, list[dict[str, Any]]] | None = None

    def configure(self, changes: dict[str, Any]) -> None:
        if changes.get("plan", "individual") not in DAILY_LIMITS:
            raise HTTPException(400, f"abuseipdb: plan is one of {sorted(DAILY_LIMITS)}")
        for knob in ("daily_limits", "used_elsewhere"):
            if not isinstance(changes.get(knob, {}), dict) or set(changes.get(knob, {})) - set(ENDPOINTS):
                raise HTTPException(400, f"abuseipdb: {knob} maps endpoints {ENDPOINTS} to numbers")
        super().configure(changes)
        if "used_elsewhere" in changes:
            self.elsewhere_day = self._today()

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"addresses", "public_networks"}
        for text, record in data.get("addresses", {}).items():
            unknown |= set(record) - ADDRESS_MEMBERS
            address = str(ipaddress.ip_address(text))
            self.addresses[address] = {"_seeded_at": self.clock.now(), **record}
        if unknown:
            raise HTTPException(400, f"abuseipdb: unknown seed members {sorted(unknown)}")
        self.public_networks += [ipaddress.ip_network(n) for n in data.get("public_networks", [])]
        self.cached_blacklist = None

    def snapshot(self) -> dict[str, Any]:
        today = self._today()
        return {
            "addresses": {
                address: {k: v for k, v in record.items() if not k.startswith("_")}
                for address, record in self.addresses.items()
            },
            "own_reports": self.own_reports,
            "used_today": {endpoint: n for (day, endpoint), n in self.used.items() if day == today},
        }

    def _count(self, endpoint: str) -> dict[str, str]:
        """Count this request against its endpoint's day, refused or not. Headers; ``Retry-After`` when spent."""
        slot = (self._today(), endpoint)
        elsewhere = self.knobs["used_elsewhere"].get(endpoint, 0) if self.elsewhere_day == slot[0] else 0
        limit = self._limit(endpoint)
        left = limit - elsewhere - self.used.get(slot, 0)
        if left > 0:
            self.used[slot] = self.used.get(slot, 0) + 1
        headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(max(left - 1, 0))}
        return headers if left > 0 else headers | self._until_reset()

    def _limit(self, endpoint: str) -> int:
        table = DAILY_LIMITS[self.knobs["plan"]]
        return int(
            self.knobs["daily_limits"].get(endpoint, table["blacklist" if endpoint in LIKE_BLACKLIST else endpoint])
        )

    def _today(self) -> date:
        return (self.clock.now() - QUOTA_DAY_STARTS).date()

    def _until_reset(self) -> dict[str, str]:
        reset = datetime.combine(self._today() + timedelta(days=1), time(), UTC) + QUOTA_DAY_STARTS
        wait = (reset - self.clock.now()).total_seconds()
        return {"Retry-After": str(math.ceil(wait)), "X-RateLimit-Reset": str(int(reset.timestamp()))}

    def _record(self, address: Address) -> dict[str, Any]:
        record = self.addresses.get(str(address), {})
        if "_available_at" in record and parse_instant(record["_available_at"]) > self.clock.now():
            record = {}
        if not record and not self._is_public(address):
            return RECORDED.get(str(address), {})
        return record

    def _is_public(self, address: Address) -> bool:
        named = any(address in network for network in self.public_networks)
        return named or (address.is_global and not address.is_multicast)

    def _address_space(self, network: Network) -> str:
        if self._is_public(network.network_address):
            return "Internet"
        return "Loopback" if network.is_loopback else "Private" if network.is_private else "Reserved"

    def _reports(self, address: Address, days: int | None) -> list[dict[str, Any]]:
        """Reports about an address, newest first; only those of the last ``days`` when given."""
        reports = [*self.own_reports.get(str(address), []), *reports_of(self._record(address))]
        reports.sort(key=lambda r: parse_instant(r["reportedAt"]), reverse=True)
        if days is None:
            return reports
        oldest = self.clock.now() - timedelta(days=days)
        return [r for r in reports if parse_instant(r["reportedAt"]) >= oldest]

    def _reported_just_now(self, address: Address) -> bool:
        since = self.clock.now() - SAME_ADDRESS_PAUSE
        return any(parse_instant(r["_saved_at"]) > since for r in self.own_reports.get(str(address), []))

    def _save_report(self, address: Address, categories: list[int], comment: str, reported_at: datetime) -> None:
        self.own_reports.setdefault(str(address), []).append(
            {
                "reportedAt": iso(reported_at),
                "comment": comment,
                "categories": categories,
                "reporterId": OWN_REPORTER_ID,
                "reporterCountryCode": None,
                "reporterCountryName": None,
                "_saved_at": self.clock.now().isoformat(),
            }
        )

    def _save_row(self, row: list[str]) -> str | None:
        """Save one line of a bulk report, or say what is wrong with it."""
        text, categories, reported_at, comment = (row + [""] * 4)[:4]
        if not_an_address(text):
            return "Invalid IP"
        address = ipaddress.ip_address(text)
        if self._reported_just_now(address):
            return "Duplicate IP"
        try:
            chosen = categories_of(categories)
        except Refused:
            return "Invalid Category"
        try:
            self._save_report(address, chosen, comment, parse_instant(reported_at))
        except ValueError:
            return "Invalid Report Date"
        return None

    def _blacklist_of_the_day(self) -> tuple[datetime, list[dict[str, Any]]]:
        life = BLACKLIST_LIFE.get(self.knobs["plan"], STANDARD_BLACKLIST_LIFE)
        if self.cached_blacklist is None or self.clock.now() >= self.cached_blacklist[0] + life:
            rows = []
            for text in self.addresses:
                address = ipaddress.ip_address(text)
                record, reports = self._record(address), self._reports(address, None)
                if record.get("abuseConfidenceScore", 0) >= LOWEST_CONFIDENCE:
                    rows.append(
                        {
                            "ipAddress": text,
                            "countryCode": record.get("countryCode"),
                            "abuseConfidenceScore": record["abuseConfidenceScore"],
                            "lastReportedAt": reports[0]["reportedAt"] if reports else None,
                        }
                    )
            rows.sort(key=lambda r: (r["abuseConfidenceScore"], r["lastReportedAt"] or ""), reverse=True)
            self.cached_blacklist = (self.clock.now(), rows)
        return self.cached_blacklist
