"""CrowdStrike Falcon custom IOCs without I/O. Field names are the vendor's.

The vendor's swagger is behind a login. Shapes: the endpoint tables of https://github.com/CrowdStrike/falconpy (1.6.6)
and the models of https://github.com/CrowdStrike/gofalcon. Requests are built by falconpy itself; here are their
arguments, and the answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, ValidationError, field_validator

from include.soar.model import Action, Indicator, Instant, Observable, ObservableType, Outcome
from include.soar.vendor.errors import Unauthorized, Unexpected, VendorError, one_line
from include.soar.vendor.wire import Response, VendorShape, decode, error_text, failure, first_problem, load_json

VENDOR = "crowdstrike_falcon"

#: The mark of our indicators, in ``source`` and ``tags``. An indicator without it is another owner's and never changed.
OUR_SOURCE = "threat-response"

#: ``prevent`` is for hashes only: an address or a domain can be detected, not blocked (four independent clients say the
#: same). Tenants with Firewall Management may differ (OpenCTI-Platform/connectors issue 3706), and their connection may
#: say so.
ADDRESS_ACTION = "detect"
#: From nothing to everything: an update never goes down.
STRENGTH = {"no_action": 0, "detect": 1, "prevent_no_ui": 2, "prevent": 2}

DESCRIPTION_LENGTH = 200
#: How a description of ours begins.
OUR_WORDS = "Threat response: "
DOMAIN_LENGTH = 200
SEARCH_LIMIT = 500  # results on one page

# INFERRED, to be checked on a real tenant:
#: Indicators in one write. PSFalcon sends up to 2,000; others report time-outs.
ROWS_PER_WRITE = 200
#: Values in one filter: they travel in the URL.
VALUES_PER_SEARCH = 50
#: Ids in one delete: they travel in the URL. A third party sends 1,000.
IDS_PER_DELETE = 100

_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_HASH = {32: "md5", 64: "sha256"}


class IOC(VendorShape):
    """A custom indicator. ``action`` and ``severity`` stay text: the vendor may add words."""

    id: str
    type: str
    value: str
    action: str
    source: str | None = None
    severity: str | None = None
    description: str | None = None
    platforms: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    applied_globally: bool = False
    host_groups: tuple[str, ...] = ()
    expiration: Instant | None = None
    expired: bool = False
    deleted: bool = False

    @field_validator("platforms", "tags", "host_groups", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return value or ()

    @field_validator("expiration", mode="before")
    @classmethod
    def _never(cls, value: Any) -> Any:
        return value or None

    @field_validator("expiration")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        try:
            return value.astimezone(UTC) if value else None
        except OverflowError as error:
            raise ValueError("a time at the edge of the calendar") from error

    @property
    def ours(self) -> bool:
        return self.source == OUR_SOURCE

    @property
    def key(self) -> tuple[str, str]:
        """What must be unique at the vendor."""
        return self.type, self.value.lower()


class UnreadableIOC(IOC):
    """One that is there, and whose other members are not as documented: it is left alone, and costs only itself."""

    problem: str

    @property
    def ours(self) -> bool:
        return False


class Pagination(VendorShape):
    total: int = Field(ge=0)


class Meta(VendorShape):
    pagination: Pagination


class IOCAnswer(VendorShape):
    """Of the combined search. A good answer may have ``errors: null``."""

    meta: Meta
    errors: tuple[dict[str, Any], ...] | None = None
    resources: tuple[dict[str, Any], ...]


class TokenAnswer(VendorShape):
    access_token: str = Field(min_length=1)
    expires_in: int = Field(gt=0)


def type_of(observable: Observable) -> str:
    """
    The vendor's word for this type.

    :raises ValueError: Falcon takes no such indicator; the text says why
    """
    match observable.type:
        case ObservableType.IPV4:
            return "ipv4"
        case ObservableType.IPV6:
            return "ipv6"
        case ObservableType.DOMAIN:
            if len(observable.value) > DOMAIN_LENGTH or not _DOMAIN.fullmatch(observable.value):
                raise ValueError(f"Falcon takes ASCII domains of up to {DOMAIN_LENGTH} characters")
            return "domain"
        case ObservableType.FILE:
            if kind := _HASH.get(len(observable.value)):
                return kind
            raise ValueError(f"Falcon takes MD5 and SHA-256, not {observable.hash_algorithm}")
        case _:
            raise ValueError(f"Falcon takes no {observable.type.value}")


def key_of(observable: Observable) -> tuple[str, str]:
    return type_of(observable), observable.value


def check_token(response: Response, now: datetime) -> None:
    """:raises VendorError: there is no token in it"""
    if response.status in (400, 401, 403):
        # 403 is no missing grant here, as it is elsewhere, so the status that says so is left out.
        reason = f"client id or secret refused: {error_text(response.body)}"
        raise Unauthorized(VENDOR, "token", reason, request_id=response.request_id)
    if error := failure(VENDOR, "token", response, now):
        raise error
    decode(VENDOR, "token", TokenAnswer, response.body)


# --- looking ------------------------------------------------------------------------------------------------


def filters(observables: Iterable[Observable]) -> list[tuple[str, list[str]]]:
    """
    FQL that finds them, in chunks, with the values that each asks for. XSOAR's client searches by the same list form,
    ``value:['a','b']``.

    ``type_of`` refuses every domain, and the model every address and hash, that could end the quotation.
    """
    by_type: dict[str, list[str]] = {}
    for kind, value in sorted(map(key_of, observables)):
        by_type.setdefault(kind, []).append(value)
    result = []
    for kind, values in by_type.items():
        for start in range(0, len(values), VALUES_PER_SEARCH):
            part = values[start : start + VALUES_PER_SEARCH]
            listed = ",".join(f"'{value}'" for value in part)
            result.append((f"type:'{kind}'+value:[{listed}]", part))
    return result


def parse_search(response: Response) -> list[IOC]:
    """
    :raises Unexpected: the vendor found more than it sent, or names errors in a 200
    """
    answer = decode(VENDOR, "search", IOCAnswer, response.body)
    if answer.errors:
        raise Unexpected(VENDOR, "search", error_text(response.body), status=response.status)
    if answer.meta.pagination.total != len(answer.resources):
        got, total = len(answer.resources), answer.meta.pagination.total
        raise Unexpected(VENDOR, "search", f"{got} of {total} indicators came")
    return [ioc for ioc in map(_read_ioc, answer.resources) if not ioc.deleted]


def _read_ioc(resource: dict[str, Any]) -> IOC:
    try:
        return IOC.model_validate(resource)
    except ValidationError as error:
        problem = f"answer is not as documented: {first_problem(error)}"
    kind, value = resource.get("type"), resource.get("value")
    if not isinstance(kind, str) or not isinstance(value, str) or not {"id", "action"} <= resource.keys():
        # Another shape than we know, rather than one odd indicator.
        raise Unexpected(VENDOR, "search", problem)
    return UnreadableIOC(id=str(resource["id"]), type=kind, value=value, action="", problem=problem)


# --- writing ------------------------------------------------------------------------------------------------


def ends_at(indicator: Indicator) -> datetime:
    """Whole seconds, as the vendor keeps them."""
    return indicator.expires_at.replace(microsecond=0)


def expiration(indicator: Indicator) -> str:
    return ends_at(indicator).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def creation(
    indicator: Indicator,
    incidents: Sequence[str],
    *,
    hash_action: str,
    address_action: str = ADDRESS_ACTION,
    severity: str,
    platforms: Sequence[str],
    host_groups: Sequence[str],
) -> dict[str, Any]:
    """
    A row of a create.

    :param host_groups: ids; empty to apply globally
    """
    about = ", ".join(incidents) or "no incident yet"
    row: dict[str, Any] = {
        "type": type_of(indicator.observable),
        "value": indicator.observable.value,
        "action": wanted_action(indicator.observable, hash_action, address_action),
        "severity": severity,
        "platforms": list(platforms),
        "expiration": expiration(indicator),
        "source": OUR_SOURCE,
        "tags": [OUR_SOURCE],
        "description": one_line(f"{OUR_WORDS}{about}; confidence {indicator.confidence}", DESCRIPTION_LENGTH),
        "applied_globally": not host_groups,
    }
    if host_groups:
        row["host_groups"] = list(host_groups)
    return row


def wanted_action(observable: Observable, hash_action: str, address_action: str = ADDRESS_ACTION) -> str:
    return hash_action if observable.type is ObservableType.FILE else address_action


def update_for(
    ioc: IOC, indicator: Indicator, *, hash_action: str, address_action: str = ADDRESS_ACTION, severity: str
) -> dict[str, Any] | None:
    """
    The row of an update that brings our indicator to what is wanted, or None. It never ends earlier nor acts less
    than before. The members that stay are sent too: XSOAR's client leaves them out and they are kept, but no document
    says so.
    """
    action = wanted_action(indicator.observable, hash_action, address_action)
    too_weak = STRENGTH.get(ioc.action, 0) < STRENGTH[action]
    too_short = ioc.expiration is not None and ioc.expiration < ends_at(indicator)
    if not (too_weak or too_short or ioc.expired):
        return None
    ends = ends_at(indicator) if ioc.expiration is None or too_short or ioc.expired else ioc.expiration
    row: dict[str, Any] = {
        "id": ioc.id,
        "action": action if too_weak else ioc.action,
        "severity": ioc.severity or severity,
        "platforms": list(ioc.platforms),
        "expiration": ends.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": OUR_SOURCE,
        "tags": list(ioc.tags),
        "description": ioc.description or "",
        "applied_globally": ioc.applied_globally,
    }
    if ioc.host_groups:
        row["host_groups"] = list(ioc.host_groups)
    return row


def chunks(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [list(rows[start : start + ROWS_PER_WRITE]) for start in range(0, len(rows), ROWS_PER_WRITE)]


def id_chunks(ids: Sequence[str]) -> list[list[str]]:
    return [list(ids[start : start + IDS_PER_DELETE]) for start in range(0, len(ids), IDS_PER_DELETE)]


def kept_because(ioc: IOC, action: Action) -> str | None:
    """Why an indicator stays although the action is to be lifted; None: it is ours, and as we left it."""
    if not ioc.ours:
        return f"not our indicator (source {one_line(ioc.source or 'none', 40)!r}), left alone"
    changed = [
        name
        for name, differs in (
            ("tags", set(ioc.tags) != {OUR_SOURCE}),
            ("description", not (ioc.description or "").startswith(OUR_WORDS)),
            ("expiration", action.expires_at is not None and ioc.expiration != action.expires_at),
            # One that has expired is set to no_action by the vendor itself.
            ("action", not ioc.expired and ioc.action != action.proof.get("action", ioc.action)),
        )
        if differs
    ]
    if changed:
        return f"the indicator's {' and '.join(changed)} changed since we wrote it, so it was left alone"
    return None


def refused_because(body: bytes) -> str:
    """
    The reason in a refused write: it stands in ``resources``, and ``errors`` only says that there is one. Whatever
    shape the answer has, it is a refusal: nothing in it can be an error of its own.
    """
    try:
        document = load_json(VENDOR, "write", body)
    except VendorError:
        return error_text(body)
    resources = document.get("resources") if isinstance(document, dict) else None
    for entry in resources if isinstance(resources, list) else ():
        message = entry.get("message") if isinstance(entry, dict) else None
        if isinstance(message, str) and message.strip():
            return one_line(message)
    return error_text(body)


# --- what is true now ---------------------------------------------------------------------------------------


def outcome_of(ioc: IOC) -> tuple[Outcome, str]:
    """What Falcon does about it, as read back from Falcon."""
    if isinstance(ioc, UnreadableIOC):
        return Outcome.FAILED, f"the indicator was left alone: {ioc.problem}"
    where = "on all hosts" if ioc.applied_globally else f"on {len(ioc.host_groups)} host groups"
    whose = "" if ioc.ours else f"; not our indicator (source {one_line(ioc.source or 'none', 40)!r}), left alone"
    if ioc.expired:
        return Outcome.EXPIRED, f"the indicator has expired and does nothing{whose}"
    if ioc.action in ("prevent", "prevent_no_ui"):
        return Outcome.BLOCKED, f"prevented {where}{whose}"
    if ioc.action == "detect":
        why = "" if ioc.type in _HASH.values() else ": a custom indicator cannot block an address or a domain"
        return Outcome.DETECT_ONLY, f"detected {where}{why}{whose}"
    if ioc.ours:
        return Outcome.FAILED, f"the indicator's action reads back as {one_line(ioc.action, 30)}"
    # Somebody decided that nothing shall happen.
    return Outcome.PROTECTED, f"the indicator's action is {one_line(ioc.action, 30)}{whose}"
