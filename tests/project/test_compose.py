"""docker-compose.yaml and the Dockerfile, as far as they can be judged without a container engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf

from include.demo.place import make_secrets
from include.soar.policy.file import load_policy
from tests.conftest import ROOT

COMPOSE = ROOT / "docker-compose.yaml"
TEXT = COMPOSE.read_text("utf-8")
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
AIRFLOW = {name: s for name, s in SERVICES.items() if "AIRFLOW__CORE__EXECUTOR" in s.get("environment", {})}

#: What every part of Airflow must have in common, or it cannot read connections, verify tokens or reach the others.
SHARED = (
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CELERY__BROKER_URL",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__CORE__AUTH_MANAGER",
    "AIRFLOW__CORE__XCOM_BACKEND",
    "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH",
    "AIRFLOW_CONN_THREAT_RESPONSE_LEDGER",
    "AIRFLOW__THREAT_RESPONSE__ARCHIVE",
    "AIRFLOW__THREAT_RESPONSE__POLICY",
)
#: ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}``; ``$$`` is Compose's escape for the container's own shell.
VARIABLE = re.compile(r"(?<!\$)\$(?:\{(\w+)(:?[-?+])?([^}]*)\}|(\w+))")


def variables() -> list[tuple[str, str, str]]:
    """Name, operator and default or message of each interpolation, comments left out."""
    text = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    return [(m[1] or m[4], m[2] or "", m[3] or "") for m in VARIABLE.finditer(text)]


def airflow_commands() -> list[tuple[str, list[str]]]:
    """Each ``airflow …`` that a service runs, as its command or as its health check."""
    found = []
    for name, service in SERVICES.items():
        for words in (service.get("command"), (service.get("healthcheck") or {}).get("test", [])[1:]):
            if words and words[0] == "airflow":
                found.append((name, words[1:]))
    return found


def test_it_is_a_compose_file() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_of_airflow_is_there() -> None:
    commands = {" ".join(words[:2]) for _, words in airflow_commands()}
    assert commands >= {
        "api-server",
        "scheduler --skip-serve-logs",
        "dag-processor",
        "triggerer --skip-serve-logs",
        "celery worker",
    }


def test_each_required_variable_says_what_it_is_for() -> None:
    required = [(name, message) for name, operator, message in variables() if operator == ":?"]
    assert required
    for name, message in required:
        assert re.fullmatch(rf"set {name}, \w.+", message), (name, message)


def test_no_secret_has_a_default() -> None:
    secrets = [v for v in variables() if re.search(r"PASSWORD|SECRET|KEY|TOKEN", v[0])]
    assert {name for name, _, _ in secrets} == {
        "AIRFLOW_ADMIN_PASSWORD",
        "API_SECRET_KEY",
        "FERNET_KEY",
        "JWT_SECRET",
        "LEDGER_PASSWORD",
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
    }
    assert {operator for _, operator, _ in secrets} == {":?"}


def test_everything_else_has_a_default() -> None:
    assert [v for v in variables() if v[1] not in (":?", ":-")] == []


@pytest.mark.parametrize("name", SHARED)
def test_every_part_of_airflow_has_the_same(name: str) -> None:
    assert len(AIRFLOW) >= 6
    assert len({service["environment"].get(name) for service in AIRFLOW.values()}) == 1
    assert AIRFLOW["airflow-worker"]["environment"][name]


def test_every_part_of_airflow_sees_the_same_volumes() -> None:
    of_the_parts = [s["volumes"] for name, s in AIRFLOW.items() if name != "demo-connections"]
    assert all(volumes == of_the_parts[0] for volumes in of_the_parts)
    inside = [volume.split(":")[1] for volume in of_the_parts[0]]
    environment = AIRFLOW["airflow-worker"]["environment"]
    for name in ("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", "AIRFLOW__THREAT_RESPONSE__ARCHIVE"):
        default = VARIABLE.fullmatch(environment[name])
        assert default
        assert default[3].removeprefix("file://") in inside


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published), published
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


def test_a_backfill_is_looked_at_beside_all_the_runs_that_wait_for_a_person() -> None:
    """The scheduler looks at so many running runs at a time, at a backfill's last (apache/airflow#58554)."""
    looked_at = re.search(r'MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE: "(\d+)"', TEXT)
    at_once = re.search(r"max_active_runs=(\d+)", (ROOT / "dags/api_threat_response.py").read_text("utf-8"))
    assert looked_at
    assert at_once
    assert int(looked_at[1]) > int(at_once[1])


def test_every_option_is_one_that_airflow_knows() -> None:
    """A misspelt AIRFLOW__ variable is silently ignored by Airflow."""
    known = {
        (section, option)
        for section, description in conf.configuration_description.items()
        for option in description["options"]
    }
    names = {n for s in AIRFLOW.values() for n in s["environment"]} | set(
        re.findall(r"AIRFLOW__\w+", (ROOT / "Dockerfile").read_text("utf-8"))
    )
    unknown = []
    for name in names:
        if name.startswith("AIRFLOW__"):
            section, option = name.removeprefix("AIRFLOW__").lower().split("__")
            if not {(section, option), (section.replace("_", "."), option)} & known:
                unknown.append(name)
    assert unknown == []


@pytest.mark.parametrize(("service", "words"), airflow_commands(), ids=lambda v: v if isinstance(v, str) else v[0])
def test_airflow_has_this_command(service: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # `airflow celery` exists only where the configured executor is Celery's.
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    get_parser.cache_clear()
    try:
        get_parser().parse_args(words)
    except SystemExit as error:
        pytest.fail(f"{service}: airflow {' '.join(words)} ends with {error.code}")


def test_the_workers_health_check_finds_celerys_app() -> None:
    check = SERVICES["airflow-worker"]["healthcheck"]["test"][1]
    module, _, name = re.search(r"--app (\S+)", check)[1].rpartition(".")  # type: ignore[index]
    assert hasattr(__import__(module, fromlist=[name]), name)


def test_the_simulators_know_these_options() -> None:
    command = SERVICES["simulators"]["command"]
    usage = subprocess.run(
        [sys.executable, *command[1:3], "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert [word for word in command[3:] if word.startswith("--") and word not in usage] == []


def test_only_the_demo_has_simulators() -> None:
    of_the_demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert of_the_demo == {"demo-secrets", "demo-connections", "simulators"}
    needed = {dependency for n, s in SERVICES.items() if n not in of_the_demo for dependency in s.get("depends_on", {})}
    assert not needed & of_the_demo


def test_the_demos_secrets_are_made_once_and_fit_its_connections(tmp_path: Path) -> None:
    interpreter, dash_c, code = SERVICES["demo-secrets"]["command"]
    assert (interpreter, dash_c) == ("python", "-c")
    written = []
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "DEMO_HOME": str(tmp_path)}
        )
        written.append({file.name: file.read_text() for file in tmp_path.iterdir()})
    assert written[0] == written[1]
    secrets, connections = (json.loads(written[0][f"{name}.json"]) for name in ("secrets", "connections"))
    assert secrets.keys() == make_secrets().keys()
    assert {(c["host"], c["port"]) for c in connections.values()} == {("http://simulators", 8081)}
    assert connections["akamai_client_lists_default"]["password"] == secrets["akamai_client_lists"]["client_secret"]
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_production_has_the_plain_policy() -> None:
    chosen = VARIABLE.fullmatch(AIRFLOW["airflow-worker"]["environment"]["AIRFLOW__THREAT_RESPONSE__POLICY"])
    assert chosen
    assert chosen[2] == ":-"
    files = [ROOT / Path(path).relative_to("/opt/threat-response") for path in chosen[3].split(":")]
    assert load_policy(files).never_block.documentation_ranges_are_real is False


@pytest.mark.slow
def test_the_init_job_may_run_twice(tmp_path: Path) -> None:
    """On SQLite: the same commands, another database. docs/deployment.md says what was tried on Postgres."""
    shell, options, script = SERVICES["airflow-init"]["command"]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__CORE__AUTH_MANAGER": AIRFLOW["airflow-init"]["environment"]["AIRFLOW__CORE__AUTH_MANAGER"],
        "AIRFLOW__THREAT_RESPONSE__HOME": str(tmp_path / "threat-response"),
        "AIRFLOW_ADMIN_USER": "admin",
        "AIRFLOW_ADMIN_EMAIL": "admin@localhost",
        "AIRFLOW_ADMIN_PASSWORD": "only-for-this-test",
    }
    said = ""
    for _ in range(2):
        done = subprocess.run(
            # The script is for Compose, which turns $$ into $.
            [shell, options, script.replace("$$", "$")],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said += done.stdout
    assert 'User "admin" created with role "Admin"' in said
    assert "admin already exists in the db" in said
    assert (tmp_path / "threat-response/ledger.db").exists()


# --- the image ------------------------------------------------------------------------------------------------


def test_images_are_pinned() -> None:
    base = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.M)
    for image in [*base, *(service["image"] for service in SERVICES.values())]:
        assert re.search(r":\d+(\.\d+)*", image), f"{image} has no version"


def test_the_image_runs_as_an_ordinary_user_on_the_locked_packages() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER airflow"
    assert any("--requirement requirements.txt" in line for line in lines)
    python = re.search(r"^FROM python:(\d+\.\d+)", "\n".join(lines), re.M)
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert python
    assert promised == f">={python[1]}"


def test_only_what_is_named_enters_the_image() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        word
        for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    }
    assert named == copied
    assert all((ROOT / name).exists() for name in named)
