"""Where the demo lives, which secrets it made up, and the environment and connections of its Airflow.

The tests that start a whole Airflow use the same, so what they show is what ``make demo`` does.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def free_port(preferred: int) -> int:
    """The preferred loopback port, or any free one."""
    for port in (preferred, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(s.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")


def make_secrets() -> dict[str, dict[str, str]]:
    """Fresh credentials per vendor, in the simulators' own names for them."""

    def new(prefix: str = "") -> str:
        return prefix + secrets.token_urlsafe(24)

    def edgegrid() -> dict[str, str]:
        return {
            "client_token": new("akab-"),
            "client_secret": new(),
            "access_token": new("akab-"),
        }

    return {
        "akamai_api_security": {"client_id": new("svc-"), "client_secret": new(), "user_token": new()},
        "akamai_sia": edgegrid(),
        "akamai_client_lists": edgegrid(),
        "abuseipdb": {"api_key": new()},
        "cyware_respond": {"access_id": new("id-"), "secret_key": new()},
        "crowdstrike_falcon": {"client_id": new("cid-"), "client_secret": new()},
        "splunk": {"token": new()},
    }


def connections(sim_port: int, known: dict[str, dict[str, str]]) -> dict[str, dict[str, Any]]:
    """The Airflow connections that point at the simulators: in production only host, port and secrets differ."""

    def at_simulator(conn_type: str, **more: Any) -> dict[str, Any]:
        # Every field of the form is named: Airflow's edit form of a stored connection shows only what is stored.
        extra = dict.fromkeys(fields[conn_type]) | more.pop("extra", {})
        return {"conn_type": conn_type, "host": "http://127.0.0.1", "port": sim_port, "extra": extra, **more}

    from threat_response.provider_info import get_provider_info

    fields = {t["connection-type"]: t["conn-fields"] for t in get_provider_info()["connection-types"]}

    api_security, sia, lists = (known[p] for p in ("akamai_api_security", "akamai_sia", "akamai_client_lists"))
    respond, falcon = known["cyware_respond"], known["crowdstrike_falcon"]
    return {
        "akamai_api_security_default": at_simulator(
            "akamai_api_security",
            login=api_security["client_id"],
            password=api_security["client_secret"],
            extra={"family": "noname"},
        ),
        "akamai_sia_default": at_simulator(
            "akamai_sia",
            login=sia["client_token"],
            password=sia["client_secret"],
            extra={"access_token": sia["access_token"], "config_id": "41041"},
        ),
        "abuseipdb_default": at_simulator("abuseipdb", password=known["abuseipdb"]["api_key"]),
        "list_feed_default": at_simulator(
            "list_feed",
            extra={
                "lists": "spamhaus-drop drop /feeds/drop_v4.json 100|"
                "malware-domains plain /feeds/malware-domains.txt 100|"
                "bad-hashes plain /feeds/bad-hashes.txt 100|"
                "web-attackers plain /feeds/web-attackers.txt 100"
            },
        ),
        "cyware_respond_default": at_simulator(
            "cyware_respond", login=respond["access_id"], password=respond["secret_key"]
        ),
        "akamai_client_lists_default": at_simulator(
            "akamai_client_lists",
            login=lists["client_token"],
            password=lists["client_secret"],
            extra={"access_token": lists["access_token"], "list_id": "91596_SOCAUTOBLOCK", "network": "PRODUCTION"},
        ),
        "crowdstrike_falcon_default": at_simulator(
            "crowdstrike_falcon", login=falcon["client_id"], password=falcon["client_secret"]
        ),
        "splunk_default": at_simulator("splunk", password=known["splunk"]["token"]),
    }


@dataclass(frozen=True)
class Place:
    """A folder with everything of one demo (or of one test) in it."""

    home: Path
    api_port: int
    sim_port: int
    #: False: only runs that are triggered, so that a test is not disturbed when the hour turns.
    by_schedule: bool = True

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def simulators(self) -> str:
        return f"http://127.0.0.1:{self.sim_port}"

    @property
    def password_file(self) -> Path:
        return self.airflow_home / "simple_auth_manager_passwords.json.generated"

    def environment(self) -> dict[str, str]:
        """The processes' environment. No secret is in it: connections are stored encrypted in Airflow's database."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "THREAT_RESPONSE"))}
        path = [str(ROOT), str(ROOT / "plugins")]
        return inherited | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": ":".join(path),
            # Airflow's own calls between its parts must never leave for a proxy.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "AIRFLOW_HOME": str(self.airflow_home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__AUTH_MANAGER": (
                "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.ui}/execution/",
            "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{self.home}/xcom",
            # Small batches stay readable in the UI's XCom tab; larger ones are stored compressed beside the archive.
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "262144",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_COMPRESSION": "gzip",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.api_port),
            "AIRFLOW__API__BASE_URL": self.ui,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__EXPOSE_CONFIG": "False",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(self.by_schedule),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.airflow_home}/airflow.db",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__THREAT_RESPONSE__HOME": str(self.home / "threat-response"),
            "AIRFLOW__THREAT_RESPONSE__POLICY": ":".join(
                str(ROOT / "include/config" / file) for file in ("policy.yaml", "policy.demo.yaml")
            ),
        }

    def save(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "place.json").write_text(json.dumps({"api_port": self.api_port, "sim_port": self.sim_port}))

    @classmethod
    def load(cls, home: Path) -> Place | None:
        path = home / "place.json"
        return cls(home, **json.loads(path.read_text())) if path.exists() else None


def write_private(path: Path, content: str) -> Path:
    """A file that only we may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(content)
    return path
