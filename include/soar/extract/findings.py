"""The observables of findings, with where and in what role each was seen, and without what is our own API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from include.soar.extract.text import Extracted, extract_text
from include.soar.extract.values import AUTHORITY_END, DOMAIN, EMAIL, URL, read_domain
from include.soar.model import Finding, Observable, Observed, Role, Sighting

#: Roles that cannot become a block. In the others, what is inside a URL or an encoded piece is only mentioned: a
#: request for http://evil.example/?next=http://good.example/ has not reached good.example.
_HARMLESS = frozenset({Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED})
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


def extract_finding(finding: Finding, own: OwnSurface = NOTHING_OWN) -> Iterator[tuple[Observable, Sighting]]:
    """Every observable of a finding, with where and in what role it was seen."""
    for mention in finding.mentions:
        ours = mention.role in _OURS
        for item in _in_field(mention.text if ours else own.without_paths(mention.text), mention.role):
            if not ours and own.has(item):
                continue
            sighting = Sighting(
                finding_uid=finding.uid,
                field=mention.field,
                role=Role.MENTIONED if item.inner and mention.role not in _HARMLESS else mention.role,
                seen_at=finding.seen_at,
                steps=item.steps,
            )
            yield item.observable, sighting


def _in_field(text: str, role: Role) -> Sequence[Extracted]:
    items = extract_text(text)
    # A field that holds nothing but a name means a name, even one that would be a file in prose (evil.zip).
    name = read_domain(text.strip()) if not items and role is not Role.MENTIONED and len(text) < 300 else None
    return [Extracted(DOMAIN, name, 0)] if name else items


def observe(findings: Iterable[Finding], own: OwnSurface = NOTHING_OWN) -> tuple[Observed, ...]:
    """
    The observables of a batch of findings, with all sightings.

    The same input gives the same output, byte for byte: observables by key, sightings by time, finding, field.
    """
    sightings: dict[Observable, list[Sighting]] = {}
    for finding in findings:
        for observable, sighting in extract_finding(finding, own):
            sightings.setdefault(observable, []).append(sighting)
    return tuple(
        Observed(observable=observable, sightings=_ordered(sightings[observable]))
        for observable in sorted(sightings, key=lambda o: o.key)
    )


def _ordered(sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    unique = dict.fromkeys(sightings)
    return tuple(sorted(unique, key=lambda s: (s.seen_at, s.finding_uid, s.field, s.role.value, s.steps)))
