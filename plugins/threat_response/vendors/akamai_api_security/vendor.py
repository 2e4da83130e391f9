"""What Akamai API Security is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Choice, Number, Switch, Text, Vendor

VENDOR = Vendor(
    "akamai_api_security",
    "Akamai API Security",
    "AkamaiApiSecurityHook",
    host="https://tenant.nonamesec.com",
    login="Client id (empty: user token)",
    password="Client secret, user token or API key",  # noqa: S106
    fields=(
        Choice(
            "family",
            "API family",
            "noname: /api/v4 with a bearer token; neosec: /v4/organizations with X-API-Key",
            choices=("noname", "neosec"),
            default="noname",
        ),
        Text("tenant_key", "Tenant key", "neosec only", needed=("family", "neosec")),
        Text("auth_path", "Token path", "noname service accounts only; differs between tenants", default="/auth/token"),
        Number("page_size", "Page size", "Records a call", default=50, low=1, high=500),
        Switch("return_fields", "Ask for named fields", "Off: take what the tenant gives unasked", default=True),
        Number(
            "grown_days",
            "Days to look back",
            "Older incidents that grow are read again; 0: none",
            default=7,
            low=0,
            high=90,
        ),
        *TLS,
    ),
)
