"""Observables: addresses, names, files and the other values that are judged and acted on."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import uuid
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from include.soar.model.base import Frozen, own_id
from include.soar.model.text import Text

#: STIX 2.1 section 2.9: the namespace of deterministic ids of cyber observables.
STIX_NAMESPACE = uuid.UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")


class ObservableType(StrEnum):
    """STIX 2.1 cyber-observable types."""

    IPV4 = "ipv4-addr"
    IPV6 = "ipv6-addr"
    DOMAIN = "domain-name"
    URL = "url"
    EMAIL = "email-addr"
    FILE = "file"
    ASN = "autonomous-system"
    #: A range of addresses. STIX spells it as an address with a prefix length; a type of its own is never mistaken
    #: for one address.
    CIDR = "cidr"
    #: A CVE. STIX has it among its domain objects.
    VULNERABILITY = "vulnerability"


_ASN = re.compile(r"AS[1-9][0-9]{0,9}")


_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")


#: The value's part in the key of one that is too long for a key. No domain is like it: no label has 64 characters.
_HASHED = re.compile(r"sha256\.[0-9a-f]{64}")


#: Hexadecimal digits of a file hash -> STIX 2.1 hash algorithm.
HASH_BY_LENGTH = {32: "MD5", 40: "SHA-1", 64: "SHA-256", 128: "SHA-512"}


class Observable(Frozen):
    """
    A thing seen, without judgement.

    ``value`` is canonical: compressed lower-case addresses, lower-case domains without the trailing dot,
    lower-case hashes (a ``file`` is named by one hash), networks without host bits, ``CVE-2026-0001``, ``AS64496``.
    ``include/soar/extract/values.py`` makes them.
    """

    type: ObservableType
    value: Text = Field(min_length=1, max_length=4096)

    @property
    def key(self) -> str:
        """``type:value``, our name for it in stores that want a text key; a very long URL is named by its hash."""
        value = self.value if len(self.value) <= 500 else f"sha256.{hashlib.sha256(self.value.encode()).hexdigest()}"
        return f"{self.type.value}:{value}"

    @classmethod
    def of_key(cls, key: str) -> Observable | None:
        """The observable that a key names; None for a URL that is named by its hash."""
        kind, _, value = key.partition(":")
        return None if _HASHED.fullmatch(value) else cls(type=ObservableType(kind), value=value)

    @property
    def id(self) -> str:
        """The STIX 2.1 deterministic id; for a CVE, whose STIX object has none, one of ours."""
        contributing: dict[str, Any] = {"value": self.value}
        stix_type = self.type.value
        if self.type is ObservableType.VULNERABILITY:
            return f"{stix_type}--{own_id(stix_type, self.value)}"
        if self.type is ObservableType.ASN:
            contributing = {"number": int(self.value.removeprefix("AS"))}
        if self.type is ObservableType.CIDR:
            stix_type = ObservableType.IPV6.value if ":" in self.value else ObservableType.IPV4.value
        if self.type is ObservableType.FILE:
            contributing = {"hashes": {self.hash_algorithm: self.value}}
        name = json.dumps(contributing, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"{stix_type}--{uuid.uuid5(STIX_NAMESPACE, name)}"

    @property
    def hash_algorithm(self) -> str:
        return HASH_BY_LENGTH[len(self.value)]

    @property
    def is_address(self) -> bool:
        return self.type in (ObservableType.IPV4, ObservableType.IPV6)

    @model_validator(mode="after")
    def _canonical(self) -> Observable:
        if self.is_address:
            address = ipaddress.ip_address(self.value)
            version = 4 if self.type is ObservableType.IPV4 else 6
            if str(address) != self.value or address.version != version or "%" in self.value:
                raise ValueError("address is not in canonical form")
        elif self.type is ObservableType.DOMAIN and self.value != self.value.lower().strip("."):
            raise ValueError("domain is not in canonical form")
        elif self.type is ObservableType.FILE and not (
            len(self.value) in HASH_BY_LENGTH and set(self.value) <= set("0123456789abcdef")
        ):
            raise ValueError("not an MD5, SHA-1, SHA-256 or SHA-512 in lower case")
        elif self.type is ObservableType.CIDR and str(ipaddress.ip_network(self.value)) != self.value:
            raise ValueError("network is not in canonical form")
        elif self.type is ObservableType.ASN and not _ASN.fullmatch(self.value):
            raise ValueError("not an AS number such as AS64496")
        elif self.type is ObservableType.VULNERABILITY and not _CVE.fullmatch(self.value):
            raise ValueError("not a CVE id such as CVE-2026-0001")
        return self
