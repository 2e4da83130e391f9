"""Who and what occurs in the day: the stories, their addresses, names and hashes, and what SIA calls them."""

from __future__ import annotations

import hashlib
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
