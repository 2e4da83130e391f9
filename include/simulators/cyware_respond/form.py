"""The tenant's form: the fields of incidents and actions, the objects that they refer to, and who checks a value."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from include.simulators.kit import parse_instant

#: Field -> kind. "one x" and "many x" refer to an object of registry x, by UUID or, with ?values=readable_type, by
#: name. ``units`` is one UUID in the first mode and an array of names in the second, as the reference has it.
INCIDENT_FIELDS = {
    "title": "text",
    "description": "text",
    "status": "text",
    "level": "text",
    "ie_incident_type": "text",
    "phase": "text",
    "detection_date": "instant",
    "incident_date": "instant",
    "sources": "one sources",
    "assigned_group": "one assigned_group",
    "assigned_to": "one assigned_to",
    "business_units_impacted": "units",
    "locations_impacted": "many locations_impacted",
    "applicable_compliance": "words",
    "business_impact": "words",
    "kill_chain_phase": "text",
    "attack_vector": "text",
    "source_ip": "address",
    "destination_ip": "address",
    "ie_customer_notification_required": "text",
    "labels": "many labels",
    "is_protected": "flag",
}
ACTION_FIELDS = {
    "title": "text",
    "description": "text",
    "case_description": "text",
    "exception_details": "text",
    "assigned_group": "one assigned_group",
    "assigned_to": "one assigned_to",
    "status": "text",
    "priority": "text",
    "type": "text",
    "labels": "many labels",
}
#: Registry -> (settings path, the key that is its name, the other keys of its create body). Inferred: ``name``.
REGISTRIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "labels": ("utils/label", "title", ("color_code", "component_identifier", "description")),
    "business_units_impacted": ("utils/business-unit", "title", ("description",)),
    "sources": ("utils/source", "value", ("source_type",)),
    "locations_impacted": ("utils/location", "title", ("city", "state", "country", "pincode", "site")),
    "assigned_to": ("rest-auth/user", "email", ()),
    "assigned_group": ("rest-auth/permission/group", "name", ()),
}
#: The reference shows no way to create these two.
READ_ONLY_REGISTRIES = frozenset({"assigned_to", "assigned_group"})
#: The vendor leaves options and mandatory fields to each tenant. Required: the set a careful caller sends (inferred).
DEFAULT_FORM: dict[str, Any] = {
    "required": [
        "title",
        "description",
        "status",
        "level",
        "ie_incident_type",
        "sources",
        "assigned_group",
        "detection_date",
    ],
    "status": ["open", "closed", "untriaged"],  # merged is a status too, but only the UI merges
    "level": ["Low", "Medium", "High", "Critical"],
    "ie_incident_type": ["API Attack", "Malware", "Phishing", "Hacking", "APT"],
    "phase": ["Preparation", "Detection Analysis", "Containment", "Eradication Recovery"],
    "ie_customer_notification_required": ["Yes", "No"],
    "sources": ["Akamai API Security", "Akamai SIA", "Email"],
    "labels": ["auto-onboarded", "akamai-api-security", "akamai-sia", "blocked", "block-pending"],
    "assigned_group": ["SOC L1", "CFTR Admin"],
    "assigned_to": ["analyst@soc.example", "airflow-bot@soc.example"],
    "business_units_impacted": ["E-Commerce"],
    "locations_impacted": ["Bengaluru"],
    "custom_fields": {},
    "action": {
        "required": ["title"],
        "status": ["open", "closed"],
        "priority": ["Very Low", "Low", "Medium", "High", "Very High"],
        "type": ["Mitigation"],
    },
    "ioc_status": ["none", "clean", "blocked", "malicious", "false_positive", "whitelisted"],
}
COMMENT_TYPES = ("handoff", "closure")
FROZEN_WHILE_PAUSED = ("assigned_to", "assigned_group", "is_protected", "phase", "status")
IOC_TYPES = {
    "ioc_ip": "IP",
    "ioc_domain": "Domain",
    "ioc_url": "URL",
    "ioc_email": "Email",
    "ioc_MD5": "MD5",
    "ioc_SHA1": "SHA1",
    "ioc_SHA256": "SHA256",
}
TLP = ("RED", "AMBER", "GREEN", "WHITE")
#: Keys of the flat link call. ioc_url, ioc_MD5 and ioc_SHA1 are inferred; the others are documented.
LINK_KEYS = frozenset(IOC_TYPES) | {
    "incident",
    "vulnerability",
    "device",
    "campaign",
    "enhancement",
    "malware",
    "action",
    "pir",
    "general-user",
    "asset-software",
}
#: Keys of ``link_to`` in the advanced call. No IOC is among them.
ADVANCED_LINK_KEYS = frozenset(
    {
        "action",
        "application",
        "asset-software",
        "campaign",
        "device",
        "enhancement",
        "incident",
        "malware",
        "threat-briefing",
        "vulnerability",
    }
)
HASH_LENGTH = {"ioc_MD5": 32, "ioc_SHA1": 40, "ioc_SHA256": 64}
HOST_NAME = re.compile(r"(?i)^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$")


def is_uuid(value: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value) is not None


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("Not a valid string.")
    if not value.strip():
        raise ValueError("This field may not be blank.")
    return value


def chosen(value: Any, options: list[str]) -> str:
    if not isinstance(value, str) or value not in options:
        raise ValueError(f'"{value}" is not a valid choice.')
    return value


def instant(value: Any) -> str:
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)"
    if not isinstance(value, str) or not re.fullmatch(shape, value):
        raise ValueError(
            "Datetime has wrong format. Use one of these formats instead: "
            "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
        )
    parse_instant(value)
    return value


def address(value: Any) -> str:
    try:
        ipaddress.ip_address(text(value))
    except ValueError:
        raise ValueError("Enter a valid IPv4 or IPv6 address.") from None
    return str(value)


def fits(ioc_type: str, value: Any) -> bool:
    """Whether ``value`` can be of this type (inferred: what the vendor checks is not documented)."""
    if not isinstance(value, str) or ioc_type not in IOC_TYPES:
        return False
    if ioc_type in HASH_LENGTH:
        return re.fullmatch(rf"[0-9a-fA-F]{{{HASH_LENGTH[ioc_type]}}}", value) is not None
    if ioc_type == "ioc_ip":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            return False
        return True
    if ioc_type == "ioc_url":
        return re.fullmatch(r"(?i)[a-z][a-z0-9+.-]*://[^\s/]+\S*", value) is not None
    local, _, host = value.rpartition("@")
    return HOST_NAME.match(host) is not None and bool(local) == (ioc_type == "ioc_email")


def same_value(ioc_type: str, value: str) -> str:
    """What makes two values one: an address in its shortest spelling, everything but a URL without case."""
    if ioc_type == "ioc_ip":
        return str(ipaddress.ip_address(value))
    return value if ioc_type == "ioc_url" else value.lower()
