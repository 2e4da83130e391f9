"""One believable day for the simulators: what the vendors would hold after 24 hours of ordinary failures.

``build_demo(end)`` returns, per product, the seed that its simulator takes, in the vendor's own raw shape, plus the
answers under ``_truth``. It is pure: the same arguments give the same day, byte for byte. It reads no clock.

Shapes follow the public facts about each vendor: SIA threat events as in Akamai's OpenAPI examples
(https://github.com/akamai/akamai-apis, apis/etp-report/v3), AbuseIPDB as in https://docs.abuseipdb.com, Spamhaus
DROP as NDJSON with a trailing metadata line. INFERRED: the whole body of an API Security incident, and of its
``evidence`` in particular (see ``day.py``); no vendor description of either is public.

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

import random
from datetime import UTC, datetime, timedelta

from include.simulators.demo_feed.api_stories import (
    background,
    bola_enumeration,
    credential_stuffing,
    false_positive_bait,
    posture,
    sql_injection,
    vulnerability_scan,
)
from include.simulators.demo_feed.cast import CONFIG_ID, STORIES, Record
from include.simulators.demo_feed.day import Day
from include.simulators.demo_feed.dns_stories import dns_tunnel, malware_domains, phishing
from include.simulators.demo_feed.seeds import (
    abuseipdb,
    client_lists,
    cyware,
    expected_answers,
    list_feed,
    neosec_alerts,
)


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
    day = Day(end.astimezone(UTC), hours, random.Random(seed))
    for tell in (
        credential_stuffing,
        bola_enumeration,
        vulnerability_scan,
        sql_injection,
        false_positive_bait,
        posture,
        background,
        dns_tunnel,
        malware_domains,
        phishing,
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
            "alerts": neosec_alerts(day),
        },
        "akamai_sia": {"configs": {CONFIG_ID: [{"id": str(n)} | row for n, row in enumerate(day.rows)]}},
        "abuseipdb": abuseipdb(day),
        "list_feed": list_feed(day),
        "cyware_respond": cyware(day),
        "akamai_client_lists": client_lists(),
        "crowdstrike_falcon": {"indicators": []},
        "splunk": {"collections": {"threat_watchlist": []}},
        "_truth": {
            "observables": expected_answers(),
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
