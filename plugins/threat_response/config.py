"""The section ``[threat_response]`` of Airflow's configuration, as ``airflow config list`` shows it.

Pure data: Airflow reads it for each of its commands. An empty value counts as unset; ``runtime/settings.py`` says what
then holds.
"""

from __future__ import annotations

from typing import Any

SECTION = "threat_response"


def _option(description: str, *, kind: str = "string", default: str = "", example: str | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


CONFIG: dict[str, Any] = {
    SECTION: {
        "description": "Threat response: where its policy, ledger and archive are.",
        "options": {
            "home": _option(
                "Folder of the SQLite ledger and of the archive. Empty: the variable THREAT_RESPONSE_HOME, else the "
                "folder threat-response in AIRFLOW_HOME.",
                example="/var/lib/threat-response",
            ),
            "policy": _option(
                "Policy files separated by colons, later ones override earlier ones. Empty: the variable "
                "THREAT_RESPONSE_POLICY, else include/config/policy.yaml of the project.",
                example="/etc/soc/policy.yaml:/etc/soc/policy.weekend.yaml",
            ),
            "archive": _option(
                "Object-storage URL of the archive of raw pages and rejected records. Empty: the variable "
                "THREAT_RESPONSE_ARCHIVE, else the folder archive in the home folder.",
                example="s3://aws_default@soc-archive/threat-response",
            ),
            "templates": _option(
                "Folders of your own incident texts separated by colons, later ones override earlier ones "
                "(docs/incident-texts.md). Empty: the shipped texts.",
                example="/etc/soc/incident-texts",
            ),
            "ledger_connection": _option(
                "Connection of the ledger's Postgres database. While it does not exist, the ledger is an SQLite file "
                "in the home folder.",
                default="threat_response_ledger",
            ),
            "warm_start": _option(
                "Import once, in the scheduler (LocalExecutor) or in the Celery worker, what tasks need, so that each "
                "task starts with it. New code then needs a restart of both.",
                kind="boolean",
                default="True",
            ),
        },
    }
}
