"""What Airflow shows of this project. Airflow finds it by the entry point in ``pyproject.toml``.

Every Airflow process calls it at its start: it reads the vendors' declarations and imports no hook.
"""

from __future__ import annotations

from typing import Any

from threat_response.config import CONFIG
from threat_response.registry import vendors
from threat_response.transport.form import vendor_of


def get_provider_info() -> dict[str, Any]:
    """Airflow's ``provider_info``: our connection types, one for each vendor of the registry."""
    return {
        "package-name": "airflow-api-threat-response",
        "name": "API threat response",
        "description": "Akamai threat events to Cyware incidents, WAF and EDR blocks and SIEM watchlists.",
        "cli": ["threat_response.cli.get_cli_commands"],
        "config": CONFIG,
        "connection-types": [vendor_of(name).form() for name in vendors()],
    }
