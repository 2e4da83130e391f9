"""The observables of findings, with where and in what role each was seen, and without what is our own API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from include.soar.extract.bounds import BOUNDS, HARMLESS, Bounds, Budget, Share
from include.soar.extract.text import Extracted, extract_text
from include.soar.extract.values import AUTHORITY_END, DOMAIN, EMAIL, URL, read_domain
from include.soar.model import Finding, LeftOutValues, Mention, Observable, Observed, Role, Sighting

#: Roles in which our own API is to be expected.
_OURS = frozenset({Role.VICTIM, Role.INTERNAL})


class OwnSurface:
    """Our own API: names and paths that are no indicators, whatever their role, unless it is the victim's."""

    def __init__(self, hosts: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
        """
        :param hosts: domain names; every name below them is ours too
        :param paths: paths such as ``/v1/geo.lookup``, parts of which may look like names
        """
        self._hosts = frozenset(hosts)
        longest_first = sorted(paths, key=len, reverse=True)
        written = "|".join(map(re.escape, longest_first))
        self._paths = re.compile(rf"(?:{written})(?![\w.-])") if written else None

    def without_paths(self, text: str) -> str:
        return self._paths.sub(" ", text) if self._paths else text

    def has(self, item: Extracted) -> bool:
        if not self._hosts or item.type not in (DOMAIN, URL, EMAIL):
            return False
        host = item.value
        if item.type is URL:
            host = AUTHORITY_END.split(host.partition("://")[2], maxsplit=1)[0]
            host = host.rpartition("@")[2].partition(":")[0]
        elif item.type is EMAIL:
            host = host.rpartition("@")[2]
        labels = host.split(".")
        return any(".".join(labels[place:]) in self._hosts for place in range(len(labels)))


NOTHING_OWN = OwnSurface()


def extract_finding(
    finding: Finding, own: OwnSurface = NOTHING_OWN, share: Share | None = None
) -> Iterator[tuple[Observable, Sighting]]:
    """
    The observables of a finding, with where and in what role each was seen.

    :param share: how much the finding may bring, and then what it left out; by default as if it were alone
    """
    share = Budget(BOUNDS).share() if share is None else share
    for mention in finding.mentions:
        if not share.begins(mention):
            continue
        ours = mention.role in _OURS
        for item in _in_field(mention.text if ours else own.without_paths(mention.text), mention.role):
            if not ours and own.has(item):
                continue
            if share.takes(mention, item, _role_of(mention, item)):
                yield item.observable, _sighting(finding, mention, item)
    for mention, item in share.rest():
        yield item.observable, _sighting(finding, mention, item)


def _role_of(mention: Mention, item: Extracted) -> Role:
    """
    What is inside a URL or an encoded piece is only mentioned: a request for http://evil.example/?next=http://good.example/
    has not reached good.example.
    """
    return Role.MENTIONED if item.inner and mention.role not in HARMLESS else mention.role


def _sighting(finding: Finding, mention: Mention, item: Extracted) -> Sighting:
    return Sighting(
        finding_uid=finding.uid,
        field=mention.field,
        role=_role_of(mention, item),
        seen_at=finding.seen_at,
        steps=item.steps,
    )


def _in_field(text: str, role: Role) -> Sequence[Extracted]:
    items = extract_text(text)
    # A field that holds nothing but a name means a name, even one that would be a file in prose (evil.zip).
    name = read_domain(text.strip()) if not items and role is not Role.MENTIONED and len(text) < 300 else None
    return [Extracted(DOMAIN, name, 0)] if name else items


class Seen(NamedTuple):
    """
    :param observed: the observables of a batch of findings, with all sightings
    :param left_out: the findings that brought too many, by uid
    """

    observed: tuple[Observed, ...]
    left_out: tuple[LeftOutValues, ...]


def observe(findings: Iterable[Finding], own: OwnSurface = NOTHING_OWN) -> tuple[Observed, ...]:
    """The observables of a batch of findings, with all sightings; see :func:`observe_within`."""
    return observe_within(findings, own).observed


def observe_within(findings: Iterable[Finding], own: OwnSurface = NOTHING_OWN, bounds: Bounds = BOUNDS) -> Seen:
    """
    What is seen in a batch of findings, within the bounds. The most severe findings are served first.

    The same input gives the same output, byte for byte: observables by key, sightings by time, finding, field.
    """
    sightings: dict[Observable, list[Sighting]] = {}
    budget, left_out = Budget(bounds), dict[str, LeftOutValues]()
    for finding in sorted(findings, key=lambda f: (-f.severity.rank, f.detected_at, f.uid)):
        share = budget.share()
        for observable, sighting in extract_finding(finding, own, share):
            sightings.setdefault(observable, []).append(sighting)
        budget.spend(share)
        if missing := share.left_out(finding.uid):
            left_out[finding.uid] = missing
    return Seen(
        tuple(
            Observed(observable=observable, sightings=_ordered(sightings[observable]))
            for observable in sorted(sightings, key=lambda o: o.key)
        ),
        tuple(left_out[uid] for uid in sorted(left_out)),
    )


def _ordered(sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    unique = dict.fromkeys(sightings)
    return tuple(sorted(unique, key=lambda s: (s.seen_at, s.finding_uid, s.field, s.role.value, s.steps)))
