"""One believable day for the simulators: what the vendors would hold after 24 hours of ordinary failures.

``build_demo(end)`` returns, per product, the seed that its simulator takes, in the vendor's own raw shape, plus the
answers under ``_truth``. It is pure: the same arguments give the same day, byte for byte. It reads no clock.

Shapes follow the public facts about each vendor: SIA threat events as in Akamai's OpenAPI examples
(https://github.com/akamai/akamai-apis, apis/etp-report/v3), AbuseIPDB as in https://docs.abuseipdb.com, Spamhaus
DROP as NDJSON with a trailing metadata line. INFERRED: the whole body of an API Security incident, and of its
``evidence`` in particular (see :func:`_evidence`); no vendor description of either is public.

Seeds
    ``akamai_api_security``  ``{"incidents": […], "findings": […], "alerts": […]}``; ``alerts`` tell the runtime
                             stories once more in the Neosec shape, for a tenant of that lineage
    ``akamai_sia``           ``{"configs": {"41041": [rows]}}``
    ``abuseipdb``            ``{"addresses": {address: check fields}, "public_networks": […]}``
    ``list_feed``            ``{"files": {name: text}}``
    ``cyware_respond``       ``{"incidents": [{…, "_iocs": {"ioc_ip": […]}}]}``
    ``akamai_client_lists``  ``{"lists": [{"listId", "name", "type", "items": […]}]}``
    ``crowdstrike_falcon``   ``{"indicators": []}``; ``splunk`` ``{"collections": {"threat_watchlist": []}}``

Underscore keys are for the simulators, never for clients: ``_available_at`` (invisible before), ``_story``. A
re-listed incident is a second record with the id of the first and a later ``lastUpdate``.

How to read ``block_expected``: true where AbuseIPDB (90 or more) and a block list both speak plainly against the
value, or a curated list does (a DROP network, a domain, a hash), nothing protects it, and it occurs in a high or
critical event. An attacker that no list knows is ``malicious`` and yet not expected to be blocked: unknown is never
blocked. Nor is one that AbuseIPDB alone knows (``THINLY_LISTED``): anybody may report there.
Scores between 46 and 89 occur only on protected addresses, so that a threshold may move without changing the answer.

Not imitated: rates and sizes of a real tenant (a day there is 10⁵ events), hosts that move between sites, and
whitelisting by hand during the day. Addresses are documentation ranges, names end in ``.example``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

Record = dict[str, Any]


class Threat(NamedTuple):
    """What SIA calls a detection. Categories and 2000, 5070, 5135 are Akamai's; the other threat ids are invented."""

    threat_id: int
    name: str
    category_id: str
    category: str
    confidence: str


AUP = Threat(2000, "AUP", "24", "24", "Unknown")
KNOWN_MALWARE = Threat(5070, "Known Malware", "1", "Malware", "Known")
SUSPECTED_MALWARE = Threat(5071, "Suspected Malware", "1", "Malware", "Suspected")
KNOWN_C2 = Threat(5081, "Known C&C", "3", "C&C", "Known")
SUSPECTED_C2 = Threat(5080, "Suspected C&C", "3", "C&C", "Suspected")
KNOWN_PHISHING = Threat(5090, "Known Phishing", "2", "Phishing", "Known")
SUSPECTED_TUNNEL = Threat(5135, "Suspected DNS tunneling", "5", "DNS Exfiltration", "Suspected")
KNOWN_TUNNEL = Threat(5136, "Known DNS tunneling", "5", "DNS Exfiltration", "Known")

CONFIG_ID = "41041"
CLIENT_LIST_ID = "91596_SOCAUTOBLOCK"

#: story -> (what happens, what a good response does with it)
STORIES: dict[str, tuple[str, str]] = {
    "credential_stuffing": (
        "30 rotating addresses try passwords on login.shop.example",
        "block those that two sources list",
    ),
    "bola_enumeration": ("3 addresses walk through /v2/orders/{id}", "block 2, relate to a case opened by hand"),
    "vulnerability_scan": ("a scanner knocks on every path, mostly low", "block the loud one only"),
    "sql_injection": ("injection bursts against search and cart", "block, the network is on DROP"),
    "dns_tunnel": ("an internal host tunnels out through DNS", "block the domain, never the host"),
    "malware_domains": ("c2-*.badware.example resolved, files fetched", "block domains, hosts and hashes"),
    "phishing": ("a look-alike login page behind a shared CDN", "block the domain, never the CDN"),
    "spoofed_forwarded_for": ("an attacker writes our resolver into X-Forwarded-For", "block the sender only"),
    "hostile_markup": ("markup, formula and line breaks in path and agent", "block; nothing may execute anywhere"),
    "search_crawler": ("bait: a search engine's crawler is reported as scraping", "no block: protected"),
    "partner_nat": ("bait: a partner's NAT looks like stuffing", "no block: protected"),
    "cdn_edge": ("bait: a CDN edge stands in the attacker field", "no block: protected"),
    "own_egress": ("bait: our own load test looks like an attack", "no block: protected"),
    "posture": ("posture findings without any attacker", "one case, nothing to block"),
    "background": ("the noise of a day", "nothing"),
    "broken_record": ("one record per source that does not fit", "that record is refused, its neighbours are not"),
}

#: Who must never be blocked, and why. A demo policy protects these.
PROTECTED_NETWORKS = {
    "192.0.2.0/28": "our own egress",
    "192.0.2.53/32": "our public resolver",
    "198.51.100.64/27": "search engine's crawler",
    "198.51.100.128/27": "CDN edge",
    "198.51.100.200/29": "partner's NAT",
    "10.0.0.0/8": "internal hosts",
}

EGRESS = "192.0.2.5"
LOAD_TEST = "192.0.2.7"
RESOLVER = "192.0.2.53"
EDGE = "198.51.100.130"
PHISHING_EDGE = "198.51.100.140"
CRAWLERS = ("198.51.100.66", "198.51.100.70", "198.51.100.77")
PARTNERS = tuple(f"198.51.100.{n}" for n in range(201, 206))
BYSTANDERS = tuple(f"198.51.100.{n}" for n in range(20, 32))

#: 24 IPv4 and 6 IPv6 addresses, mixed, so that each burst has both.
STUFFERS = tuple(f"2001:db8:bad:{n // 5 + 1}::{n + 16:x}" if n % 5 == 4 else f"203.0.113.{10 + n}" for n in range(30))
UNLISTED_STUFFERS = frozenset(STUFFERS[-4:])
#: Bait for haste: on AbuseIPDB with a high score, and on no other list.
THINLY_LISTED = frozenset(STUFFERS[22:26])
BOLA = ("203.0.113.130", "203.0.113.131", "203.0.113.132")
SCANNERS = ("203.0.113.140", "203.0.113.141")
INJECTORS = ("203.0.113.150", "203.0.113.151")
SPOOFER = "203.0.113.160"
BEHIND_EDGE = "203.0.113.161"

C2 = {f"c2-0{n}.badware.example": f"203.0.113.{199 + n}" for n in range(1, 5)}
NEW_C2, NEW_C2_HOST = "c2-05.badware.example", "203.0.113.204"
TUNNEL = "tunnel.exfil.example"
TUNNEL_HOST = "10.20.30.44"
PHISHING = "shop-login-verify.example"
CSV_BAIT = "csv.hostile.example"
MALWARE_FILES = ("update.bin", "Invoice_0293.docm", "driver.dll")
MALWARE_HASHES = tuple(hashlib.sha256(f"demo malware {name}".encode()).hexdigest() for name in MALWARE_FILES)
NEW_MALWARE_HASH = hashlib.sha256(b"demo malware nobody has seen").hexdigest()
EMPTY_HASH = hashlib.sha256(b"").hexdigest()

HARMLESS_DOMAINS = ("video.streaming.example", "news.portal.example", "games.play.example", "social.chat.example")
OWN_DOMAINS = ("login.shop.example", "api.shop.example")
DROP_NETWORKS = ("203.0.113.144/29", "203.0.113.200/30", "203.0.113.248/29")

AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.127",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
)
CRAWLER_AGENT = "Mozilla/5.0 (compatible; ExampleBot/2.1; +https://crawler.example/bot.html)"

DEVICES = {
    "10.20.30.11": "FIN-LT-011",
    "10.20.30.12": "FIN-LT-012",
    "10.20.31.7": "HR-LT-007",
    "10.20.31.23": "WH-PC-023",
    TUNNEL_HOST: "DEV-WS-044",
}
#: SIA counts the other way round: 1 is the worst.
SIA_SEVERITY = {"Unclassified": 0, "Critical": 1, "High": 2, "Medium": 3, "Low": 4}


def build_demo(end: datetime, *, hours: int = 24, seed: int = 7) -> dict[str, Record]:
    """
    The seed of every product for the ``hours`` before ``end``, and the answers.

    :param end: a full UTC hour; nothing in the day is at or after it
    :param hours: the stories are stretched or squeezed to this length; the last hour is always a busy one
    :param seed: another seed gives other ids, accounts and jitter, the same stories
    :return: product -> seed, and ``_truth``: ``{"observables": {value: {"label": "malicious" | "benign" |
        "protected", "story", "block_expected"}}, "stories": {name: {"title", "expected"}}}``
    :raises ValueError: when ``end`` is no full UTC hour or ``hours`` is below 1
    """
    if end.utcoffset() != timedelta(0) or (end.minute, end.second, end.microsecond) != (0, 0, 0):
        raise ValueError("end must be a full UTC hour")
    if hours < 1:
        raise ValueError("hours must be at least 1")
    day = _Day(end.astimezone(UTC), hours, random.Random(seed))
    for tell in (
        _credential_stuffing,
        _bola_enumeration,
        _vulnerability_scan,
        _sql_injection,
        _false_positive_bait,
        _posture,
        _background,
        _dns_tunnel,
        _malware_domains,
        _phishing,
    ):
        tell(day)
    day.rows += [row | {} for row in day.rows if row.pop("_twice", False)]
    day.incidents.sort(key=lambda r: (r["detectionTime"], r["lastUpdate"]))
    day.findings.sort(key=lambda r: r["detectionTime"])
    day.rows.sort(key=lambda r: r["event"]["detectionTime"])
    return {
        "akamai_api_security": {
            "incidents": day.incidents,
            "findings": day.findings,
            "alerts": _alerts(day),
        },
        "akamai_sia": {"configs": {CONFIG_ID: [{"id": str(n)} | row for n, row in enumerate(day.rows)]}},
        "abuseipdb": _abuseipdb(day),
        "list_feed": _list_feed(day),
        "cyware_respond": _cyware(day),
        "akamai_client_lists": _client_lists(),
        "crowdstrike_falcon": {"indicators": []},
        "splunk": {"collections": {"threat_watchlist": []}},
        "_truth": {
            "observables": _truth(),
            "stories": {name: {"title": title, "expected": expected} for name, (title, expected) in STORIES.items()},
        },
    }


def describe(demo: dict[str, Record]) -> str:
    """A plain-text table: events and high or critical ones per story, duplicates counted once."""
    counts = {name: [0, 0] for name in demo["_truth"]["stories"]}
    seen: set[str] = set()
    for key, story, severity in _events(demo):
        if key in seen:
            continue
        seen.add(key)
        counts[story][0] += 1
        counts[story][1] += severity in ("High", "Critical")
    lines = [f"{'story':<22} {'events':>6} {'high':>5}  what happens; what is expected"]
    for name, (events, high) in counts.items():
        story = demo["_truth"]["stories"][name]
        lines.append(f"{name:<22} {events:>6} {high:>5}  {story['title']}; {story['expected']}")
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    lines.append(f"{'together':<22} {total[0]:>6} {total[1]:>5}")
    return "\n".join(lines) + "\n"


def _events(demo: dict[str, Record]) -> list[tuple[str, str, str]]:
    """(identity, story, severity's name) of every event of both sources."""
    security = demo["akamai_api_security"]
    events = [(r["id"], r["_story"], r["severity"]) for r in security["incidents"] + security["findings"]]
    for rows in demo["akamai_sia"]["configs"].values():
        events += [((r.get("query") or r["request"])["uuid"], r["_story"], r["event"]["severityLevel"]) for r in rows]
    return events


@dataclass
class _Day:
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
            "detectionTime": _millis(at),
            "lastUpdate": _millis(max(activity, available)),
            "lastActivity": _millis(activity),
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
            record["_available_at"] = _millis(available)
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
        grown |= {"lastUpdate": _millis(later), "lastActivity": _millis(later), "_available_at": _millis(later)}
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


def _millis(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _seconds(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _defang(value: str) -> str:
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
        "timestamp": _millis(at),
        "sourceIp": attacker,
        "method": method,
        "host": host,
        "path": path,
        "headers": {"Host": host, "User-Agent": agent, "X-Forwarded-For": f"{attacker}, {EDGE}"} | (headers or {}),
        "responseCode": codes[0],
    }


def _credential_stuffing(day: _Day) -> None:
    def burst(at: datetime, severity: str, attackers: tuple[str, ...], **options: Any) -> Record:
        tries = day.rng.randint(400, 9000) if severity in ("High", "Critical") else day.rng.randint(20, 120)
        return day.incident(
            "credential_stuffing",
            at,
            severity,
            "Credential stuffing on the login endpoint",
            attackers,
            type_id="credentialStuffing",
            method="POST",
            host="login.shop.example",
            path="/v1/login",
            codes=(401, 403),
            owasp="API2:2023 Broken Authentication",
            description=f"{tries} failed logins for {max(2, tries // 3)} accounts from {len(attackers)} addresses, "
            f"first {_defang(attackers[0])}, last {_spelled_out(attackers[-1])}. "
            f"Account sample: user{day.rng.randrange(1000)}@mail.example.",
            **options,
        )

    for n, hour in enumerate((1.2, 5.5, 9.3, 13.6, 18.1, 23.3)):
        # Each burst takes over some addresses of the one before; the last one comes back to the first.
        crew = tuple(STUFFERS[(n * 5 + k) % len(STUFFERS)] for k in range(8))
        record = burst(day.at(hour), "Critical" if n == 3 else "High", crew)
        if n == 1:
            day.relist(record, 2, STUFFERS[13:15])
    for n, at in enumerate(day.scatter(24)):
        crew = tuple(STUFFERS[(n + k) % len(STUFFERS)] for k in range(1 + n % 3))
        burst(at, "Medium", crew, late_hours=1.5 if n in (7, 15) else 0)


def _spelled_out(address: str) -> str:
    """An IPv6 address in full and in capitals, as some products print it."""
    parsed = ipaddress.ip_address(address)
    return parsed.exploded.upper() if parsed.version == 6 else address


def _bola_enumeration(day: _Day) -> None:
    def walk(at: datetime, severity: str, attackers: tuple[str, ...], **options: Any) -> Record:
        first = day.rng.randint(100_000, 900_000)
        return day.incident(
            "bola_enumeration",
            at,
            severity,
            "Object ids are enumerated (BOLA)",
            attackers,
            type_id="bola",
            path=f"/v2/orders/{first}",
            codes=(200, 404),
            owasp="API1:2023 Broken Object Level Authorization",
            description=f"GET https://api.shop.example/v2/orders/{first} and the next {day.rng.randint(50, 900)} ids "
            f"with one session, seen from {', '.join(attackers)}.",
            **options,
        )

    walk(day.at(3.4), "High", BOLA[:2])
    walk(day.at(10.7), "Critical", BOLA)
    walk(day.at(16.2), "High", BOLA[1:])
    # The live hour: these two stand in this morning's incidents and in the case that was opened by hand.
    walk(day.at(23.6), "High", BOLA[:2])
    for n, at in enumerate(day.scatter(8)):
        record = walk(at, "Medium", (BOLA[n % 3],))
        if n == 4:
            day.relist(record, 1, ())


def _vulnerability_scan(day: _Day) -> None:
    paths = ("/.env", "/admin/config.php", "/actuator/health", "/v1/swagger.json", "/.git/config", "/server-status")

    def probe(at: datetime, severity: str, attacker: str, title: str, path: str, code: int) -> None:
        day.incident(
            "vulnerability_scan",
            at,
            severity,
            title,
            (attacker,),
            type_id="vulnerabilityScan",
            path=path,
            codes=(code,),
            agent="Mozilla/5.0 zgrab/0.x",
            owasp="API9:2023 Improper Inventory Management",
            description=f"Scanner signature from {attacker}: {day.rng.randint(5, 80)} unknown paths in one minute.",
        )

    for hour in (7.1, 19.8):
        probe(day.at(hour), "High", SCANNERS[0], "Scanner reached an undocumented admin endpoint", "/admin/export", 200)
    for n, at in enumerate(day.scatter(32)):
        quiet = n % 4 == 3
        probe(at, "Medium" if n % 5 == 0 else "Low", SCANNERS[quiet], "Endpoint discovery", day.rng.choice(paths), 404)


def _sql_injection(day: _Day) -> None:
    payloads = ("' OR 1=1--", "1;SELECT pg_sleep(9)--", "' UNION SELECT null,version()--")

    def inject(at: datetime, severity: str, attackers: tuple[str, ...]) -> None:
        payload = day.rng.choice(payloads)
        day.incident(
            "sql_injection",
            at,
            severity,
            "SQL injection attempts",
            attackers,
            type_id="sqlInjection",
            path=f"/v2/search?q={payload}",
            codes=(500, 400),
            owasp="API8:2023 Security Misconfiguration",
            description=f"Parameter q carries {payload!r}; callers {' and '.join(map(_defang, attackers))}.",
        )

    inject(day.at(6.3), "Critical", INJECTORS)
    inject(day.at(6.8), "High", INJECTORS[:1])
    inject(day.at(14.4), "Critical", INJECTORS)
    for at in day.scatter(6):
        inject(at, "Medium", INJECTORS[1:])
    day.incident(
        "hostile_markup",
        day.at(15.3),
        "High",
        "Script injection in path and headers",
        INJECTORS[1:],
        type_id="xss",
        path="/v2/search/<script>alert(1)</script>",
        codes=(400,),
        agent='"><img src=x onerror=alert(1)>\r\nX-Forged: level=INFO all is well',
        headers={"Referer": f'=HYPERLINK("https://{CSV_BAIT}/leak","open me")'},
        description="Path contains <script>alert(1)</script>; user agent closes an attribute: "
        '"><img src=x onerror=alert(1)>. Reported by <b>Runtime</b> & friends.',
    )


def _false_positive_bait(day: _Day) -> None:
    def crawl(at: datetime, severity: str, crawler: str) -> None:
        day.incident(
            "search_crawler",
            at,
            severity,
            "Product data is scraped",
            (crawler,),
            type_id="scraping",
            path=f"/v2/products/{day.rng.randint(1, 9000)}",
            agent=CRAWLER_AGENT,
            owasp="API6:2023 Unrestricted Access to Sensitive Business Flows",
            description=f"{crawler} read {day.rng.randint(500, 5000)} products in an hour, agent {CRAWLER_AGENT}",
        )

    crawl(day.at(12.2), "High", CRAWLERS[0])
    for n, at in enumerate(day.scatter(10)):
        crawl(at, "Low", CRAWLERS[n % 3])

    def partner(at: datetime, severity: str, attackers: tuple[str, ...]) -> None:
        day.incident(
            "partner_nat",
            at,
            severity,
            "Many accounts from one address",
            attackers,
            type_id="credentialStuffing",
            method="POST",
            host="login.shop.example",
            path="/v1/login",
            codes=(200, 401),
            owasp="API2:2023 Broken Authentication",
            description=f"{day.rng.randint(60, 300)} accounts log in from {', '.join(attackers)}; 91 % succeed.",
        )

    partner(day.at(8.9), "High", PARTNERS[:3])
    partner(day.at(17.5), "High", PARTNERS[2:])
    for n, at in enumerate(day.scatter(8)):
        partner(at, "Medium", (PARTNERS[n % 5],))

    day.incident(
        "spoofed_forwarded_for",
        day.at(11.4),
        "High",
        "Brute force with forged proxy headers",
        (SPOOFER,),
        type_id="bruteForce",
        method="POST",
        host="login.shop.example",
        path="/v1/login",
        codes=(401,),
        owasp="API2:2023 Broken Authentication",
        headers={"X-Forwarded-For": f"{RESOLVER}, {SPOOFER}"},
        description=f"Every call claims X-Forwarded-For: {RESOLVER}; the connection came from {_defang(SPOOFER)}.",
    )
    day.incident(
        "cdn_edge",
        day.at(20.6),
        "High",
        "Excessive calls from one address",
        (EDGE,),
        type_id="rateAnomaly",
        path="/v2/cart",
        codes=(429,),
        owasp="API4:2023 Unrestricted Resource Consumption",
        headers={"X-Forwarded-For": f"{BEHIND_EDGE}", "True-Client-IP": BEHIND_EDGE, "Via": "1.1 edge"},
        description=f"12,400 calls within ten minutes, all from {EDGE}.",
    )
    for n, at in enumerate(day.scatter(3)):
        day.incident(
            "own_egress",
            at,
            "Medium",
            "Excessive calls from one address",
            (LOAD_TEST,),
            type_id="rateAnomaly",
            path=f"/v2/cart?loadtest={n}",
            codes=(200, 429),
            agent="k6/0.52.0",
            owasp="API4:2023 Unrestricted Resource Consumption",
            description=f"{day.rng.randint(5, 20)},000 calls in five minutes from {LOAD_TEST}, agent k6.",
        )


def _posture(day: _Day) -> None:
    titles = (
        ("Weak Authentication Method", "API2:2023 Broken Authentication"),
        ("Sensitive data in a query string", "API3:2023 Broken Object Property Level Authorization"),
        ("Endpoint without rate limit", "API4:2023 Unrestricted Resource Consumption"),
        ("Shadow API discovered", "API9:2023 Improper Inventory Management"),
        ("Missing security header", "API8:2023 Security Misconfiguration"),
    )

    def finding(at: datetime, severity: str, title: str, owasp: str) -> None:
        ident = day.hex_id(at)
        host = day.rng.choice(OWN_DOMAINS)
        day.findings.append(
            {
                "id": ident,
                "title": title,
                "url": f"https://tenant.api-security.example/findings/{ident}",
                "typeId": "".join(title.title().split()),
                "apiId": hashlib.sha256(host.encode()).hexdigest()[:32],
                "relatedApiIds": [],
                "module": "Posture",
                "host": host,
                "path": day.rng.choice(("/v1/token", "/v1/profile", "/v2/cart", "/internal/metrics")),
                "method": day.rng.choice(("GET", "POST")),
                "resourceGroupName": "shop",
                "status": "open",
                "severity": severity,
                "owaspTags": [owasp],
                "complianceFrameworkTags": ["PCI DSS 4.0"] if day.rng.random() < 0.3 else [],
                "vulnerabilityFrameworkTags": [],
                "detectionTime": _millis(at),
                "lastUpdate": _millis(day.before_end(at + timedelta(minutes=1))),
                "triggeredOn": _millis(at),
                "description": f"{title} on {host}.",
                "impact": "Eases other attacks.",
                "remediation": "See the service's owner.",
                "investigate": "Compare with the specification.",
                "comments": [],
                "tickets": [],
                "externalTickets": [],
                "evidence": [],
                "source": "Traffic",
                "hasRelatedIncidents": False,
                "tagsIds": [],
                "_story": "posture",
            }
        )

    finding(day.at(2.6), "High", "Endpoint returns payment data without authentication", titles[0][1])
    for n, at in enumerate(day.scatter(35)):
        finding(at, "Medium" if n % 6 == 0 else ("Low", "Info")[n % 2], *day.rng.choice(titles))


def _background(day: _Day) -> None:
    for n, at in enumerate(day.scatter(16)):
        day.incident(
            "background",
            at,
            "Low",
            "Unusual error rate",
            (BYSTANDERS[n % len(BYSTANDERS)],),
            type_id="errorRate",
            path="/v2/cart",
            codes=(400, 404),
            description="More client errors than usual from one address.",
        )
    broken = day.incident(
        "broken_record",
        day.at(11.0),
        "Low",
        "Unusual error rate",
        (BYSTANDERS[0],),
        type_id="errorRate",
        path="/v2/cart",
        codes=(400,),
        description="This record's severity is none that the product has.",
    )
    broken["severity"] = "Purple"

    for at in day.scatter(72):
        day.dns(
            "background",
            at,
            "Unclassified",
            AUP,
            day.rng.choice(HARMLESS_DOMAINS),
            query_type=day.rng.choice(("A", "A", "AAAA")),
        )
    row = day.dns(
        "broken_record",
        day.at(15.9),
        "Low",
        AUP,
        HARMLESS_DOMAINS[0],
    )
    row["event"] |= {"severityId": "purple", "severityLevel": "Purple"}


def _dns_tunnel(day: _Day) -> None:
    for hour, severity in ((4.3, "Critical"), (21.2, "High")):
        day.dns(
            "dns_tunnel",
            day.at(hour),
            severity,
            KNOWN_TUNNEL,
            TUNNEL,
            client=TUNNEL_HOST,
            query_type="TXT",
            description=f"{day.rng.randint(900, 4000)} queries below {_defang(TUNNEL)} within ten minutes",
            twice=severity == "Critical",
        )
    for n, at in enumerate(day.scatter(40)):
        labels = f"{day.rng.getrandbits(200):050x}.{day.rng.getrandbits(160):040x}.{n}"
        day.dns(
            "dns_tunnel",
            at,
            "Medium" if n % 4 == 0 else "Low",
            SUSPECTED_TUNNEL,
            f"{labels}.{TUNNEL}",
            client=TUNNEL_HOST,
            query_type=("TXT", "AAAA")[n % 2],
            twice=n == 11,
            late_hours=3 if n in (9, 22) else 0,
        )


def _malware_domains(day: _Day) -> None:
    story = "malware_domains"
    domains = list(C2.items())
    for n, (hour, late_hours) in enumerate(((0.7, 0), (9.8, 0), (13.1, 2.5), (22.4, 0), (23.5, 0))):
        domain, address = domains[n % 4]
        severity = "Critical" if n == 2 else "High"
        day.dns(story, day.at(hour), severity, KNOWN_C2, domain, resolved=address, late_hours=late_hours, twice=n == 1)
    for n, at in enumerate(day.scatter(32)):
        domain, address = domains[n % 4]
        # Every third time the name no longer resolves.
        day.dns(story, at, "Medium", KNOWN_C2, domain, resolved=None if n % 3 == 2 else address)
    for at in day.scatter(6):
        day.dns(story, at, "Medium", SUSPECTED_C2, NEW_C2, resolved=NEW_C2_HOST)

    files = list(zip(MALWARE_FILES, MALWARE_HASHES, strict=True))
    # One spelling in capitals: a hash is the same hash.
    first = [files[0], (files[1][0], files[1][1].upper())]
    day.download(story, day.at(10.1), "High", KNOWN_MALWARE, *domains[1], first, client="10.20.30.12")
    day.download(story, day.at(22.5), "High", KNOWN_MALWARE, *domains[3], files[2:], client="10.20.31.23")
    for n, at in enumerate(day.scatter(6)):
        file = ("tracker.gif", EMPTY_HASH) if n % 2 else ("setup.exe", NEW_MALWARE_HASH)
        day.download(story, at, "Medium", SUSPECTED_MALWARE, NEW_C2, NEW_C2_HOST, [file], client="10.20.31.7")


def _phishing(day: _Day) -> None:
    for hour in (8.2, 18.6):
        day.dns(
            "phishing",
            day.at(hour),
            "High",
            KNOWN_PHISHING,
            PHISHING,
            resolved=PHISHING_EDGE,
            description=f"Mail from billing@{PHISHING} with {_defang(f'https://{PHISHING}/session?id=1')}",
        )
    for n, at in enumerate(day.scatter(14)):
        severity = "Medium" if n % 2 else "Low"
        day.dns("phishing", at, severity, KNOWN_PHISHING, PHISHING, resolved=PHISHING_EDGE)


def _alerts(day: _Day) -> list[Record]:
    """The runtime stories in the Neosec shape: every high one and every third of the others, each incident once."""
    first: dict[str, Record] = {}
    for incident in day.incidents:
        if incident["_story"] != "broken_record":
            first.setdefault(incident["id"], incident)
    alerts = []
    for n, incident in enumerate(first.values()):
        if n % 3 == 0 or incident["severity"] in ("High", "Critical"):
            alerts.append(_alert(day, incident))
    return alerts


def _alert(day: _Day, incident: Record) -> Record:
    addresses = incident.get("attackerIps") or incident.get("attacker", {}).get("IP") or [incident["attackerIp"]]
    when = incident["detectionTime"].replace("Z", "000Z")  # this lineage writes microseconds
    endpoint = f"{incident['method']} {incident['path']}"
    alert: Record = {
        "id": day.uuid(),
        "name": incident["title"],
        "timestamp": when,
        "triggered_at": when,
        "status": "Open",
        "severity": incident["severity"],
        "category": "Account Takeover" if "API2" in incident["owaspTags"][0] else "Data Access",
        "alert_type": "UserBehaviorAlert",
        "description": f"* Endpoint '{endpoint}' in service '{incident['host']}'\n* {incident['description']}",
        "alert_info": incident["impact"],
        "recommendations": f"* {incident['remediation']}",
        "source": None,
        "author": "Analytics",
        "sequence_ids": None,
        "detection_model_id": str(uuid.uuid5(uuid.NAMESPACE_DNS, incident["typeId"])),
        "base_risk_score": 0,
        "entities": [
            {
                "value": address,
                "name": "IP",
                "pretty_name": None,
                "class": "ip",
                "family": "actor",
                "value_type": f"IPv{ipaddress.ip_address(address).version}",
            }
            for address in addresses
        ],
        "endpoints": [
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, endpoint)),
                "method": incident["method"],
                "endpoint_path": incident["path"],
                "service_name": incident["host"],
                "labels": None,
            }
        ],
        "endpoint": endpoint,
        "caller_ips": addresses,
        "labels": [f"OWASP {incident['owaspTags'][0].split(':')[0]}"],
        "call_ids": [day.uuid() for _ in incident["evidence"]],
        "_story": incident["_story"],
    }
    if "_available_at" in incident:
        alert["_available_at"] = incident["_available_at"]
    return alert


def _abuseipdb(day: _Day) -> Record:
    addresses: dict[str, Record] = {}

    def know(
        address: str, score: int, reports: int, usage: str = "Data Center/Web Hosting/Transit", **more: Any
    ) -> None:
        hours = day.rng.randint(2, 60)
        addresses[address] = {
            "abuseConfidenceScore": score,
            "isWhitelisted": False,
            "countryCode": "XA",
            "usageType": usage,
            "isp": "Example Hosting",
            "domain": "hosting.example",
            "hostnames": [],
            "isTor": False,
            "categories": [18, 21],
            "totalReports": reports,
            "numDistinctUsers": max(1, reports // 4) if reports else 0,
            "lastReportedAt": (day.end - timedelta(hours=day.hours + hours)).strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        } | more

    for n, address in enumerate(STUFFERS):
        if address not in UNLISTED_STUFFERS:
            know(address, (100, 96, 92)[n % 3], day.rng.randint(40, 900))
    for address, score in {
        BOLA[0]: 91,
        BOLA[1]: 94,
        SCANNERS[0]: 100,
        SCANNERS[1]: 45,
        INJECTORS[0]: 100,
        INJECTORS[1]: 92,
        SPOOFER: 97,
    }.items():
        know(address, score, score * 3)
    for address in C2.values():
        know(address, 98, 120, isp="Bulletproof Example", domain="bulletproof.example")
    # Reported often enough to look guilty (the first one is in a high incident), and still a search engine.
    for address, score in zip(CRAWLERS, (79, 12, 0), strict=True):
        know(address, score, 214, "Search Engine Spider", isWhitelisted=True, isp="Example Search")
    # The worst bait: only the never-block list stands between this score and a partner's whole office.
    know(PARTNERS[1], 78, 95, "Fixed Line ISP", isp="Example Telecom", domain="telecom.example", countryCode=None)
    for edge in (EDGE, PHISHING_EDGE):
        know(edge, 88, 340, "Content Delivery Network", isp="Example CDN", isWhitelisted=True)
    know(RESOLVER, 0, 12, isWhitelisted=True)
    know(BYSTANDERS[0], 12, 3, "Mobile ISP", domain=None)
    know(BYSTANDERS[1], 0, 0, "Fixed Line ISP", lastReportedAt=None, isWhitelisted=None)
    return {
        "addresses": addresses,
        "public_networks": ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"],
    }


def _list_feed(day: _Day) -> Record:
    drop = [
        json.dumps({"cidr": cidr, "sblid": f"SBL90000{n}", "rir": "ripencc"}, separators=(",", ":"))
        for n, cidr in enumerate(DROP_NETWORKS, start=1)
    ]
    body = "\n".join(drop) + "\n"
    metadata = {
        "type": "metadata",
        "timestamp": int((day.end - timedelta(hours=day.hours)).timestamp()),
        "size": len(body),
        "records": len(drop),
        "copyright": "demo data",
        "terms": "https://feeds.example/terms",
    }
    domains = [
        "# Malware and phishing domains, one a line",
        "",
        *C2,
        "old-c2.badware.example",
        f"{TUNNEL}  # DNS tunnelling",
        f"{PHISHING}  # phishing",
    ]
    hashes = ["# SHA-256 of files seen in attacks", *MALWARE_HASHES]
    stuffers = [a for a in STUFFERS if a not in UNLISTED_STUFFERS | THINLY_LISTED]
    attackers = ["# Addresses that attacked web applications", *stuffers, *BOLA[:2], SCANNERS[0], SPOOFER]
    attackers += [*INJECTORS, *C2.values()]
    return {
        "files": {
            "drop_v4.json": body + json.dumps(metadata, separators=(",", ":")) + "\n",
            "malware-domains.txt": "\n".join(domains) + "\n",
            "bad-hashes.txt": "\n".join(hashes) + "\n",
            "web-attackers.txt": "\n".join(attackers) + "\n",
        }
    }


def _cyware(day: _Day) -> Record:
    def standing(days: float, title: str, description: str, kind: str, status: str, level: str, iocs: Record) -> Record:
        opened = _millis(day.end - timedelta(days=days))
        return {
            "title": title,
            "description": f"<p>{description}</p>",
            "status": status,
            "level": level,
            "ie_incident_type": kind,
            "sources": "Email",
            "assigned_group": "SOC L1",
            "detection_date": opened,
            "created": opened,
            "_iocs": iocs,
        }

    by_hand = f"Three customers report calls about their orders; order pages were read from {BOLA[1]}."
    strangers = "Customer care: strangers know order details"
    wave = {"ioc_domain": ["parcel-fee.example"]}
    return {
        "incidents": [
            standing(21, "Lost laptop", "Its disk was encrypted.", "Hacking", "closed", "Low", {}),
            standing(9, "Phishing mail wave", "An old wave, another sender.", "Phishing", "closed", "Low", wave),
            standing(3, strangers, by_hand, "Hacking", "open", "Medium", {"ioc_ip": [BOLA[1]]}),
        ]
    }


def _client_lists() -> Record:
    return {
        "lists": [
            {
                "listId": CLIENT_LIST_ID,
                "name": "SOC auto block",
                "type": "IP",
                "stagingActivationStatus": "ACTIVE",
                "productionActivationStatus": "ACTIVE",
                "items": [
                    {
                        "value": "198.51.100.250",
                        "description": "Fraud team, by hand, ticket FR-118",
                        "tags": [],
                        "expirationDate": "",
                    }
                ],
            }
        ]
    }


def _truth() -> dict[str, Record]:
    truth: dict[str, Record] = {}

    def judge(label: str, story: str, values: Any, *, block: bool = False) -> None:
        for value in values:
            truth[value] = {"label": label, "story": story, "block_expected": block}

    judge("malicious", "credential_stuffing", STUFFERS, block=True)
    judge("malicious", "credential_stuffing", UNLISTED_STUFFERS | THINLY_LISTED)
    judge("malicious", "bola_enumeration", BOLA[:2], block=True)
    judge("malicious", "bola_enumeration", BOLA[2:])
    judge("malicious", "vulnerability_scan", SCANNERS[:1], block=True)
    judge("malicious", "vulnerability_scan", SCANNERS[1:])
    judge("malicious", "sql_injection", INJECTORS, block=True)
    judge("malicious", "hostile_markup", [CSV_BAIT])
    judge("malicious", "spoofed_forwarded_for", [SPOOFER], block=True)
    judge("malicious", "cdn_edge", [BEHIND_EDGE])
    judge("malicious", "dns_tunnel", [TUNNEL], block=True)
    judge("malicious", "malware_domains", [*C2, *C2.values(), *MALWARE_HASHES], block=True)
    judge("malicious", "malware_domains", [NEW_C2, NEW_C2_HOST, NEW_MALWARE_HASH])
    judge("malicious", "phishing", [PHISHING], block=True)
    judge("benign", "malware_domains", [EMPTY_HASH])
    judge("benign", "search_crawler", ["crawler.example"])
    judge("benign", "background", [*BYSTANDERS, *HARMLESS_DOMAINS])
    judge("protected", "search_crawler", CRAWLERS)
    judge("protected", "partner_nat", PARTNERS)
    judge("protected", "cdn_edge", [EDGE])
    judge("protected", "phishing", [PHISHING_EDGE])
    judge("protected", "spoofed_forwarded_for", [RESOLVER])
    judge("protected", "own_egress", [EGRESS, LOAD_TEST])
    judge("protected", "credential_stuffing", OWN_DOMAINS)
    judge("protected", "dns_tunnel", [TUNNEL_HOST])
    judge("protected", "malware_domains", sorted(set(DEVICES) - {TUNNEL_HOST}))
    return truth
