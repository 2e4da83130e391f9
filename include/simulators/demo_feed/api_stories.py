"""What API Security saw: the attacks, the bait that must not be blocked, posture and noise."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import datetime, timedelta
from typing import Any

from include.simulators.demo_feed.cast import (
    AUP,
    BEHIND_EDGE,
    BOLA,
    BYSTANDERS,
    CRAWLER_AGENT,
    CRAWLERS,
    CSV_BAIT,
    EDGE,
    HARMLESS_DOMAINS,
    INJECTORS,
    LOAD_TEST,
    OWN_DOMAINS,
    PARTNERS,
    RESOLVER,
    SCANNERS,
    SPOOFER,
    STUFFERS,
    Record,
)
from include.simulators.demo_feed.day import Day, defang, millis


def credential_stuffing(day: Day) -> None:
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
            f"first {defang(attackers[0])}, last {_spelled_out(attackers[-1])}. "
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


def bola_enumeration(day: Day) -> None:
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


def vulnerability_scan(day: Day) -> None:
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


def sql_injection(day: Day) -> None:
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
            description=f"Parameter q carries {payload!r}; callers {' and '.join(map(defang, attackers))}.",
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


def false_positive_bait(day: Day) -> None:
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
        description=f"Every call claims X-Forwarded-For: {RESOLVER}; the connection came from {defang(SPOOFER)}.",
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


def posture(day: Day) -> None:
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
                "detectionTime": millis(at),
                "lastUpdate": millis(day.before_end(at + timedelta(minutes=1))),
                "triggeredOn": millis(at),
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


def background(day: Day) -> None:
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
