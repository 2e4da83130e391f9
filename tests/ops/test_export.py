"""`airflow threat-response export`: every row of the period once, and nothing in a cell that a spreadsheet runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.ops import export as exporting
from include.ops.export import FORMULA, TABLES, export
from include.soar.ledger import Ledger
from include.soar.model import Action, ActionBatch, Outcome, Verb
from tests.ops.commands import main
from tests.soar.examples import address, reputation

START = datetime(2026, 11, 24, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOSTILE = ('=HYPERLINK("http://evil.example")', "+1", "-1+2", "@SUM(A1)", " =1", "\t=1", "\n=1", "\x1b[2J", "＝1")


def write(url: str, details: tuple[str, ...] = HOSTILE) -> None:
    """An action an hour from START on, each with another detail; every second one without an end."""
    with contextlib.closing(Ledger(url)) as ledger:
        for number, detail in enumerate(details):
            action = Action(
                control="splunk",
                verb=Verb.WATCH,
                observable=address(f"203.0.113.{number}"),
                outcome=Outcome.WATCHED,
                detail=detail,
                expires_at=START + 24 * HOUR if number % 2 else None,
                proof={"list": detail, "version": number},
            )
            batch = ActionBatch(control="splunk", actions=(action,))
            ledger.actions.record(batch, run_id="run-1", now=START + number * HOUR)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write(f"sqlite:///{folder}/ledger.db")
    return folder


@pytest.fixture(autouse=True)
def _environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(home))


def rows(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, str]]:
    assert main(["export", *words]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_no_cell_is_a_formula_and_no_character_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "actions")
    assert len(found) == len(HOSTILE)
    for row in found:
        for cell in row.values():
            assert not cell.lstrip().startswith(FORMULA)
            assert cell.isprintable()
    assert found[0]["detail"] == "'" + HOSTILE[0]
    # What is harmless stays as it is, also a number below zero that is no text.
    assert found[0]["observable"] == "ipv4-addr:203.0.113.0"
    assert json.loads(found[1]["proof"]) == {"list": "+1", "version": 1}
    assert [row["expires_at"] for row in found[:2]] == ["", "2026-11-25T08:00:00.000000Z"]


def test_the_period_has_its_start_and_not_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "actions", "--from", "2026-11-24T09:00Z", "--to", "2026-11-24T11:00Z")
    assert [row["updated_at"][:13] for row in found] == ["2026-11-24T09", "2026-11-24T10"]


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_chunks_change_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    whole = rows(capsys, "actions")
    monkeypatch.setattr(exporting, "CHUNK", chunk)
    assert rows(capsys, "actions") == whole


def test_json_is_an_object_a_line_with_the_values_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "actions", "--format", "json"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    found = [json.loads(line) for line in said.splitlines()]
    assert [row["detail"] for row in found] == list(HOSTILE)
    assert found[1]["proof"] == {"list": "+1", "version": 1}
    assert found[0]["expires_at"] is None
    assert datetime.fromisoformat(found[1]["expires_at"]) == START + 24 * HOUR


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_empty_period_has_a_header_and_no_row(
    capsys: pytest.CaptureFixture[str], home: Path, table: str, form: str
) -> None:
    assert main(["export", table, "--format", form, "--to", "2020-01-01"]) == 0
    said = capsys.readouterr().out.splitlines()
    columns = [column.name for column in TABLES[table][0].__table__.columns]
    assert said == ([",".join(columns)] if form == "csv" else [])


def test_answers_are_what_the_providers_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    said = reputation(address("203.0.113.7"))
    with contextlib.closing(Ledger(url)) as ledger:
        ledger.answers.store([(said, HOUR)])
    to = io.StringIO()
    assert export(url, "answers", None, None, form="json", to=to) == 1
    assert json.loads(to.getvalue())["provider"] == said.provider


def test_tasks_can_write_while_an_export_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 1)
    frames = exporting._frames(f"sqlite:///{home}/ledger.db", "actions", None, None)
    next(frames)
    with contextlib.closing(sqlite3.connect(home / "ledger.db", timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.rollback()
    assert len(list(frames)) == len(HOSTILE) - 1


def test_there_must_be_a_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "actions", "--ledger", f"sqlite:///{tmp_path}/none.db"]) == 2
    assert "there is no ledger" in capsys.readouterr().err
