"""The settings of this installation: clock, policy, ledger, archive.

Read when a task runs, never while a DAG file is parsed; what is heavy is imported then, too. The options are those of
the section ``[threat_response]`` of Airflow's configuration (``threat_response/config.py``), for instance by the
variable ``AIRFLOW__THREAT_RESPONSE__HOME``. Where one is not set, the older variables ``THREAT_RESPONSE_HOME``,
``THREAT_RESPONSE_POLICY`` and ``THREAT_RESPONSE_ARCHIVE`` count.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from airflow.sdk import BaseHook, ObjectStoragePath
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.soar.vendor.errors import one_line
from threat_response.config import SECTION

if TYPE_CHECKING:
    from include.soar.gate.asn import AsnTable
    from include.soar.gate.gate import Gate
    from include.soar.gate.rules import Allowance
    from include.soar.incident.inputs import Templates
    from include.soar.ledger import Ledger
    from include.soar.policy.rules import Policy

log = logging.getLogger("threat_response")

ROOT = Path(__file__).resolve().parents[3]
#: Options that had a variable of their own before the configuration had a section.
OLD_VARIABLES = ("home", "policy", "archive")
SHIPPED_POLICY = ROOT / "include/config/policy.yaml"
#: The names that a policy may give as providers, filled in by ``groups.py``. Empty: nobody has, and none is refused.
KNOWN_PROVIDERS: set[str] = set()
#: The same of the controls: vendors by place.
KNOWN_CONTROLS: dict[str, tuple[str, ...]] = {}
SQLITE = "sqlite:///"
#: In the home folder: the last good list of providers.
PROVIDERS_FILE = "providers.json"


def now() -> datetime:
    return datetime.now(UTC)


def option(name: str) -> str | None:
    """An option of the section ``[threat_response]``, else of the older variable; None: neither is set."""
    from airflow.sdk.configuration import conf

    value = conf.get(SECTION, name, fallback=None)
    if not value and name in OLD_VARIABLES:
        value = os.environ.get(f"THREAT_RESPONSE_{name.upper()}")
    return value or None


def home() -> Path:
    if configured := option("home"):
        return Path(configured)
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "threat-response"


def policy_files() -> list[Path]:
    """The policy's layers; a later one is laid over the earlier ones."""
    configured = option("policy")
    return [Path(path) for path in configured.split(":")] if configured else [SHIPPED_POLICY]


def policy() -> Policy:
    """:raises PolicyError: naming file, line, field and problem"""
    from include.soar.policy.rules import PolicyError

    files = policy_files()
    try:
        versions = tuple((path, path.stat().st_mtime_ns) for path in files)
    except OSError as error:
        raise PolicyError(f"{error.filename}: {error.strerror}") from None
    return _policy(versions, frozenset(KNOWN_PROVIDERS), tuple(KNOWN_CONTROLS.items()))


@lru_cache(maxsize=4)
def _policy(
    files: tuple[tuple[Path, int], ...], providers: frozenset[str], controls: tuple[tuple[str, tuple[str, ...]], ...]
) -> Policy:
    from include.soar.policy.file import load_policy

    return load_policy([path for path, _ in files], providers=providers, controls=dict(controls))


def providers() -> tuple[str, ...]:
    """
    The policy's ``enrichment.providers``, for the DAG file. Read from the text alone: the rules that check a policy
    import the gate, and the DAG file is read in every task's process.

    A slip in a policy must not take the DAG away, and with it every hour until somebody sees it. So where the text
    names no list of providers that there are, this is the last one that did, as kept in the home folder, else the
    shipped policy's. The tasks that load the policy refuse it and say what is wrong.
    """
    try:
        named = _named_providers(policy_files())
    except Exception as error:
        last = _kept_providers()
        message = "policy: %s. The DAG keeps the providers %s, and its tasks refuse this policy"
        log.warning(message, one_line(error), ", ".join(last) or "(none)")
        return last
    _keep_providers(named)
    return named


def _named_providers(files: Sequence[Path]) -> tuple[str, ...]:
    """:raises ValueError: no layer names them, or one names no list of providers that there are"""
    import yaml

    for path in reversed(files):
        layer = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
        enrichment = layer.get("enrichment") if isinstance(layer, dict) else None
        named = enrichment.get("providers") if isinstance(enrichment, dict) else None
        if named is not None:
            if _is_list_of_providers(named):
                return tuple(named)
            raise ValueError(f"{path}: enrichment.providers is no list of providers that there are, each once")
    raise ValueError(f"{', '.join(map(str, files))}: no enrichment.providers")


def _is_list_of_providers(named: Any) -> bool:
    return (
        isinstance(named, list)
        and all(isinstance(name, str) and (name in KNOWN_PROVIDERS or not KNOWN_PROVIDERS) for name in named)
        and len(set(named)) == len(named)
    )


def _kept_providers() -> tuple[str, ...]:
    with suppress(OSError, RuntimeError, ValueError):
        kept = json.loads((home() / PROVIDERS_FILE).read_text("utf-8"))
        if _is_list_of_providers(kept):
            return tuple(kept)
    try:
        return _named_providers([SHIPPED_POLICY])
    except Exception:  # it is the very file with the slip: a DAG without providers is still there to say so
        return ()


def _keep_providers(named: tuple[str, ...]) -> None:
    """In the home folder, where there is one: reading a DAG file makes none."""
    with suppress(OSError, RuntimeError, ValueError):
        file, text = home() / PROVIDERS_FILE, json.dumps(named)
        if file.parent.is_dir() and not (file.exists() and file.read_text("utf-8") == text):
            new = file.with_name(f"{file.name}.{os.getpid()}")
            new.write_text(text, "utf-8")
            new.replace(file)


def templates() -> tuple[Path, ...]:
    """The folders of a SOC's own incident texts."""
    return tuple(Path(folder) for folder in (option("templates") or "").split(":") if folder)


def incident_templates() -> Templates:
    """The templates of the incident's texts. Where a SOC's own fail, that is logged and the shipped ones are used."""
    from include.soar.incident.inputs import Templates

    folders = templates()
    for folder in folders:
        if not folder.is_dir():
            log.warning("incident texts: there is no folder %s", one_line(str(folder)))
    return Templates(folders, on_problem=lambda problem: log.warning("incident texts: %s", one_line(problem, 1000)))


def gate(now: datetime | None = None) -> Gate:
    """
    The never-block gate of the policy, the installed warning lists, and what people allow in the ledger, as it is at
    this moment. Made once for each set of valid entries.

    :param now: which ``allow`` entries count; the present if not given
    :raises SQLAlchemyError: the ledger cannot be read. Nothing may be blocked then: what it allows is not known
    """
    moment = _moment(now)
    return _gate(moment, _allowed(moment))


def policy_gate() -> Gate:
    """The gate without the ledger's entries, which is most of the work."""
    return _gate(_moment(None), ())


def _gate(moment: datetime, more: Sequence[Allowance]) -> Gate:
    # Both take longer to import than a task that needs no gate should wait.
    from include.soar.gate.gate import gate_of
    from include.soar.gate.index_file import shipped

    return gate_of(policy().never_block, shipped(), moment, more)


def _allowed(moment: datetime) -> tuple[Allowance, ...]:
    """Where there is no ledger yet, nobody has allowed anything, and asking makes none."""
    from include.soar.ledger import Ledger

    url = ledger_url()
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).exists():
        return ()
    with closing(Ledger(url)) as found:
        return tuple(entry.allowance for entry in found.allows.current(moment))


def _moment(given: datetime | None) -> datetime:
    return given or now()


def asns() -> AsnTable | None:
    """
    The table that ``block.asn_table`` names; None where it names none. Read again once the file was changed.

    :raises PolicyError: naming ``block.asn_table`` and the file
    """
    from include.soar.policy.file import asn_table

    return asn_table(policy().block)


def connection_exists(conn_id: str) -> bool:
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return False
    return True


def skip_if_absent(conn_id: str, what: str) -> None:
    """An optional stage whose connection is absent is skipped, with one line that says so."""
    if not connection_exists(conn_id):
        skip(f"{what} is skipped: there is no connection {conn_id!r}")


def skip(why: str) -> NoReturn:
    """
    Skip the task.

    :param why: the one line of its log that says so. Airflow's own line about a skipped task is folded away in the UI
    """
    log.info("%s", one_line(why))
    raise AirflowSkipException(why)


def ledger_url() -> str:
    """SQLAlchemy URL of the ledger: its connection where that exists, else SQLite in the home folder."""
    try:
        connection = BaseHook.get_connection(option("ledger_connection") or "threat_response_ledger")
    except AirflowNotFoundException:
        return f"{SQLITE}{home() / 'ledger.db'}"
    user = ":".join(quote(part, safe="") for part in (connection.login, connection.password) if part)
    place = f"{connection.host}:{connection.port}" if connection.port else connection.host
    return f"postgresql+psycopg2://{user}@{place}/{connection.schema}"


def ledger() -> Ledger:
    from include.soar.ledger import Ledger

    return Ledger(ledger_url())


def archive() -> ObjectStoragePath:
    """The folder of raw pages and rejected records; any store that Airflow's object storage knows."""
    return ObjectStoragePath(option("archive") or f"file://{home() / 'archive'}")


def archive_write(path: ObjectStoragePath, content: bytes) -> str:
    """Write one object whole, making its folder, and give its URL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)
