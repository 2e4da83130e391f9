"""Who attacks, and who is taken for an attacker: fourteen kinds with stated assumptions, none of them a measurement.

``measured.py`` sends them through the whole decision, and varies the assumptions. A share is a probability for one
address, or for one visit of it where that is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from statistics import NormalDist

WEEK_HOURS = 7 * 24
#: Attackers all begin on the first day.
FIRST_DAY = 24
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Kind:
    """
    :param share: of all attackers, or of all false alarms, in percent
    :param critical: share of the visits whose finding is critical; all others are high
    :param sure: of the critical findings: in how many the vendor's confidence is high (90)
    :param behaviour: share of the findings that the vendor makes from behaviour: failed log-ins, enumeration
    :param listed: by source, how many addresses it calls malicious
    :param very: of these, how many with a score of 90 and more
    :param fresh: of these, how many with a report of the last two days
    :param tagged: share of addresses that somebody labels as VPN, mobile, gateway or relay
    :param shared: share of addresses that our own traffic shows to be shared by many good users
    :param gated: share of addresses that the never-block gate protects
    :param visits: how often one address comes in a week, and for how many hours each time
    :param crowd: how many of its addresses stand in one network, from the first on
    """

    name: str
    bad: bool
    share: int
    critical: float
    sure: float
    behaviour: float
    listed: dict[str, float] = field(default_factory=dict)
    very: float = 0.7
    fresh: float = 0.7
    tagged: float = 0.0
    shared: float = 0.0
    gated: float = 0.0
    visits: int = 1
    hours: int = 1
    crowd: int = 0


def said(list_feed: float, abuseipdb: float, greynoise: float, virustotal: float) -> dict[str, float]:
    return {"list_feed": list_feed, "abuseipdb": abuseipdb, "greynoise": greynoise, "virustotal": virustotal}


#: Sources' shares: a DROP-like list, AbuseIPDB, GreyNoise, VirusTotal.
KINDS = (
    Kind("mass scanner", True, 20, 0.15, 0.8, 0.2, said(0.13, 0.75, 0.7, 0.4), 0.7, 0.9, 0.05, visits=6),
    Kind("IoT botnet", True, 15, 0.15, 0.8, 0.5, said(0.02, 0.6, 0.5, 0.3), 0.6, 0.7, 0.1, 0.01, visits=4, hours=2),
    Kind("bulletproof", True, 7, 0.3, 0.8, 0.4, said(0.72, 0.7, 0.5, 0.6), 0.8, 0.8, 0.05, visits=5, hours=8, crowd=30),
    Kind("stuffing", True, 20, 0.6, 0.8, 0.95, said(0.001, 0.15, 0.1, 0.05), 0.5, 0.4, 0.15, 0.03, visits=2, hours=2),
    Kind(
        "VPN or Tor exit", True, 10, 0.35, 0.8, 0.7, said(0.04, 0.5, 0.3, 0.3), 0.6, 0.7, 0.8, 0.05, visits=2, hours=3
    ),
    Kind("cloud host", True, 18, 0.5, 0.8, 0.95, said(0.0, 0.2, 0.15, 0.1), 0.5, 0.5, 0.1, 0.0, visits=2, hours=6),
    Kind(
        "misused account", True, 10, 0.3, 0.8, 0.5, said(0.0, 0.03, 0.01, 0.01), 0.3, 0.3, 0.25, 0.1, visits=3, hours=2
    ),
    Kind("mobile or CGNAT", False, 25, 0.1, 0.3, 0.6, said(0.0, 0.05, 0.02, 0.02), 0.3, 0.4, 0.6, 0.4, 0.0, 2, 2),
    Kind("company gateway", False, 20, 0.1, 0.3, 0.6, said(0.0, 0.01, 0.0, 0.01), 0.2, 0.3, 0.3, 0.4, 0.1, 2, 2),
    Kind("client with a bug", False, 20, 0.15, 0.3, 0.8, said(0.0, 0.01, 0.0, 0.01), 0.2, 0.3, 0.1, 0.05, 0.0, 5, 4),
    Kind("monitor", False, 10, 0.05, 0.3, 0.3, said(0.0, 0.03, 0.02, 0.02), 0.2, 0.5, 0.1, 0.0, 0.3, 7, 1),
    Kind("honest VPN user", False, 10, 0.1, 0.3, 0.5, said(0.02, 0.3, 0.15, 0.15), 0.4, 0.6, 0.8, 0.2, 0.0, 1, 1),
    Kind("crawler", False, 10, 0.05, 0.3, 0.6, said(0.0, 0.1, 0.05, 0.02), 0.2, 0.6, 0.1, 0.0, 0.7, 4, 2),
    Kind("CDN edge", False, 5, 0.05, 0.3, 0.3, said(0.0, 0.05, 0.02, 0.02), 0.2, 0.5, 0.3, 0.5, 0.9, 2, 2),
)


@dataclass(frozen=True)
class Visit:
    """A stay of some hours, from an hour of the week on. ``sure`` is the vendor's confidence, in percent."""

    start: int
    hours: int
    is_critical: bool
    sure: int
    is_behaviour: bool


@dataclass(frozen=True)
class Actor:
    """
    :param scores: by source, 0-100
    :param ages: by source, how many hours before each sighting it was last reported
    """

    kind: Kind
    address: str
    asn: int
    scores: dict[str, int]
    ages: dict[str, int]
    is_tagged: bool
    is_shared: bool
    is_gated: bool
    visits: tuple[Visit, ...]

    def at(self, hour: int) -> Visit | None:
        return next((v for v in self.visits if v.start <= hour < v.start + v.hours), None)


@dataclass(frozen=True)
class World:
    """
    The assumptions that are varied.

    :param attackers: how many begin in a day
    :param alarms: false alarms for each attacker
    :param correlation: how much the sources know the same of an address, 0 to 1
    :param critical: factor on the attackers' shares of critical findings
    :param sure_of_alarms: the share of false alarms' critical findings of which the vendor is sure
    :param bad_word: factor on what sources say of false alarms
    :param tagged: factor on the shares of labels
    """

    attackers: int = 1000
    alarms: float = 0.25
    correlation: float = 0.5
    critical: float = 1.0
    sure_of_alarms: float | None = None
    bad_word: float = 1.0
    tagged: float = 1.0
    seed: int = 2026


def people(world: World) -> list[Actor]:
    """Everybody who comes, the same for the same assumptions."""
    actors = []
    for bad, number in ((True, world.attackers), (False, round(world.attackers * world.alarms))):
        kinds = [kind for kind in KINDS if kind.bad is bad]
        for place, kind in enumerate(kinds):
            actors += [_actor(kind, n, place + (0 if bad else 100), world) for n in range(number * kind.share // 100)]
    return actors


def _actor(kind: Kind, number: int, place: int, world: World) -> Actor:
    # Each with chance of its own, so that a change of one assumption moves nobody else.
    chance = Random(f"{world.seed}/{kind.name}/{number}")  # noqa: S311
    common = chance.gauss()
    scores, ages = {}, {}
    for source, share in kind.listed.items():
        known = world.correlation**0.5 * common + (1 - world.correlation) ** 0.5 * chance.gauss()
        rank, very, fresh, some = _NORMAL.cdf(known), chance.random(), chance.random(), chance.random()
        share *= 1 if kind.bad else world.bad_word
        low, high = (90, 100) if very < kind.very else (75, 89)
        # As many again are called suspicious.
        scores[source] = (
            low + int(some * (high - low + 1)) if rank < share else 25 + int(some * 50) if rank < 2 * share else 0
        )
        if source == "list_feed":
            scores[source] = 100 if rank < share else 0
        ages[source] = 1 + int(some * 46) if fresh < kind.fresh else 72 + int(some * 600)
    draws = [chance.random() for _ in range(3)]
    visits = tuple(_visit(kind, chance, n, world) for n in range(kind.visits))
    crowded = number < kind.crowd
    # In the crowded network side by side, all others a /24 apart.
    address = (
        f"45.{place}.0.{number + 1}"
        if crowded
        else f"{60 + place // 100}.{place % 100}.{number % 250}.{1 + number // 250}"
    )
    return Actor(
        kind,
        address,
        64512 + place * 100 + (0 if crowded else number % 97),
        scores,
        ages,
        draws[0] < kind.tagged * world.tagged,
        draws[1] < kind.shared,
        draws[2] < kind.gated,
        visits,
    )


def _visit(kind: Kind, chance: Random, number: int, world: World) -> Visit:
    critical, sure, behaviour = (chance.random() for _ in range(3))
    first = chance.randrange(FIRST_DAY)
    start = first if not number else first + number * (WEEK_HOURS - FIRST_DAY) // max(1, kind.visits)
    certain = kind.sure if kind.bad or world.sure_of_alarms is None else world.sure_of_alarms
    is_critical = critical < kind.critical * (world.critical if kind.bad else 1)
    return Visit(start, kind.hours, is_critical, 90 if sure < certain else 60, behaviour < kind.behaviour)
