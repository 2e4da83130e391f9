"""What the tenant remembers: findings, incidents, alerts and the tokens that it gave out."""

from __future__ import annotations

import math
from typing import Any

from include.simulators.akamai_api_security.answers import Record, Refused
from include.simulators.kit import Simulator, parse_instant


def _states(record: Record) -> list[Record]:
    """A record as it is first, and after each time that it has grown."""
    states = [{name: value for name, value in record.items() if name != "_grows"}]
    for growth in record.get("_grows", ()):
        changes = {name: value for name, value in growth.items() if name not in ("at", "attackerIps")}
        before = states[-1]
        attackers = before.get("attackerIps", before.get("attackerIp", []))
        known = [attackers] if isinstance(attackers, str) else list(attackers)
        grown = {"attackerIps": [*known, *growth["attackerIps"]]} if "attackerIps" in growth else {}
        states.append({**before, **changes, **grown, "lastUpdate": growth["at"], "_available_at": growth["at"]})
    return states


class Records(Simulator):
    """The tenant's records, each visible from its time on."""

    def clear(self) -> None:
        #: kind -> id -> its states, in the order of seeding
        self.records: dict[str, dict[str, list[Record]]] = {"incidents": {}, "findings": {}, "alerts": {}}
        self._tokens: dict[str, float] = {}
        self._window_start = -math.inf
        self._window_used = 0

    def seed(self, data: dict[str, Any]) -> None:
        for kind, records in data.items():
            for record in records:
                self.records[kind].setdefault(record["id"], []).extend(_states(record))

    def snapshot(self) -> dict[str, Any]:
        return {kind: [self._shown(r) for r in self._visible(kind)] for kind in self.records}

    @staticmethod
    def _shown(record: Record) -> Record:
        return {k: v for k, v in record.items() if not k.startswith("_")}

    def _visible(self, kind: str) -> list[Record]:
        """The latest state of each record that is available by now."""
        now = self.clock.now()
        states = (
            [s for s in states if "_available_at" not in s or parse_instant(s["_available_at"]) <= now]
            for states in self.records[kind].values()
        )
        return [available[-1] for available in states if available]

    def _find(self, kind: str, record_id: str) -> Record:
        for record in self._visible(kind):
            if record["id"] == record_id:
                return record
        raise Refused(404, f"{kind.removesuffix('s').capitalize()} {record_id} not found")

    def _set(self, kind: str, record: Record, name: str, value: Any) -> None:
        for state in self.records[kind][record["id"]]:
            state[name] = value

    def _touch(self, record: Record) -> None:
        now = self.clock.now()
        record["lastUpdate"] = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
