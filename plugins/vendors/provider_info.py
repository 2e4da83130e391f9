"""Our connection types and their forms. Airflow finds them by the entry point in ``pyproject.toml``.

Declarative: showing a form imports no hook. A field with ``format: password`` is masked by the UI and the API.
"""

from __future__ import annotations

from typing import Any


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def _secret(label: str, description: str) -> dict[str, Any]:
    return _text(label, description, format="password")


def _choice(label: str, description: str, values: list[str], default: str) -> dict[str, Any]:
    return _text(label, description, enum=values, default=default)


def _number(label: str, description: str, *, default: int, minimum: int, maximum: int) -> dict[str, Any]:
    schema = {"type": ["integer", "null"], "default": default, "minimum": minimum, "maximum": maximum}
    return {"label": label, "description": description, "schema": schema}


def _switch(label: str, description: str, *, default: bool) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["boolean", "null"], "default": default}}


_VERIFY = _switch("Verify TLS", "Off only for a laboratory with a self-signed certificate", default=True)
_ACCESS_TOKEN = _secret("Access token", "EdgeGrid access_token of the API client (akab-…)")
_ACCOUNT = _text("Account switch key", "Only for API clients that manage several accounts")


def _connection(
    product: str,
    hook: str,
    name: str,
    *,
    host: str,
    labels: dict[str, str],
    fields: dict[str, Any],
    hidden: tuple[str, ...] = (),
    port: str = "443",
) -> dict[str, Any]:
    return {
        "connection-type": product,
        "hook-class-name": f"vendors.{product}.hook.{hook}",
        "hook-name": name,
        "conn-fields": fields,
        "ui-field-behaviour": {
            "hidden-fields": ["schema", *hidden],
            "relabeling": {"host": "API host", **labels},
            # Airflow 3.3.2's Test button fails for a stored connection without a port.
            "placeholders": {"host": host, "port": port},
        },
    }


def get_provider_info() -> dict[str, Any]:
    """What Airflow shows of this project."""
    return {
        "package-name": "airflow-api-threat-response",
        "name": "API threat response",
        "description": "Akamai threat events to Cyware incidents, WAF and EDR blocks and SIEM watchlists.",
        "connection-types": [
            _connection(
                "akamai_api_security",
                "AkamaiApiSecurityHook",
                "Akamai API Security",
                host="https://tenant.nonamesec.com",
                labels={"login": "Client id (empty: user token)", "password": "Client secret, user token or API key"},
                fields={
                    "family": _choice(
                        "API family",
                        "noname: /api/v4 with a bearer token; neosec: /v4/organizations with X-API-Key",
                        ["noname", "neosec"],
                        "noname",
                    ),
                    "tenant_key": _text("Tenant key", "neosec only"),
                    "auth_path": _text("Token path", "noname service accounts only; differs between tenants"),
                    "page_size": _number("Page size", "Records a call", default=50, minimum=1, maximum=500),
                    "return_fields": _switch(
                        "Ask for named fields", "Off: the tenant refuses a name in returnFields", default=True
                    ),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "akamai_sia",
                "AkamaiSiaHook",
                "Akamai Secure Internet Access",
                host="https://akab-xxxx.luna.akamaiapis.net",
                labels={"login": "Client token", "password": "Client secret"},
                fields={
                    "access_token": _ACCESS_TOKEN,
                    "config_id": _text("Configuration id", "The SIA (ETP) configuration, digits", pattern=r"^\d+$"),
                    "account_switch_key": _ACCOUNT,
                    "page_size": _number("Page size", "Events a call", default=5000, minimum=1, maximum=5000),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "abuseipdb",
                "AbuseIPDBHook",
                "AbuseIPDB",
                host="https://api.abuseipdb.com",
                labels={"password": "API key"},
                hidden=("login",),
                fields={
                    "max_age_days": _number(
                        "Oldest report (days)", "Older reports do not count", default=90, minimum=1, maximum=365
                    ),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "list_feed",
                "ListFeedHook",
                "Block list feed",
                host="https://www.spamhaus.org",
                labels={"login": "User (optional)", "password": "Password or key (optional)"},
                fields={
                    "lists": _text("Lists", "name format location [score], several separated by |"),
                    "key_header": _text("Key header", "Header that carries the key, e.g. Auth-Key"),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "cyware_respond",
                "CywareRespondHook",
                "Cyware Respond (CFTR)",
                host="https://tenant.cyware.example",
                labels={"login": "Access id", "password": "Secret key"},
                fields={
                    "auth": _choice(
                        "Authentication",
                        "signature: AccessID, Expires, Signature; bearer: the secret key field holds a token",
                        ["signature", "bearer"],
                        "signature",
                    ),
                    "assigned_group": _text("Assigned group", "Group that gets new incidents"),
                    "levels": _text("Severities", 'JSON, ours to the tenant\'s words, e.g. {"critical": "Very High"}'),
                    "phase": _text("Phase", "Of new incidents; - leaves it out"),
                    "page_size": _number("Page size", "Incidents a call", default=100, minimum=1, maximum=100),
                    "relate_call": _choice(
                        "Relationship call",
                        "advanced links exactly the pair (inferred); flat is the documented call",
                        ["advanced", "flat"],
                        "advanced",
                    ),
                    "extra_fields": _text("Further fields", "JSON object sent with every new incident"),
                    "portal_url": _text("Incident page", "Template of an incident's address, with {unique_id}"),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "akamai_client_lists",
                "AkamaiClientListsHook",
                "Akamai Client Lists (WAF)",
                host="https://akab-xxxx.luna.akamaiapis.net",
                labels={"login": "Client token", "password": "Client secret"},
                fields={
                    "access_token": _ACCESS_TOKEN,
                    "list_id": _text("List id", "The IP list that the security policy blocks, e.g. 12345_BLOCKLIST"),
                    "network": _choice("Network", "Where to activate", ["PRODUCTION", "STAGING"], "PRODUCTION"),
                    "api_version": _choice("Activation API", "Newer accounts use v2", ["v1", "v2"], "v1"),
                    "notification_emails": _text("Notify", "Addresses told of an activation, separated by commas"),
                    "account_switch_key": _ACCOUNT,
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "crowdstrike_falcon",
                "CrowdStrikeFalconHook",
                "CrowdStrike Falcon",
                host="https://api.crowdstrike.com",
                labels={"login": "Client id", "password": "Client secret"},
                fields={
                    "hash_action": _choice(
                        "Action for hashes",
                        "Addresses and domains are always detect: Falcon cannot block them by an indicator",
                        ["prevent", "detect"],
                        "prevent",
                    ),
                    "severity": _choice(
                        "Severity",
                        "Of the indicators we create",
                        ["informational", "low", "medium", "high", "critical"],
                        "high",
                    ),
                    "platforms": _text("Platforms", "Separated by commas; default windows,mac,linux"),
                    "host_groups": _text("Host groups", "Ids separated by commas; empty: all hosts"),
                    "member_cid": _text("Member CID", "Only for a parent tenant (MSSP)"),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "splunk",
                "SplunkHook",
                "Splunk KV store",
                host="https://splunk.example",
                port="8089",
                labels={"login": "User (empty: token)", "password": "Token, or the user's password"},
                fields={
                    "collection": _text("Collection", "Default threat_watchlist"),
                    "app": _text("App", "Default search"),
                    "owner": _text("Owner", "Default nobody"),
                    "verify": _VERIFY,
                },
            ),
        ],
    }
