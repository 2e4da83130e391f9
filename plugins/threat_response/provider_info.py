"""Our connection types and their forms. Airflow finds them by the entry point in ``pyproject.toml``.

Declarative: showing a form imports no hook. A field with ``format: password`` is masked by the UI and the API.
"""

from __future__ import annotations

from typing import Any

from threat_response.config import CONFIG


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
_CA_BUNDLE = _text("CA bundle", "Path on the workers, where the certificate is of your own authority")
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
        "hook-class-name": f"threat_response.vendors.{product}.hook.{hook}",
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
        "cli": ["threat_response.cli.get_cli_commands"],
        "config": CONFIG,
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
                    "blacklist": _choice(
                        "Blacklist",
                        "Downloaded first, at most four times a day: who is on it is not asked about",
                        ["json", "plaintext", "off"],
                        "json",
                    ),
                    "blacklist_minimum": _number(
                        "Blacklist: lowest score", "A free key silently gets 100", default=100, minimum=25, maximum=100
                    ),
                    "blacklist_limit": _number(
                        "Blacklist: rows",
                        "Silently no more than the plan gives",
                        default=10_000,
                        minimum=1,
                        maximum=500_000,
                    ),
                    "check_block_from": _number(
                        "Ask about a /24 from",
                        "So many of its addresses; 0: never, ask about each",
                        default=0,
                        minimum=0,
                        maximum=256,
                    ),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "virustotal",
                "VirusTotalHook",
                "VirusTotal",
                host="https://www.virustotal.com",
                labels={"password": "API key (a public one must not be used commercially)"},
                hidden=("login",),
                fields={
                    "plan": _choice(
                        "Plan",
                        "A public (free) key must not be used in commercial products, services or business workflows",
                        ["public", "premium"],
                        "public",
                    ),
                    "calls_per_minute": _text("Calls a minute", "Premium only; empty: no limit", pattern=r"^\d*$"),
                    "calls_per_day": _text("Calls a day", "Premium only; empty: no limit", pattern=r"^\d*$"),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "greynoise",
                "GreyNoiseHook",
                "GreyNoise",
                host="https://api.greynoise.io",
                labels={"password": "API key (optional for the community)"},
                hidden=("login",),
                fields={
                    "plan": _choice(
                        "Plan",
                        "community: some 50 lookups a week with a key, 25 without; paid: API v3",
                        ["community", "paid"],
                        "community",
                    ),
                    "lookups_per_day": _text("Lookups a day", "Paid only; empty: no limit", pattern=r"^\d*$"),
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
                    "stale_after_hours": _number(
                        "Stale after (hours)",
                        "Then what a list does not name counts as not checked",
                        default=48,
                        minimum=1,
                        maximum=8760,
                    ),
                    "largest_loss": _number(
                        "Largest loss (%)",
                        "A list that lost more of its entries is refused",
                        default=50,
                        minimum=0,
                        maximum=100,
                    ),
                    "largest_megabytes": _number(
                        "Largest list (MB)", "A longer one is refused", default=32, minimum=1, maximum=1024
                    ),
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "alienvault_otx",
                "AlienVaultOTXHook",
                "AlienVault OTX",
                host="https://otx.alienvault.com",
                labels={"password": "API key"},
                hidden=("login",),
                fields={"verify": _VERIFY},
            ),
            _connection(
                "urlhaus",
                "URLhausHook",
                "URLhaus (abuse.ch)",
                host="https://urlhaus-api.abuse.ch",
                labels={"password": "Auth-Key"},
                hidden=("login",),
                fields={"verify": _VERIFY},
            ),
            _connection(
                "threatfox",
                "ThreatFoxHook",
                "ThreatFox (abuse.ch)",
                host="https://threatfox-api.abuse.ch",
                labels={"password": "Auth-Key"},
                hidden=("login",),
                fields={"verify": _VERIFY},
            ),
            _connection(
                "misp",
                "MispHook",
                "MISP",
                host="https://misp.example",
                labels={"password": "Authentication key"},
                hidden=("login",),
                fields={
                    "published_only": _switch("Published events only", "Leave out drafts", default=True),
                    "warning_lists": _switch(
                        "MISP's warning lists", "Leave out what is on one of them (enforceWarninglist)", default=True
                    ),
                    "last": _text("Published within", "365d, 24h; empty: all events", pattern=r"^[1-9][0-9]*[dhm]$|^$"),
                    "values_a_call": _number("Values a search", "In one call", default=100, minimum=1, maximum=1000),
                    "page_size": _number("Page size", "Attributes a page", default=1000, minimum=1, maximum=10_000),
                    "ca_bundle": _CA_BUNDLE,
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "taxii",
                "TaxiiHook",
                "TAXII 2.1 server",
                host="https://taxii.example",
                labels={"login": "User (Basic)", "password": "Password or key"},
                fields={
                    "auth": _choice(
                        "Authentication",
                        "basic: user and password; bearer, token: in Authorization; header: in another header",
                        ["basic", "bearer", "token", "header"],
                        "basic",
                    ),
                    "key_header": _text("Key header", "Only for header, e.g. X-Api-Key"),
                    "discovery_path": _text("Discovery path", "Default /taxii2/"),
                    "api_root": _text("API root", "Its path or URL; empty: the server's default"),
                    "collections": _text("Collections", "Ids or titles separated by |; empty: all that may be read"),
                    "first_days": _number(
                        "First download (days)", "What was added since; 0: all", default=0, minimum=0, maximum=36_500
                    ),
                    "stale_after_hours": _number(
                        "Stale after (hours)",
                        "A collection not read for so long no longer says that something is not listed",
                        default=48,
                        minimum=1,
                        maximum=8760,
                    ),
                    "page_size": _number("Page size", "Objects a page", default=1000, minimum=1, maximum=100_000),
                    "ca_bundle": _CA_BUNDLE,
                    "verify": _VERIFY,
                },
            ),
            _connection(
                "offline_asn",
                "OfflineAsnHook",
                "Offline AS table",
                host="https://iptoasn.com",
                labels={},
                hidden=("host", "login", "password"),
                fields={
                    "table": _text("Table", "Path or object-storage URL of a table of iptoasn.com, packed or not"),
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
