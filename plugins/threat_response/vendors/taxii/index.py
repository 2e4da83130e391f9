"""Looking a value up in what the collections say (see ``api.py``)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import one_line
from threat_response.vendors.taxii.api import MEANINGS, VENDOR, Record, text_of

#: A collection of which fewer percent can be read does not say of the rest that it is clean.
LEAST_READABLE = 50
_MOST_TAGS = 20


class Index:
    """What several collections say, by value. Networks name every address in them, everything else is exact."""

    def __init__(self, states: Iterable[Mapping[str, Record]]) -> None:
        self._exact: dict[str, list[Record]] = {}
        #: family -> prefix length -> the address's first bits -> indicators
        self._networks: dict[int, dict[int, dict[int, list[Record]]]] = {4: {}, 6: {}}
        self._meanings: dict[str, list[Record]] = {}
        #: Indicators that have a value in a part that could not be read. A network is only itself here.
        self._unread: dict[str, list[Record]] = {}
        for state in states:
            self._add(state)

    def _add(self, state: Mapping[str, Record]) -> None:
        for record in state.values():
            if record["revoked"]:
                continue
            if record["type"] == "indicator":
                for key in record["named"]:
                    self._name(key, record)
                # A copy of an older version of ours does not have it.
                for key in record.get("unread", ()):
                    self._unread.setdefault(key, []).append(record)
            elif record["type"] == "relationship":
                target = state.get(record["target"])
                if target and not target["revoked"] and target["type"] in MEANINGS:
                    self._meanings.setdefault(record["source"], []).append(target)

    def _name(self, key: str, record: Record) -> None:
        kind, _, value = key.partition(":")
        if kind == ObservableType.CIDR.value:
            network = ipaddress.ip_network(value)
            first = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            lengths = self._networks[network.version].setdefault(network.prefixlen, {})
            lengths.setdefault(first, []).append(record)
        else:
            self._exact.setdefault(key, []).append(record)

    def look_up(self, observable: Observable) -> list[Record]:
        """Every indicator that names the observable, whether it is in force or not."""
        found = list(self._exact.get(observable.key, ()))
        if observable.is_address or observable.type is ObservableType.CIDR:
            network = ipaddress.ip_network(observable.value)
            bits, address = network.max_prefixlen, int(network.network_address)
            for length, rows in self._networks[network.version].items():
                if length <= network.prefixlen:
                    found += rows.get(address >> (bits - length), ())
        # One that stands in two collections, or names an address and its network, is one: the newest version of it.
        return list({record["id"]: record for record in sorted(found, key=lambda r: str(r["modified"]))}.values())

    def reputation(
        self, observable: Observable, *, body_digest: str, doubts: Sequence[str], known_at: datetime
    ) -> Reputation:
        """
        Listed where an indicator in force names it, whatever else is in doubt. Not listed only where nothing is.

        :param body_digest: that of the copies that were looked in
        :param doubts: of which collections the silence is no answer, and why
        """
        now = text_of(known_at)
        named = self.look_up(observable)
        valid = [r for r in named if _is_in_force(r, now)]
        valid.sort(key=lambda r: (-r["score"], r["id"]))
        worst = valid[0]["score"] if valid else 0
        meanings = [meaning for record in valid for meaning in self._meanings.get(record["id"], ())]
        tags = [tag for r in valid for tag in r["tags"]] + [m["name"] for m in meanings if not m["techniques"]]
        techniques = {technique for r in [*valid, *meanings] for technique in r["techniques"]}
        stale = list(doubts)
        if unread := [r for r in self._unread.get(observable.key, ()) if _is_in_force(r, now)]:
            doubts = [*doubts, f"an indicator that has it in it could not be read: {', '.join(unread[0]['problems'])}"]
        summary = "; ".join([_summary(valid, lapsed=len(named) - len(valid)), *(stale if worst else doubts)])
        if not worst and doubts:
            return Reputation(
                observable=observable,
                provider=VENDOR,
                answer=Answer.NOT_CHECKED,
                summary=one_line(summary),
                body_digest=body_digest,
                known_at=known_at,
            )
        return Reputation(
            observable=observable,
            provider=VENDOR,
            answer=Answer.LISTED if worst > 0 else Answer.NOT_LISTED,
            score=worst,
            summary=one_line(summary, 500),
            # What says who may see it comes first, so that it is never the one that is cut.
            tags=tuple(sorted(dict.fromkeys(tags), key=lambda tag: not tag.startswith("tlp:")))[:_MOST_TAGS],
            techniques=tuple(sorted(techniques)),
            first_reported_at=min((datetime.fromisoformat(r["created"]) for r in valid if r["created"]), default=None),
            last_reported_at=max((datetime.fromisoformat(r["modified"]) for r in valid), default=None),
            body_digest=body_digest,
            known_at=known_at,
        )


def _is_in_force(record: Record, now: str) -> bool:
    """Also where it is not known: such a record is not read."""
    start, end = record.get("valid_from"), record.get("valid_until")
    return (not start or bool(start <= now)) and (not end or bool(now < end))


def doubt(reference: Mapping[str, Any], *, now: datetime, stale_after: timedelta) -> str:
    """Why a collection's silence is no answer; empty where it is one."""
    title = one_line(reference["title"], 80)
    if reference["uri"] is None:
        return f"{title} could not be read: {reference['problem']}"
    read_at = datetime.fromisoformat(reference["fetched_at"])
    if now - read_at >= stale_after:
        return f"{title} is stale: last read at {read_at:%Y-%m-%d %H:%M}Z"
    indicators, readable = reference.get("indicators", 0), reference.get("readable", 0)
    if 100 * readable < LEAST_READABLE * indicators:
        return f"{title} has {indicators} indicators, of which only {readable} can be read"
    return ""


def _summary(valid: Sequence[Record], *, lapsed: int) -> str:
    outdated = f"{lapsed} not in force now" if lapsed else ""
    if not valid:
        return f"no indicator in force ({outdated})" if lapsed else "no indicator"
    names = "; ".join(dict.fromkeys(record["name"] or record["id"] for record in valid[:3]))
    return f"{len(valid)} indicator{'s' * (len(valid) > 1)}: {names}{f' ({outdated})' if lapsed else ''}"
