"""Every literal of a Respond tenant that its documentation leaves open or to the tenant's administrator.

The vendor's reference (https://cftrapi.cyware.com) shows requests but no answers, and the values of severity, type,
phase, source, label and group come from the tenant's own form. So each stands here once, and the connection's extra
may override each by name (a map is laid over the default map). ``[I]`` is inferred, ``[P]`` was seen in a third party's
working client, ``[M]`` is documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.soar.in_force.by_hand import SOURCE as BY_HAND
from include.soar.model import ObservableType, Severity
from include.soar.vendor.errors import WrongConnection
from include.soar.vendor.wire import first_problem

VENDOR = "cyware_respond"

#: Documented: "Default margin for expiry is 20 seconds".
SIGNATURE_SECONDS = 20
#: What a client of a live tenant has met: an Expires further ahead than this is refused. So a clock that is ahead by
#: the difference is refused, and says "wrong signature".
SIGNATURE_CAP_SECONDS = 30
#: Expires falls on this grid, so it lies 15 to 20 seconds ahead. Every attempt is signed afresh, but a busy minute
#: has 12 signatures and not 60: each must be masked in the logs, and masking gets slower with every secret.
SIGNATURE_GRID_SECONDS = 5

#: For connecting, and for every wait for bytes. Ours: the vendor names none.
TIMEOUT_SECONDS = 60.0


class Tenant(BaseModel):
    """One tenant's tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_path: str = "/cftrapi/openapi"  # [M]

    # Lists: page and page_size [P]. The signs of the end (count, next, link.next, 404 after the last page) are [I]:
    # a list is read until a page is short, and the signs are only used to notice that something is missing.
    page_size: int = Field(default=100, ge=1)  # [P]; documented cap of a sibling product
    maximum_pages: int = Field(default=200, ge=1)  # ours: a list that never ends is a fault

    # Words of the incident form. Tenant configuration, all of them.
    levels: dict[Severity, str] = {
        Severity.INFORMATIONAL: "Low",
        Severity.LOW: "Low",  # [M]
        Severity.MEDIUM: "Medium",  # [I]
        Severity.HIGH: "High",  # vendor's user interface
        Severity.CRITICAL: "Critical",  # [I]
    }
    sources: dict[str, str] = {"akamai_api_security": "Akamai API Security", "akamai_sia": "Akamai SIA"}  # [I]
    incident_types: dict[str, str] = {"akamai_api_security": "Hacking", "akamai_sia": "Malware"}  # Hacking: vendor's UI
    incident_type: str = "Hacking"  # of any other source
    labels: tuple[str, ...] = ("auto-onboarded",)  # [I], of every incident
    source_labels: dict[str, str] = {"akamai_api_security": "akamai-api-security", "akamai_sia": "akamai-sia"}  # [I]
    label_blocked: str = "blocked"  # [I]
    label_pending: str = "block-pending"  # [I]
    phase: str = "Detection Analysis"  # [M]; "-": not sent
    assigned_group: str = "SOC L1"  # [I]; tenant's
    extra_fields: dict[str, Any] = {}  # what else the tenant's form wants, sent as it is

    status_open: str = "open"  # [M]
    status_closed: str = "closed"  # [M]
    status_merged: str = "merged"  # [I] as a literal
    closure: str = "closure"  # [M] comment_type of a closing note

    # Threat intel and Connect the Dots.
    ioc_keys: dict[ObservableType, str] = {
        ObservableType.IPV4: "ioc_ip",
        ObservableType.IPV6: "ioc_ip",
        ObservableType.DOMAIN: "ioc_domain",
        ObservableType.URL: "ioc_url",  # [I] in link-components
        ObservableType.EMAIL: "ioc_email",
    }
    hash_keys: dict[str, str] = {
        "MD5": "ioc_MD5",  # [I] in link-components
        "SHA-1": "ioc_SHA1",  # [I] in link-components
        "SHA-256": "ioc_SHA256",
    }
    ioc_value_key: str = "value"  # [I]: where an IOC record has its value
    ioc_component: str = "ioc"  # [I]: the identifier under which an IOC's connections are read
    incident_component: str = "incident"  # [M]
    #: ``advanced`` links exactly the pair named (link_from incident is [I]), ``flat`` is the documented call.
    relate_call: Literal["advanced", "flat"] = "advanced"

    #: [I] An incident's page. ``{host}``, ``{unique_id}`` and ``{readable_id}`` are filled in. "-": no link.
    portal_url: str = "{host}/cftr/incident/{unique_id}"

    def source_of(self, source: str) -> str:
        """
        The form's name of where a finding came from. What a person does by hand comes from no product: unless it is
        given a name, it has that of the first one, since a form refuses a name that it does not have.
        """
        if source == BY_HAND and source not in self.sources:
            return next(iter(self.sources.values()), source)
        return self.sources.get(source, source)

    def labels_of(self, source: str) -> list[str]:
        return [*self.labels, *filter(None, [self.source_labels.get(source)])]

    def page_of_incident(self, host: str, unique_id: str, readable_id: str | None) -> str | None:
        if not self.portal_url:
            return None
        return self.portal_url.format(
            host=host, unique_id=quote(unique_id, safe=""), readable_id=quote(readable_id or "", safe="")
        )


def tenant_of(settings: Mapping[str, Any]) -> Tenant:
    """
    The tenant with the connection's overrides.

    :param settings: the connection's fields as ``vendor.py`` declares and reads them; None is not overridden
    :raises WrongConnection: naming the field that is wrong
    """
    changes: dict[str, Any] = {}
    for name, field in Tenant.model_fields.items():
        value = settings.get(name)
        if value is None:
            continue
        if value == "-":  # an empty text is what the form sends for "not filled in"
            value = ""
        if isinstance(value, dict):
            value = {**{str(k): v for k, v in field.default.items()}, **value}
        changes[name] = value
    try:
        tenant = Tenant.model_validate(changes)
        tenant.page_of_incident("https://host.example", "id", None)
    except ValidationError as error:
        raise WrongConnection(VENDOR, "connection", f"wrong field {first_problem(error)}") from None
    except (KeyError, IndexError, ValueError):
        problem = "wrong field portal_url: it has a placeholder that is not known"
        raise WrongConnection(VENDOR, "connection", problem) from None
    return tenant
