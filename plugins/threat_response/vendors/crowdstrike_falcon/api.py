"""CrowdStrike Falcon custom IOCs without I/O. Field names are the vendor's.

The vendor's swagger is behind a login. Shapes: the endpoint tables of https://github.com/CrowdStrike/falconpy (1.6.6)
and the models of https://github.com/CrowdStrike/gofalcon. Requests are built by falconpy itself; here are their
arguments, and the answers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
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
DETECT = "detect"
#: What neither detects nor blocks.
HARMLESS = ("no_action", "allow")
PREVENT = ("prevent", "prevent_no_ui")

DESCRIPTION_LENGTH = 200
#: How a description of ours begins.
OUR_WORDS = "Threat response: "
DOMAIN_LENGTH = 200
SEARCH_LIMIT = 500  # results on one page
#: FQL that finds everything of ours, and an order in which a page does not shift while something is written.
OURS = f"source:'{OUR_SOURCE}'"
STABLE = "created_on.asc"

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
    from_parent: bool = False

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
        # A parent tenant's is not ours to change, whatever it is called.
        return self.source == OUR_SOURCE and not self.from_parent

    def ended_at(self, now: datetime) -> bool:
        """On its end the vendor sets it to ``no_action``; it stays."""
        return self.expired or (self.expiration is not None and self.expiration <= now)

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
    """``after`` stands on the last page, too."""

    total: int = Field(ge=0)
    after: str | None = None


class Meta(VendorShape):
    pagination: Pagination


class IOCAnswer(VendorShape):
    """Of the combined search. A good answer may have ``errors: null``."""

    meta: Meta
    errors: tuple[dict[str, Any], ...] | None = None
    resources: tuple[dict[str, Any], ...]


class WordsAnswer(VendorShape):
    """Of a vocabulary: the words that the tenant offers."""

    errors: tuple[dict[str, Any], ...] | None = None
    resources: tuple[str, ...]


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


def observable_of(ioc: IOC) -> Observable | None:
    """What an indicator of ours is about; None: nothing that we write."""
    types = {"ipv4": ObservableType.IPV4, "ipv6": ObservableType.IPV6, "domain": ObservableType.DOMAIN}
    kind = types.get(ioc.type, ObservableType.FILE if ioc.type in _HASH.values() else None)
    try:
        return Observable.of_key(f"{kind.value}:{ioc.value}") if kind else None
    except ValueError:  # a value that is none of its type, as a person may have typed it
        return None


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


def parse_page(response: Response) -> tuple[list[IOC], int, str | None]:
    """
    One page of a search without end: its indicators, how many there are in all, and where the next page begins.

    :raises Unexpected: the vendor names errors in a 200
    """
    answer = decode(VENDOR, "search", IOCAnswer, response.body)
    if answer.errors:
        raise Unexpected(VENDOR, "search", error_text(response.body), status=response.status)
    found = [_read_ioc(resource) for resource in answer.resources]
    return found, answer.meta.pagination.total, answer.meta.pagination.after


def parse_words(response: Response) -> tuple[str, ...]:
    """
    What the tenant offers, such as actions.

    :raises Unexpected: the vendor names errors in a 200
    """
    answer = decode(VENDOR, "actions", WordsAnswer, response.body)
    if answer.errors:
        raise Unexpected(VENDOR, "actions", error_text(response.body), status=response.status)
    return answer.resources


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


@dataclass(frozen=True)
class Wanted:
    """
    What the connection says about every indicator.

    :param hash_action: of a hash that is to be blocked
    :param address_action: likewise of an address or a domain
    :param host_groups: ids; empty to apply globally
    """

    hash_action: str
    severity: str
    platforms: tuple[str, ...]
    host_groups: tuple[str, ...] = ()
    address_action: str = DETECT

    def action(self, indicator: Indicator) -> str:
        """At the rung ``detect`` everything is detected; one of an older release has no rung."""
        if indicator.rung is not None and not indicator.rung.is_block:
            return DETECT
        return self.hash_action if indicator.observable.type is ObservableType.FILE else self.address_action

    def strength(self, action: str) -> int:
        """From nothing to everything: an update never goes down."""
        if action in HARMLESS:
            return 0
        if action == DETECT:
            return 1
        return 2 if action in (*PREVENT, self.hash_action, self.address_action) else 0


def creation(indicator: Indicator, incidents: Sequence[str], wanted: Wanted) -> dict[str, Any]:
    """A row of a create."""
    about = ", ".join(incidents) or "no incident yet"
    row: dict[str, Any] = {
        "type": type_of(indicator.observable),
        "value": indicator.observable.value,
        "action": wanted.action(indicator),
        "severity": wanted.severity,
        "platforms": list(wanted.platforms),
        "expiration": expiration(indicator),
        "source": OUR_SOURCE,
        "tags": [OUR_SOURCE],
        "description": one_line(f"{OUR_WORDS}{about}; confidence {indicator.confidence}", DESCRIPTION_LENGTH),
        "applied_globally": not wanted.host_groups,
    }
    if wanted.host_groups:
        row["host_groups"] = list(wanted.host_groups)
    return row


def update_for(ioc: IOC, indicator: Indicator, wanted: Wanted) -> dict[str, Any] | None:
    """
    The row of an update that brings our indicator to what is wanted, or None. It never ends earlier nor acts less
    than before. The members that stay are sent too: XSOAR's client leaves them out and they are kept, but no document
    says so.
    """
    action = wanted.action(indicator)
    too_weak = wanted.strength(ioc.action) < wanted.strength(action)
    too_short = ioc.expiration is not None and ioc.expiration < ends_at(indicator)
    if not (too_weak or too_short or ioc.expired):
        return None
    ends = ends_at(indicator) if ioc.expiration is None or too_short or ioc.expired else ioc.expiration
    row: dict[str, Any] = {
        "id": ioc.id,
        "action": action if too_weak else ioc.action,
        "severity": ioc.severity or wanted.severity,
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


def altered(ioc: IOC, ends: Collection[datetime | None], action: object = None) -> str:
    """
    What a person changed of our indicator since we left it, in words; empty: nothing.

    :param ends: those that we can have left; None among them: not known
    :param action: the one that we left; None: not known
    """
    left = {end.replace(microsecond=0) for end in ends if end}
    changed = [
        name
        for name, differs in (
            ("tags", set(ioc.tags) != {OUR_SOURCE}),
            ("description", not (ioc.description or "").startswith(OUR_WORDS)),
            ("expiration", None not in ends and ioc.expiration not in left),
        )
        if differs
    ]
    # One that has expired is set to no_action by the vendor itself.
    if action is not None and not ioc.expired and ioc.action != action:
        changed.append(f"action ({one_line(str(action), 30)} to {one_line(ioc.action, 30)})")
    return f"the indicator's {' and '.join(changed)} changed since we wrote it" if changed else ""


def kept_because(ioc: IOC, action: Action) -> str | None:
    """Why an indicator stays although the action is to be lifted; None: it is ours, and as we left it."""
    if not ioc.ours:
        return f"not our indicator (source {one_line(ioc.source or 'none', 40)!r}), left alone"
    changed = altered(ioc, {action.expires_at}, action.proof.get("action"))
    return f"{changed}, so it was left alone" if changed else None


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


def outcome_of(ioc: IOC, wanted: Wanted) -> tuple[Outcome, str]:
    """What Falcon does about it, as read back from Falcon."""
    if isinstance(ioc, UnreadableIOC):
        return Outcome.FAILED, f"the indicator was left alone: {ioc.problem}"
    where = "on all hosts" if ioc.applied_globally else f"on {len(ioc.host_groups)} host groups"
    whose = "" if ioc.ours else f"; not our indicator (source {one_line(ioc.source or 'none', 40)!r}), left alone"
    if ioc.expired:
        return Outcome.EXPIRED, f"the indicator has expired and does nothing{whose}"
    if wanted.strength(ioc.action) > 1:
        how = "prevented" if ioc.action in PREVENT else one_line(ioc.action, 30)
        return Outcome.BLOCKED, f"{how} {where}{whose}"
    if ioc.action == DETECT:
        why = "" if ioc.type in _HASH.values() else ": a custom indicator cannot block an address or a domain"
        return Outcome.DETECT_ONLY, f"detected {where}{why}{whose}"
    if ioc.ours:
        return Outcome.FAILED, f"the indicator's action reads back as {one_line(ioc.action, 30)}"
    # Somebody decided that nothing shall happen.
    return Outcome.PROTECTED, f"the indicator's action is {one_line(ioc.action, 30)}{whose}"
