"""The ``never_block`` section of the policy: what the SOC protects, checked so that no entry protects nothing."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from include.soar.extract.values import read_domain
from include.soar.gate.hosts import host_of_url, plain_name
from include.soar.model import HASH_BY_LENGTH, Instant, Section

#: A network wider than this is a slip: with 0.0.0.0/0 among our networks nothing would ever be blocked.
WIDEST_PROTECTED = {4: 8, 6: 16}
#: ``com``, ``co.uk``. Only of these the list is asked, which takes long to load. ``example`` is everybody's own.
_MAY_BE_A_REGISTRYS = re.compile(r"(?!example\Z)(?:[a-z]{2,4}\.[a-z]{2}|[^.]+)")
_ASN = re.compile(r"as[0-9]+")
_HASH_DIGITS = re.compile(r"[0-9a-fA-F]+")


def _protected_network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError as error:
        hint = ""
        if "has host bits set" in str(error):
            hint = f": it is {ipaddress.ip_network(text.strip(), strict=False)}, or the address without a length"
        raise ValueError(f"{error}{hint}") from None
    if network.prefixlen < WIDEST_PROTECTED[network.version]:
        widest = WIDEST_PROTECTED[network.version]
        raise ValueError(f"{text!r} is wider than a /{widest}: it would protect much of the Internet")
    return str(network)


def protected_name(text: str) -> str:
    """A name as observables spell it. What could never match is an error: it would protect nothing, silently."""
    name = plain_name(text.strip().removeprefix("*."))
    # No top-level domain begins with a digit: that is an address with a slip in it.
    if name is None or name.rpartition(".")[2][0].isdigit():
        raise ValueError(f"{text!r} is not a domain name")
    if len(name) <= 2:
        raise ValueError(f"{text!r} is a whole country's domain")
    if _MAY_BE_A_REGISTRYS.fullmatch(name) and read_domain(f"x.{name}") and not read_domain(name):
        raise ValueError(f"{text!r} is a registry's: it would protect everybody who has a name below it")
    if _ASN.fullmatch(name):
        raise ValueError(f"{text!r} is no name: an autonomous system cannot be protected as a whole, its networks can")
    return name


class Protected(Section):
    networks: tuple[Annotated[str, AfterValidator(_protected_network)], ...]
    domains: tuple[Annotated[str, AfterValidator(protected_name)], ...]


def _end_of_day(value: Any) -> Any:
    """A date counts to its end, in UTC. Both come as text: a policy is validated as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return datetime.combine(date.fromisoformat(value) + timedelta(days=1), time(), UTC)
    except OverflowError:
        for_ever = "what is never to be blocked belongs in never_block.own or never_block.partners"
        raise ValueError(f"{value!r} is no day on which an entry ends: {for_ever}") from None
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither a date nor an instant such as 2026-12-01T18:00:00Z") from None


class Allowance(Section):
    """
    What is not blocked for a time, on the responsibility of its owner.

    :param value: an address, network, domain (with every name below it), URL (its host is protected), or file hash
    :param until: from then on the entry no longer counts
    """

    value: str
    until: Annotated[Instant, BeforeValidator(_end_of_day)]
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)

    @field_validator("value")
    @classmethod
    def _canonical(cls, text: str) -> str:
        text = text.strip()
        if "://" in text:
            host = host_of_url(text)
            if not host or (isinstance(host, str) and plain_name(host) is None):
                raise ValueError(f"{text!r} has no host")
            return text
        if _HASH_DIGITS.fullmatch(text):
            if len(text) not in HASH_BY_LENGTH:
                lengths = ", ".join(f"{algorithm} {digits}" for digits, algorithm in HASH_BY_LENGTH.items())
                raise ValueError(f"{text!r} has {len(text)} digits; a hash has as many as its algorithm: {lengths}")
            return text.lower()
        if "/" in text:
            return _protected_network(text)
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            return protected_name(text)

    @property
    def kind(self) -> Literal["url", "file", "network", "address", "domain"]:
        if "://" in self.value:
            return "url"
        if _HASH_DIGITS.fullmatch(self.value):
            return "file"
        if "/" in self.value:
            return "network"
        return "address" if ":" in self.value or self.value[-1].isdigit() else "domain"

    @property
    def words(self) -> str:
        return f"{self.value} is allowed until {self.until:%Y-%m-%d %H:%M} UTC by {self.owner}: {self.reason}"


class NeverBlock(Section):
    documentation_ranges_are_real: bool
    own: Protected
    partners: Protected
    allow: tuple[Allowance, ...] = ()
    well_known: Protected

    def expired(self, now: datetime) -> tuple[Allowance, ...]:
        """Entries that no longer count: to be renewed or removed."""
        return tuple(entry for entry in self.allow if entry.until <= now)

    def valid(self, now: datetime) -> tuple[Allowance, ...]:
        return tuple(entry for entry in self.allow if now < entry.until)
