"""The ledger's database: migrations, several processes at once, time zones, and the connection that leads to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import StatementError

from include.soar.ledger import Ledger
from include.soar.ledger.database import HEAD, MIGRATIONS
from include.soar.ledger.tables import Table
from tests.soar.examples import NOW, address, finding, window
from tests.soar.ledger.postgres import Postgres
from tests.soar.ledger.records import HOUR, batch
from threat_response.runtime import settings

ROOT = Path(__file__).resolve().parents[3]
EVIL = address("203.0.113.7")


PROCESS = """
import sys
import alembic.command, alembic.config, alembic.autogenerate, psycopg2  # what would spread the start
from include.soar.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
ledger = Ledger(sys.argv[1])
print(len(ledger.windows.rows()), flush=True)
"""


def test_the_newest_migration_is_the_one_that_the_ledger_asks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_migrated_schema_is_that_of_the_tables(ledger: Ledger) -> None:
    with ledger.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Table.metadata.tables, "alembic_version"}


def test_a_database_of_an_older_version_is_brought_up_to_date(url: str) -> None:
    """As if an earlier release had stopped before the first migration."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    engine.dispose()
    with contextlib.closing(Ledger(url)) as ledger:
        assert ledger.windows.rows() == []


def test_several_processes_may_make_the_database_at_once(url: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, errors = process.communicate(timeout=300)
        assert (process.returncode, out) == (0, "0\n"), errors


def test_what_was_written_is_there_after_reopening(url: str) -> None:
    with contextlib.closing(Ledger(url)) as first:
        first.windows.record(batch(finding()), run_id="dag/run", now=NOW)
    with contextlib.closing(Ledger(url)) as second:
        (row,) = second.windows.rows()
        assert (row.run_id, row.findings, row.fetched_at) == ("dag/run", 1, NOW)


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(StatementError, match="aware"):
        ledger.windows.record(batch(), run_id="r", now=datetime(2026, 1, 1))


def test_the_ledgers_connection_of_airflow_leads_to_it(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a password that a URL would have to escape."""
    place = make_url(postgres.new_database())
    document = {
        "conn_type": "postgres",
        "host": place.host,
        "port": place.port,
        "login": place.username,
        "password": place.password,
        "schema": place.database,
    }
    monkeypatch.setenv("AIRFLOW_CONN_THREAT_RESPONSE_LEDGER", json.dumps(document))
    with contextlib.closing(settings.ledger()) as ledger:
        assert ledger.database.engine.dialect.name == "postgresql"
        assert ledger.windows.rows() == []


def test_a_task_that_writes_keeps_nobody_from_reading(tmp_path: Path) -> None:
    """5b: every reading took SQLite's write lock, and died with "database is locked" beside a long write."""
    with contextlib.closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        ledger.windows.claim_findings([finding("1")], window_key="A", now=NOW)

        @event.listens_for(ledger.database.engine, "begin")
        def impatient(connection: Connection) -> None:
            connection.exec_driver_sql("PRAGMA busy_timeout=1")

        with ledger.database.session() as session:
            session.execute(text("UPDATE findings SET window_key = 'B'"))
            assert ledger.windows.free_findings([finding("1"), finding("2")], window_key="C", now=NOW) == {"2"}
            assert ledger.windows.rows() == []
            assert ledger.windows.first_decided_at(window()) is None
            assert ledger.incidents.get("m") is None
            assert ledger.actions.in_force("waf") == {}
            assert ledger.actions.rows() == []
            assert ledger.answers.known("p", [EVIL], now=NOW) == {}
            assert ledger.answers.changes(NOW - HOUR, NOW) == []
            assert ledger.unfinished.due(now=NOW, since=NOW - HOUR, limit=9) == []
            assert ledger.verdicts.history([EVIL], since=NOW - HOUR, before=NOW, known_before=NOW) == {}
            assert ledger.verdicts.deciding_runs(since=NOW - HOUR, until=NOW) == []
            assert ledger.verdicts.of_run("r") == []
            assert ledger.verdicts.latest(EVIL, at=NOW) is None
