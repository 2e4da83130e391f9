"""What Falcon remembers: indicators, who changed them, and the devices that saw one."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any

from fastapi import HTTPException

from include.simulators.crowdstrike_falcon.answers import (
    ACTIONS,
    ACTIONS_WITH_SEVERITY,
    HASH_ONLY_ACTIONS,
    HASHES,
    MOBILE_ACTIONS,
    MOBILE_PLATFORMS,
    PLATFORMS,
    SEVERITIES,
    TYPES,
    Indicator,
    RowError,
    check_scope,
    check_texts,
    check_value,
    identity_of,
    instant,
    one_of,
    rfc3339,
    shown,
)
from include.simulators.kit import Simulator, parse_instant


class IndicatorState(Simulator):
    """The tenant's indicators, and the rules that each has to keep."""

    def clear(self) -> None:
        self.indicators: dict[str, Indicator] = {}
        self.devices: dict[str, int] = {}
        self.tokens: dict[str, float] = {}
        self.recent: deque[float] = deque()
        self.audit: list[dict[str, Any]] = []

    def seed(self, data: dict[str, Any]) -> None:
        if set(data) - {"indicators", "devices"}:
            raise HTTPException(400, f"crowdstrike_falcon: unknown seed members {sorted(data)}")
        self.devices.update({identity_of(*key.split(":", 1)): n for key, n in data.get("devices", {}).items()})
        for given in data.get("indicators", []):
            if self._holder(given["type"], given["value"], hidden_too=True):
                raise HTTPException(400, f"crowdstrike_falcon: {given['type']} {given['value']} is there already")
            self._store({"action": "no_action", "platforms": PLATFORMS[:3], "applied_globally": True} | given)

    def snapshot(self) -> dict[str, Any]:
        self._expire()
        return {"indicators": [shown(i) for i in self.indicators.values()], "audit": self.audit}

    def _store(self, given: Indicator) -> Indicator:
        number = len(self.indicators) + 1
        made_by, made_on = self.knobs["client_id"], self._now()
        indicator = {
            "id": hashlib.sha256(f"{number}:{given['type']}:{given['value']}".encode()).hexdigest(),
            "metadata": {"signed": False, "av_hits": -1} if given["type"] in HASHES else {},
            "deleted": False,
            "expired": False,
            "from_parent": False,
            "created_on": made_on,
            "created_by": made_by,
            "modified_on": made_on,
            "modified_by": made_by,
            "_number": number,
        } | given
        if indicator.get("expiration"):
            indicator["expiration"] = rfc3339(indicator["expiration"])
        self.indicators[indicator["id"]] = indicator
        return indicator

    def _merge(self, known: Indicator, row: Indicator) -> Indicator:
        merged = known | row
        if "host_groups" in row and "applied_globally" not in row:
            merged["applied_globally"] = False
        if row.get("applied_globally"):
            merged.pop("host_groups", None)
        self._check(merged, changed=set(row))
        if "expiration" in row:
            merged["expired"] = False
            if merged["expiration"]:
                merged["expiration"] = rfc3339(merged["expiration"])
        return merged | {"modified_on": self._now(), "modified_by": self.knobs["client_id"]}

    def _check(self, row: Indicator, changed: set[str] | None = None) -> None:
        """Refuse an indicator that the vendor would not take. ``changed``: only these members are new."""
        if not isinstance(row, dict):
            raise RowError("", "An indicator must be an object.")
        kind, action = row.get("type"), row.get("action")
        one_of(row, "type", TYPES)
        check_value(row)
        one_of(row, "action", ACTIONS)
        if action in HASH_ONLY_ACTIONS and kind not in HASHES and self.knobs["hash_only_prevent"]:
            raise RowError("action", f"Action '{action}' applies to hashes only, not to type '{kind}'.")
        if "mobile_action" in row:
            one_of(row, "mobile_action", MOBILE_ACTIONS)
        if row.get("severity") or action in ACTIONS_WITH_SEVERITY:
            one_of(row, "severity", SEVERITIES)
        platforms = row.get("platforms")
        if not isinstance(platforms, list) or not platforms or not set(map(str, platforms)) <= set(PLATFORMS):
            raise RowError("platforms", f"Platforms must be a non-empty list of {PLATFORMS}.")
        if MOBILE_PLATFORMS & set(platforms):
            raise RowError("platforms", "Platforms ios and android need Falcon for Mobile.")
        check_scope(row)
        check_texts(row)
        if row.get("expiration") and (changed is None or "expiration" in changed):
            try:
                expires_at = instant(row["expiration"])
            except (ValueError, TypeError, AttributeError):
                raise RowError("expiration", "Expiration must be an RFC 3339 date in UTC.") from None
            if expires_at <= self.clock.now():
                raise RowError("expiration", "Expiration must be in the future.")

    def _note(self, operation: str, indicators: list[Indicator], comment: str | None, query: dict[str, str]) -> None:
        self.audit.append(
            {
                "operation": operation,
                "ids": [i["id"] for i in indicators],
                "comment": comment,
                "retrodetects": query.get("retrodetects") == "true",
            }
        )

    def _living(self) -> list[Indicator]:
        self._expire()
        return [i for i in self.indicators.values() if not i["deleted"] and self._visible(i)]

    def _visible(self, indicator: Indicator) -> bool:
        return "_available_at" not in indicator or parse_instant(indicator["_available_at"]) <= self.clock.now()

    def _holder(self, kind: str, value: str, *, hidden_too: bool = False) -> Indicator | None:
        identity = identity_of(kind, value)
        known = self.indicators.values() if hidden_too else self._living()
        return next((i for i in known if not i["deleted"] and identity_of(i["type"], i["value"]) == identity), None)

    def _expire(self) -> None:
        now = self.clock.now()
        for indicator in self.indicators.values():
            ends = indicator.get("expiration")
            if ends and not indicator["expired"] and parse_instant(ends) <= now:
                indicator.update(expired=True, action="no_action")

    def _now(self) -> str:
        """Nanoseconds, of which the clock knows the microseconds; the rest tells records apart."""
        return f"{self.clock.now():%Y-%m-%dT%H:%M:%S.%f}{len(self.audit) % 1000:03d}Z"
