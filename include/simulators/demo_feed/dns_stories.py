"""What SIA saw: a tunnel, malware and phishing."""

from __future__ import annotations

from include.simulators.demo_feed.cast import (
    C2,
    EMPTY_HASH,
    KNOWN_C2,
    KNOWN_MALWARE,
    KNOWN_PHISHING,
    KNOWN_TUNNEL,
    MALWARE_FILES,
    MALWARE_HASHES,
    NEW_C2,
    NEW_C2_HOST,
    NEW_MALWARE_HASH,
    PHISHING,
    PHISHING_EDGE,
    SUSPECTED_C2,
    SUSPECTED_MALWARE,
    SUSPECTED_TUNNEL,
    TUNNEL,
    TUNNEL_HOST,
)
from include.simulators.demo_feed.day import Day, defang


def dns_tunnel(day: Day) -> None:
    for hour, severity in ((4.3, "Critical"), (21.2, "High")):
        day.dns(
            "dns_tunnel",
            day.at(hour),
            severity,
            KNOWN_TUNNEL,
            TUNNEL,
            client=TUNNEL_HOST,
            query_type="TXT",
            description=f"{day.rng.randint(900, 4000)} queries below {defang(TUNNEL)} within ten minutes",
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


def malware_domains(day: Day) -> None:
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


def phishing(day: Day) -> None:
    for hour in (8.2, 18.6):
        day.dns(
            "phishing",
            day.at(hour),
            "High",
            KNOWN_PHISHING,
            PHISHING,
            resolved=PHISHING_EDGE,
            description=f"Mail from billing@{PHISHING} with {defang(f'https://{PHISHING}/session?id=1')}",
        )
    for n, at in enumerate(day.scatter(14)):
        severity = "Medium" if n % 2 else "Low"
        day.dns("phishing", at, severity, KNOWN_PHISHING, PHISHING, resolved=PHISHING_EDGE)
