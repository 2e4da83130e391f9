"""One provider at its simulator, as the suite of all providers needs it. Each has its own, tests/vendors/*/case.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from include.soar.model import Observable, ObservableType
from tests.soar.examples import address, domain
from tests.stages.controls import PROTECTED

EVIL, CLEAN, SIX = address("203.0.113.7"), address("203.0.113.9"), address("2001:db8::1")
NAME = domain("evil.example")
URL = Observable(type=ObservableType.URL, value="http://evil.example/a")
MAIL = Observable(type=ObservableType.EMAIL, value="a@evil.example")
ASN = Observable(type=ObservableType.ASN, value="AS64496")
MD5, SHA1, SHA256, SHA512 = (
    Observable(type=ObservableType.FILE, value=value) for value in ("a1" * 16, "a2" * 20, "a3" * 32, "a4" * 64)
)
#: Every kind of value. No provider is asked about the last two: one is ours, one is private.
EVERYTHING = (
    *(EVIL, CLEAN, SIX, NAME, URL, MAIL, ASN, MD5, SHA1, SHA256, SHA512),
    *(address(PROTECTED), address("10.0.0.1")),
)
NETWORKS_IPV4, NETWORKS = ["203.0.113.0/24"], ["203.0.113.0/24", "2001:db8::/32"]


@dataclass(frozen=True)
class Case:
    """
    One provider, as its simulator is to answer.

    :param said: the score of each value that it is to be asked about, badness or 0
    :param asked: the values that a call in the simulator's log asked about
    :param refuse: a fault by which it refuses the value of ``NAME`` or of ``CLEAN``, and that value
    :param odd: further answers of its own that say nothing, as patches
    """

    seed: dict[str, Any]
    said: Mapping[Observable, int]
    asked: Callable[[dict[str, Any]], Sequence[str]]
    refuse: tuple[Observable, str, dict[str, Any]]
    odd: tuple[dict[str, Any], ...] = ()
    knobs: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
