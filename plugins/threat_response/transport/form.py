"""A vendor's declaration: its connection's form, and the reader of what a person filled in, from the same lines.

A vendor's ``vendor.py`` holds one :class:`Vendor`, as data. Airflow's form, the README's table and the hook's
``settings`` all follow from it, so a bound or a choice is written once and checked where it is shown.

Nothing here imports Airflow or an HTTP client, since the DAG file and Airflow's provider discovery read it; and nothing
of ``include`` at import, since a process that only lists connection types may not have the project on its path.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Protocol


@dataclass(frozen=True)
class Field(ABC):
    """
    One field of a connection's extra.

    :param needed: must be filled in: always, or when another field has this value, ``("family", "neosec")``
    :param shown: False for one that is accepted, and documented in the README, but not part of the form
    :param default: the value of a field that was left empty
    """

    name: str
    label: str
    description: str
    needed: bool | tuple[str, Any] = field(default=False, kw_only=True)
    shown: bool = field(default=True, kw_only=True)
    default: Any = field(default=None, kw_only=True)

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The field in Airflow's form, as JSON schema."""

    @abstractmethod
    def read(self, value: Any) -> Any:
        """
        What a person filled in, never None or ``""``.

        :raises ValueError: what is wrong with it, without repeating a secret
        """


@dataclass(frozen=True)
class Text(Field):
    """:param pattern: what the whole text must match, as a regular expression of both Python and JSON schema"""

    default: str | None = field(default=None, kw_only=True)
    pattern: str | None = field(default=None, kw_only=True)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "null"]} | ({"pattern": self.pattern} if self.pattern else {})

    def read(self, value: Any) -> str | None:
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            raise ValueError(f"{_shown(value)} is not a text")
        text = str(value).strip()
        if self.pattern and not re.search(self.pattern, text, re.ASCII):
            raise ValueError(f"{_shown(text)} does not match {self.pattern}")
        return text or self.default


@dataclass(frozen=True)
class Secret(Field):
    """A text that Airflow masks in its form and its API, and that no error repeats. ``pattern`` is as in a text."""

    default: str | None = field(default=None, kw_only=True)
    pattern: str | None = field(default=None, kw_only=True)

    def schema(self) -> dict[str, Any]:
        pattern = {"pattern": self.pattern} if self.pattern else {}
        return {"type": ["string", "null"], "format": "password"} | pattern

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("is not a text")
        if self.pattern and not re.search(self.pattern, value, re.ASCII):
            raise ValueError(f"does not match {self.pattern}")
        return value


@dataclass(frozen=True)
class Choice(Field):
    """One of a few words, whatever their case."""

    choices: tuple[str, ...] = field(kw_only=True)
    default: str = field(kw_only=True)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "null"], "enum": list(self.choices), "default": self.default}

    def read(self, value: Any) -> str:
        word = str(value).strip().casefold()
        for choice in self.choices:
            if word == choice.casefold():
                return choice
        raise ValueError(f"{_shown(value)} is not one of {', '.join(self.choices)}")


@dataclass(frozen=True)
class Number(Field):
    """A whole number from ``low`` to ``high``, as a number or in digits."""

    default: int = field(kw_only=True)
    low: int = field(kw_only=True)
    high: int = field(kw_only=True)

    def schema(self) -> dict[str, Any]:
        return {"type": ["integer", "null"], "default": self.default, "minimum": self.low, "maximum": self.high}

    def read(self, value: Any) -> int:
        text = str(value).strip()
        if not (text.isascii() and text.isdigit() and self.low <= int(text) <= self.high):
            raise ValueError(f"{_shown(value)} is not a whole number from {self.low} to {self.high}")
        return int(text)


@dataclass(frozen=True)
class Limit(Field):
    """A whole number, or nothing (0) for no limit; a text in the form, where nothing can be filled in."""

    default: int = field(default=0, kw_only=True)
    high: int = field(default=10**9, kw_only=True)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "null"], "pattern": r"^\d*$"}

    def read(self, value: Any) -> int:
        return Number(self.name, self.label, self.description, default=0, low=0, high=self.high).read(value)


@dataclass(frozen=True)
class Switch(Field):
    """On or off."""

    default: bool = field(kw_only=True)

    def schema(self) -> dict[str, Any]:
        return {"type": ["boolean", "null"], "default": self.default}

    def read(self, value: Any) -> bool:
        # A connection that is written as a URI, or in the environment, has texts only.
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        word = str(value).strip().casefold()
        if word not in words:
            raise ValueError(f"{_shown(value)} is neither true nor false")
        return words[word]


@dataclass(frozen=True)
class Words(Field):
    """Several texts in one, with a separator between them; read as a tuple."""

    default: tuple[str, ...] = field(default=(), kw_only=True)
    choices: tuple[str, ...] = field(default=(), kw_only=True)
    separator: str = field(default=",", kw_only=True)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "null"]}

    def read(self, value: Any) -> tuple[str, ...]:
        words = tuple(word.strip() for word in str(value).split(self.separator) if word.strip())
        for word in words:
            if self.choices and word not in self.choices:
                raise ValueError(f"{_shown(word)} is not one of {', '.join(self.choices)}")
        return words or self.default


@dataclass(frozen=True)
class Json(Field):
    """JSON of one kind: a text in the form, and text or JSON itself in the connection's extra."""

    kind: type = field(default=dict, kw_only=True)
    default: Any = field(default=None, kw_only=True)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "null"]}

    def read(self, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise ValueError("is not JSON") from None
        if not isinstance(value, self.kind):
            raise ValueError(f"is not a JSON {'object' if self.kind is dict else 'list'}")
        return value


def _shown(value: Any) -> str:
    from include.soar.vendor.errors import one_line

    return repr(one_line(value, 40))


#: Every vendor that we talk to over HTTP has them.
TLS: tuple[Field, ...] = (
    Switch("verify", "Verify TLS", "Off only for a laboratory with a self-signed certificate", default=True),
    Text("ca_bundle", "CA bundle", "Path on the workers, where the certificate is of your own authority"),
    # Secret, since a proxy's address may hold a password.
    Secret(
        "proxy",
        "Proxy",
        "http://proxy.example:3128, where the workers reach the vendor through one",
        pattern=r"^(https?://[^/\s]+/?)?$",
    ),
)

#: What signing with EdgeGrid takes, besides the client's token and secret.
ACCESS_TOKEN = Secret("access_token", "Access token", "EdgeGrid access_token of the API client (akab-…)", needed=True)
ACCOUNT_SWITCH_KEY = Text(
    "account_switch_key", "Account switch key", "Only for API clients that manage several accounts"
)
SIGNED_BODY = Number(
    "max_body",
    "Signed body",
    "Bytes, where Akamai named another",
    default=131_072,
    low=1,
    high=10**9,
    shown=False,
)


class Settings(SimpleNamespace):
    """A connection's fields by name, read and checked."""


class Connection(Protocol):
    """What is read of an Airflow connection."""

    extra: str | None


@dataclass(frozen=True)
class Vendor:
    """
    What a vendor is, before anything is asked of it.

    :param name: its folder, its connection type and its name in ledger, policy and logs
    :param title: as a person knows it
    :param hook: the class in its ``hook.py``
    :param host: its usual base URL, the form's placeholder
    :param login: how the form calls the login; None: the form has none
    :param password: the same
    :param has_host: False for a file on the workers: nobody is talked to
    :param is_remote: False: asking costs nothing and tells nobody anything
    :param has_opinion: False for an enricher that only adds facts, and so has no grade in the policy
    :param refreshes: an enricher with a download of its own to bring up to date first
    :param confirms: a control whose write takes time to be in force
    :param own_pages: any web server may be it, so it refuses a wrong password with a page in HTML, as a proxy does
    """

    name: str
    title: str
    hook: str
    host: str = field(kw_only=True)
    port: int = field(default=443, kw_only=True)
    login: str | None = field(default=None, kw_only=True)
    password: str | None = field(default=None, kw_only=True)
    fields: tuple[Field, ...] = field(default=TLS, kw_only=True)
    has_host: bool = field(default=True, kw_only=True)
    is_remote: bool = field(default=True, kw_only=True)
    has_opinion: bool = field(default=True, kw_only=True)
    refreshes: bool = field(default=False, kw_only=True)
    confirms: bool = field(default=False, kw_only=True)
    own_pages: bool = field(default=False, kw_only=True)

    @property
    def conn_id(self) -> str:
        """The connection that is used unless a task names another."""
        return f"{self.name}_default"

    def form(self) -> dict[str, Any]:
        """The connection type, as Airflow's ``connection-types`` has it."""
        labels = {"host": "API host", "login": self.login, "password": self.password}
        hidden = ["schema"] + ["host"] * (not self.has_host) + [name for name, label in labels.items() if label is None]
        return {
            "connection-type": self.name,
            "hook-class-name": f"threat_response.vendors.{self.name}.hook.{self.hook}",
            "hook-name": self.title,
            "conn-fields": {
                one.name: {"label": one.label, "description": one.description, "schema": one.schema()}
                for one in self.fields
                if one.shown
            },
            "ui-field-behaviour": {
                "hidden-fields": hidden,
                "relabeling": {name: label for name, label in labels.items() if label is not None},
                # Airflow 3.3.2's Test button fails for a stored connection without a port.
                "placeholders": {"host": self.host, "port": str(self.port)},
            },
        }


def vendor_of(name: str) -> Vendor:
    """The declaration of a vendor by its name. Imports nothing else of it."""
    vendor: Vendor = import_module(f"threat_response.vendors.{name}.vendor").VENDOR
    return vendor


def read(vendor: Vendor, connection: Connection) -> Settings:
    """
    The connection's extra, as its vendor declares it.

    :raises WrongConnection: naming every field that is unknown, missing or wrong
    """
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise _wrong(vendor, "the extra is not a JSON object")
    return read_fields(vendor, extra)


def read_fields(vendor: Vendor, extra: Mapping[str, Any]) -> Settings:
    """
    As :func:`read`, for an extra that is JSON already.

    A field that is None or an empty text counts as absent: Airflow's form stores those for what was left empty.
    """
    fields = {one.name: one for one in vendor.fields}
    problems = [_unknown(name, fields) for name in extra if name not in fields]
    values: dict[str, Any] = {}
    for name, one in fields.items():
        given = extra.get(name)
        try:
            values[name] = one.default if given is None or given == "" else one.read(given)
        except ValueError as error:
            problems.append(f"wrong field {name}: {error}")
    for name, one in fields.items():
        if _is_needed(one, values) and name in values and not values[name]:
            problems.append(f"no field {name}")
    if problems:
        raise _wrong(vendor, "; ".join(problems))
    return Settings(**values)


def _wrong(vendor: Vendor, problem: str) -> Exception:
    from include.soar.vendor.errors import WrongConnection

    return WrongConnection(vendor.name, "connection", problem)


def _is_needed(one: Field, values: Mapping[str, Any]) -> bool:
    if isinstance(one.needed, tuple):
        other, value = one.needed
        return bool(values.get(other) == value)
    return one.needed


def _unknown(name: str, fields: Mapping[str, Field]) -> str:
    close = get_close_matches(name, fields, n=1)
    return f"unknown field {_shown(name)}" + (f"; did you mean {close[0]!r}?" if close else "")
