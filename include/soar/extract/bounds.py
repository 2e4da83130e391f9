"""How many values the findings of a run may bring, since an attacker writes most of them. Pure.

A value in a role that can never become a block (a claim, a mention, something of ours) is worth a line in an incident,
and 2,000 such lines of one event are as good as 86,000. What the vendor itself names in an acting role takes
nothing from them, nor they from it; it has a bound of its own, which no real event reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from include.soar.extract.text import Extracted
from include.soar.model import LeftOutValues, Mention, ObservableType, Role

#: Roles that cannot become a block.
HARMLESS = frozenset({Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED})
#: What no other finding or text of the same run can take away: so many harmless values of each finding, values of each
#: text, and characters of each finding's harmless texts.
OF_EACH_FINDING, OF_EACH_TEXT, READ_OF_EACH_FINDING = 100, 20, 262_144
#: A value that is kept may stand in several fields: so many sightings for each value that a finding may bring.
_SIGHTINGS_A_VALUE = 5


@dataclass(frozen=True)
class Bounds:
    """
    :param harmless_per_finding: distinct values of a finding that are only claimed, mentioned or ours
    :param harmless_per_run: such values of all findings beyond the first hundred of each
    :param acting_per_finding: distinct values of a finding in an acting role
    :param characters_per_finding: of a finding's harmless texts, to be read
    :param characters_per_run: of those of all findings beyond the first 256 k of each
    """

    harmless_per_finding: int = 2_000
    harmless_per_run: int = 20_000
    acting_per_finding: int = 10_000
    characters_per_finding: int = 4_194_304
    characters_per_run: int = 33_554_432


#: What holds where no policy says anything else.
BOUNDS = Bounds()

_Value = tuple[ObservableType, str]


@dataclass
class Budget:
    """What is left for a run's findings; the most severe are to be served first."""

    bounds: Bounds
    _values: int = field(init=False)
    _characters: int = field(init=False)

    def __post_init__(self) -> None:
        self._values, self._characters = self.bounds.harmless_per_run, self.bounds.characters_per_run

    def share(self) -> Share:
        """What the next finding may bring."""
        return Share(
            values=min(self.bounds.harmless_per_finding, OF_EACH_FINDING + self._values),
            acting=self.bounds.acting_per_finding,
            characters=min(self.bounds.characters_per_finding, READ_OF_EACH_FINDING + self._characters),
        )

    def spend(self, share: Share) -> None:
        self._values -= max(0, share.taken - OF_EACH_FINDING)
        self._characters -= max(0, share.read - READ_OF_EACH_FINDING)


@dataclass
class Share:
    """
    What one finding brings.

    Each text is sure of a few values, so that one that is full of addresses hides nothing of the others; what is left
    after that goes to the texts in their order.
    """

    values: int
    acting: int
    characters: int
    read: int = 0
    _harmless: set[_Value] = field(default_factory=set)
    _acting: set[_Value] = field(default_factory=set)
    #: Values that wait for what the other texts leave, each with its sightings.
    _waiting: dict[_Value, list[tuple[Mention, Extracted]]] = field(default_factory=dict)
    _left_out: set[_Value] = field(default_factory=set)
    _acting_left_out: set[_Value] = field(default_factory=set)
    _texts: int = 0
    _sightings: int = 0
    _of_text: int = 0

    @property
    def taken(self) -> int:
        return len(self._harmless)

    def begins(self, mention: Mention) -> bool:
        """Whether a text is to be read."""
        self._of_text = 0
        if mention.role in HARMLESS:
            if self.read + len(mention.text) > self.characters:
                self._texts += 1
                return False
            self.read += len(mention.text)
        return True

    def takes(self, mention: Mention, item: Extracted, role: Role) -> bool:
        """Whether a value is taken now. What only waits comes out of :meth:`rest`."""
        value = (item.type, item.value)
        if role not in HARMLESS:
            return self._takes_acting(value)
        if value in self._harmless or value in self._acting:
            return self._takes_sighting()
        if len(self._harmless) < self.values and self._of_text < OF_EACH_TEXT:
            self._of_text += 1
            self._harmless.add(value)
            return self._takes_sighting()
        if value in self._waiting or len(self._waiting) < self.values:
            if self._sightings < self._most_sightings:
                self._sightings += 1
                self._waiting.setdefault(value, []).append((mention, item))
        else:
            self._left_out.add(value)
        return False

    def rest(self) -> Iterator[tuple[Mention, Extracted]]:
        """What waited and still has room, when all texts are read."""
        for value, seen in self._waiting.items():
            if value in self._harmless or value in self._acting:
                yield from seen
            elif len(self._harmless) < self.values:
                self._harmless.add(value)
                yield from seen
            else:
                self._left_out.add(value)
        self._waiting.clear()

    def left_out(self, finding_uid: str) -> LeftOutValues | None:
        """What the finding's case lacks; None: nothing."""
        acting = self._acting_left_out - self._acting
        values = (self._left_out | acting) - self._harmless - self._acting
        if not values and not self._texts:
            return None
        return LeftOutValues(
            finding_uid=finding_uid, values=len(values), acting=len(acting & values), texts=self._texts
        )

    @property
    def _most_sightings(self) -> int:
        return self.values * _SIGHTINGS_A_VALUE

    def _takes_acting(self, value: _Value) -> bool:
        if value not in self._acting and len(self._acting) >= self.acting:
            self._acting_left_out.add(value)
            return False
        self._acting.add(value)
        return True

    def _takes_sighting(self) -> bool:
        self._sightings += 1
        return self._sightings <= self._most_sightings
