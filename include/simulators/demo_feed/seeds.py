"""What the other products hold at the day's start, and what a good response makes of the day."""

from __future__ import annotations

import ipaddress
import json
import uuid
from datetime import timedelta
from typing import Any

from include.simulators.demo_feed.cast import (
    BEHIND_EDGE,
    BOLA,
    BYSTANDERS,
    C2,
    CLIENT_LIST_ID,
    CRAWLERS,
    CSV_BAIT,
    DEVICES,
    DROP_NETWORKS,
    EDGE,
    EGRESS,
    EMPTY_HASH,
    HARMLESS_DOMAINS,
    INJECTORS,
    LOAD_TEST,
    MALWARE_HASHES,
    NEW_C2,
    NEW_C2_HOST,
    NEW_MALWARE_HASH,
    OWN_DOMAINS,
    PARTNERS,
    PHISHING,
    PHISHING_EDGE,
    RESOLVER,
    SCANNERS,
    SPOOFER,
    STUFFERS,
    THINLY_LISTED,
    TUNNEL,
    TUNNEL_HOST,
    UNLISTED_STUFFERS,
    Record,
)
from include.simulators.demo_feed.day import Day, millis


def neosec_alerts(day: Day) -> list[Record]:
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


def _alert(day: Day, incident: Record) -> Record:
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


def abuseipdb(day: Day) -> Record:
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


def list_feed(day: Day) -> Record:
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


def cyware(day: Day) -> Record:
    def standing(days: float, title: str, description: str, kind: str, status: str, level: str, iocs: Record) -> Record:
        opened = millis(day.end - timedelta(days=days))
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


def client_lists() -> Record:
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


def expected_answers() -> dict[str, Record]:
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
