"""The day under construction: one method for each kind of record that a source holds."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from include.simulators.demo_feed.cast import (
    AGENTS,
    CONFIG_ID,
    DEVICES,
    EDGE,
    EGRESS,
    EMPTY_HASH,
    RESOLVER,
    SIA_SEVERITY,
    Record,
    Threat,
)


@dataclass
class Day:
    """The day under construction. The order of calls decides what the random source gives: keep it stable."""

    end: datetime
    hours: int
    rng: random.Random
    incidents: list[Record] = field(default_factory=list)
    findings: list[Record] = field(default_factory=list)
    rows: list[Record] = field(default_factory=list)

    def at(self, hour: float) -> datetime:
        """The instant ``hour`` of 24 of the day, squeezed to its length; from 23 on, that of the last hour."""
        if hour >= 23:
            return self.end - timedelta(hours=24 - hour)
        moment = self.end - timedelta(hours=self.hours) + timedelta(hours=hour * self.hours / 24)
        return moment.replace(microsecond=0) + timedelta(milliseconds=self.rng.randrange(1000))

    def scatter(self, count: int) -> list[datetime]:
        """``count`` instants, evenly over the day with jitter."""
        return [self.at((n + self.rng.random()) * 23.9 / count) for n in range(count)]

    def before_end(self, moment: datetime) -> datetime:
        return min(moment, self.end - timedelta(seconds=1))

    def hex_id(self, moment: datetime) -> str:
        """An identifier like the Noname lineage's: a UUIDv7 without its dashes."""
        return f"{int(moment.timestamp() * 1000):012x}7{self.rng.getrandbits(76):019x}"

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def incident(
        self,
        story: str,
        at: datetime,
        severity: str,
        title: str,
        attackers: tuple[str, ...],
        *,
        type_id: str,
        path: str,
        description: str,
        method: str = "GET",
        host: str = "api.shop.example",
        codes: tuple[int, ...] = (200,),
        owasp: str = "API8:2023 Security Misconfiguration",
        agent: str | None = None,
        headers: Record | None = None,
        late_hours: float = 0,
    ) -> Record:
        """Append a runtime incident of the Noname lineage and return it."""
        ident = self.hex_id(at)
        activity = self.before_end(at + timedelta(minutes=self.rng.randint(2, 12)))
        available = self.before_end(at + timedelta(hours=late_hours))
        api = hashlib.sha256(f"{host} {method}".encode()).hexdigest()[:32]
        record: Record = {
            "id": ident,
            "title": title,
            "typeId": type_id,
            "url": f"https://tenant.api-security.example/incidents/{ident}",
            "module": "Runtime",
            "status": "open",
            "severity": severity,
            "host": host,
            "path": path,
            "method": method,
            "apiId": api,
            "relatedApiIds": [api],
            "owaspTags": [owasp],
            "countries": sorted(self.rng.sample(["XA", "XB", "XC", "XD"], k=min(2, len(attackers)))),
            "responseCodes": list(codes),
            "detectionTime": millis(at),
            "lastUpdate": millis(max(activity, available)),
            "lastActivity": millis(activity),
            "description": description,
            "impact": "See the affected endpoint's owner.",
            "remediation": "Limit the rate per account and per address.",
            "investigate": f"Filter the traffic of {host} by the attackers of this incident.",
            "evidence": [
                _evidence(at, method, host, path, a, codes, agent or self.rng.choice(AGENTS), headers)
                for a in attackers[:3]
            ],
            "_story": story,
        }
        record |= self._attackers(ident, attackers, "High" if severity in ("High", "Critical") else "Medium")
        if late_hours:
            record["_available_at"] = millis(available)
        self.incidents.append(record)
        return record

    def _attackers(self, ident: str, attackers: tuple[str, ...], confidence: str) -> Record:
        """Payloads are known with a nested attacker and with flat fields; every third incident is flat."""
        if len(self.incidents) % 3 == 2:
            one = {"attackerIp": attackers[0]} if len(attackers) == 1 else {"attackerIps": list(attackers)}
            return one | {"attackerConfidence": confidence}
        return {
            "attacker": {
                "id": ident[::-1],
                "identifier": attackers[0],
                "identifierType": "IP",
                "confidence": confidence,
                "IP": list(attackers),
            },
            "attackerConfidence": confidence,
        }

    def relist(self, incident: Record, hours_later: float, more: tuple[str, ...]) -> None:
        """The same incident once more, grown: later ``lastUpdate``, more attackers, visible from then on."""
        detected = datetime.fromisoformat(incident["detectionTime"].replace("Z", "+00:00"))
        later = self.before_end(detected + timedelta(hours=hours_later))
        grown = json.loads(json.dumps(incident))
        grown |= {"lastUpdate": millis(later), "lastActivity": millis(later), "_available_at": millis(later)}
        if more:
            known = grown["attackerIps"] if "attackerIps" in grown else grown["attacker"]["IP"]
            known += [address for address in more if address not in known]
        self.incidents.append(grown)

    def dns(
        self,
        story: str,
        at: datetime,
        severity: str,
        threat: Threat,
        domain: str,
        *,
        client: str | None = None,
        query_type: str = "A",
        resolved: str | None = None,
        description: str = "None",
        late_hours: float = 0,
        twice: bool = False,
    ) -> Record:
        """Append a DNS threat event and return it. ``client`` None: any of the ordinary devices."""
        client = client or self.rng.choice(sorted(DEVICES))
        query = {
            "time": _seconds(at),
            "clientIp": EGRESS,
            "dnsIp": RESOLVER,
            "domain": f"{domain}.",
            "uuid": f"{self.rng.getrandbits(32):08x}-{int(at.timestamp())}-{len(self.rows)}",
            "queryType": query_type,
            "deviceId": str(uuid.uuid5(uuid.NAMESPACE_DNS, client)),
            "deviceName": DEVICES[client],
            "resolved": [
                {"type": query_type, "response": resolved, "asn": "64496", "asname": "N/A"}
                if resolved
                else {"type": "N/A", "response": "N/A", "asn": "N/A", "asname": "N/A"}
            ],
        }
        row: Record = {"configId": CONFIG_ID, "l7Protocol": "DNS", "query": query}
        self._row(row, story, at, severity, threat, client, description=description, trigger="domain")
        if late_hours:
            row["_available_at"] = _seconds(self.before_end(at + timedelta(hours=late_hours)))
        if twice:
            row["_twice"] = True
        return row

    def download(
        self,
        story: str,
        at: datetime,
        severity: str,
        threat: Threat,
        domain: str,
        address: str,
        files: list[tuple[str, str]],
        *,
        client: str,
    ) -> Record:
        """Append an HTTP threat event whose files (name, SHA-256) were scanned, and return it."""
        row: Record = {
            "configId": CONFIG_ID,
            "l7Protocol": "HTTP",
            "request": {
                "startTime": int(at.timestamp() * 1000),
                "connectionId": f"0x{self.rng.getrandbits(80):020X}",
                "domain": f"{domain}.",
                "uri": f"/get/{files[0][0]}",
                "method": "GET",
                "clientPort": self.rng.randint(32768, 60999),
                "destinationIP": address,
                "destinationPort": 80,
                "uuid": self.uuid(),
                "clientIp": EGRESS,
                "queryStrings": [],
                "headers": [
                    {"name": "Host", "value": domain},
                    {"name": "User-Agent", "value": AGENTS[0]},
                    {"name": "X-Forwarded-For", "value": f"{client}, {EGRESS}"},
                ],
            },
            "response": {"endTime": int(at.timestamp() * 1000) + 41, "hash": "", "headers": []},
        }
        event = self._row(row, story, at, severity, threat, client, description="None", trigger="file")
        event |= {
            "httpVersion": "1.1",
            "httpUserAgent": AGENTS[0],
            "deepScanned": True,
            "files": [
                {
                    "fileName": name,
                    "fileHash": sha256,
                    "fileSize": 0 if sha256 == EMPTY_HASH else self.rng.randint(40_000, 900_000),
                    "fileType": "application/octet-stream",
                    "scanStatus": "Completed",
                    "isUpload": False,
                }
                for name, sha256 in files
            ],
        }
        return row

    def _row(
        self,
        row: Record,
        story: str,
        at: datetime,
        severity: str,
        threat: Threat,
        client: str,
        *,
        description: str,
        trigger: str,
    ) -> Record:
        """Give ``row`` its ``event``, append it and return the event."""
        blocked = severity in ("High", "Critical")
        on_network = self.rng.random() < 0.7
        row["event"] = {
            "trigger": trigger,
            "detectionTime": _seconds(at),
            "detectionType": "inline",
            "siteId": "51284" if on_network else "-1",
            "siteName": "Head office" if on_network else "Unidentified IPs",
            "policyId": "38307",
            "policyName": "Default",
            "listId": threat.category_id,
            "listName": threat.category,
            "categoryId": threat.category_id,
            "categoryName": threat.category,
            "confidenceId": {"Known": "2", "Suspected": "1"}.get(threat.confidence, "-1"),
            "confidenceName": threat.confidence,
            "actionId": "4" if blocked else "1",
            "actionName": "Block - Error Page" if blocked else "Monitor",
            "description": description,
            "reason": "Akamai Intelligence (DNS)" if row["l7Protocol"] == "DNS" else "Akamai Intelligence (HTTP)",
            "onRamp": "Yes" if on_network else "No",
            "threatId": threat.threat_id,
            "severityId": SIA_SEVERITY[severity],
            "threatName": threat.name,
            "severityLevel": severity,
            "onrampType": "etp-client" if on_network else "",
            # Without the client on the device the vendor does not know who asked.
            "internalClientIP": client if on_network else "N/A",
            "clientRequestId": f"{self.rng.randrange(10**8):08d}" if on_network else "",
            "policyEvaluationSource": "dns",
            "correlatedSinkholeEvents": [],
        }
        row["_story"] = story
        self.rows.append(row)
        return row["event"]  # type: ignore[no-any-return]


def millis(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _seconds(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def defang(value: str) -> str:
    return value.replace("http", "hxxp", 1).replace(".", "[.]") if "://" in value else value.replace(".", "[.]")


def _evidence(
    at: datetime,
    method: str,
    host: str,
    path: str,
    attacker: str,
    codes: tuple[int, ...],
    agent: str,
    headers: Record | None,
) -> Record:
    """One sampled call. INFERRED: the name ``evidence`` is known, what is inside is not."""
    return {
        "timestamp": millis(at),
        "sourceIp": attacker,
        "method": method,
        "host": host,
        "path": path,
        "headers": {"Host": host, "User-Agent": agent, "X-Forwarded-For": f"{attacker}, {EDGE}"} | (headers or {}),
        "responseCode": codes[0],
    }
