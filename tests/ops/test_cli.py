"""``airflow threat-response …`` and the make targets that call it: arguments, exit codes, and what goes where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from airflow.cli.cli_parser import get_parser

from include.ops import commands
from include.ops.export import TABLES
from include.soar.ledger import Ledger
from include.soar.model import Action, ActionBatch, Outcome, Severity, Verb
from tests.conftest import ROOT
from tests.ops.commands import main
from tests.soar.examples import CONFIG, address
from threat_response import cli
from threat_response.runtime import settings

TIMES = [
    ("explain", "203.0.113.7", "--at"),
    ("policy-diff", "current", "current", "--from"),
    ("policy-diff", "current", "current", "--to"),
    ("plan-enrichment", "--to", "2026-01-31", "--from"),
    ("plan-enrichment", "--from", "2026-01-31", "--to"),
    ("answers-diff", "--from"),
    ("export", "actions", "--from"),
    ("export", "actions", "--to"),
    ("answers-diff", "--from", "2026-01-31", "--to"),
]


@pytest.mark.parametrize("words", TIMES, ids=" ".join)
def test_every_command_reads_times_by_the_same_rule(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    parse = get_parser().parse_args
    for text in ("2026-02-01", "2026-02-01T08:00Z", "2026-02-01T10:00+02:00"):
        parse(["threat-response", *words, text])
    for text, problem in (("2026-02-01T08:00", "has no time zone"), ("noon", "is not an ISO 8601 time")):
        with pytest.raises(SystemExit) as ended:
            parse(["threat-response", *words, text])
        assert ended.value.code == 2
        assert problem in capsys.readouterr().err


def test_the_words_of_the_arguments_are_those_of_the_model() -> None:
    assert list(cli.SEVERITIES) == [severity.value for severity in Severity]
    assert list(cli.TABLES) == list(TABLES)
    (group,) = cli.get_cli_commands()
    assert {command.name for command in group.subcommands} == commands.COMMANDS.keys()


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_a_pasted_value_reaches_neither_make_nor_the_shell(tmp_path: Path) -> None:
    (tmp_path / "threat-response").mkdir()
    (tmp_path / "threat-response/ledger.db").touch()
    hostile = "a'b\"c $(shell touch make) $$(touch shell) `touch tick`; touch semicolon #"
    done = subprocess.run(
        # The environment that runs the tests, however old its stamp is.
        ["make", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.run", "-C", ROOT, "--no-print-directory", "explain"],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
            "OBSERVABLE": hostile,
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
            "AIRFLOW__THREAT_RESPONSE__HOME": str(tmp_path / "threat-response"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    # The answer's stream stays clean, and the value arrived as it was pasted.
    assert done.stdout == ""
    assert f"{hostile} is no address, network" in done.stderr
    assert not [name for name in ("make", "shell", "tick", "semicolon") if (ROOT / name).exists()]


def test_the_sections_options_are_airflows(capsys: pytest.CaptureFixture[str]) -> None:
    options = get_parser().parse_args(["config", "get-value", "threat_response", "ledger_connection"])
    options.func(options)
    assert capsys.readouterr().out.splitlines()[-1] == "threat_response_ledger"
    options = get_parser().parse_args(["config", "list", "--section", "threat_response", "--show-values"])
    options.func(options)
    assert "home = " in capsys.readouterr().out


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy file that is laid over the shipped one, in an installation that has nothing else."""
    own = tmp_path / "own.yaml"
    own.write_text("version: 1\n", "utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{CONFIG / 'policy.yaml'}:{own}")
    return own


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("block:\n  maximum_per_run: three\n", ["2: block.maximum_per_run: should be a valid integer, not 'three'"]),
        ("enrichment: {providers: [", ["1: "]),
        ("enrichment:\n  providers: [abuse_ipdb]\n", ["2: enrichment.providers[0]: 'abuse_ipdb' is none of "]),
        (
            "related: {days: 0}\npriority: {minimum_severity: x}\n",
            ["2: priority.minimum_severity", "1: related.days"],
        ),
    ],
    ids=["value", "syntax", "provider", "two"],
)
def test_n16_check_policy_names_each_slip_by_file_and_line(
    configured: Path, capsys: pytest.CaptureFixture[str], text: str, lines: list[str]
) -> None:
    new = configured.with_name("new.yaml")
    new.write_text(text, "utf-8")
    assert main(["check-policy", f"{CONFIG / 'policy.yaml'}:{new}"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert len(told) == len(lines)
    assert all(line.startswith(f"{new}:{expected}") for line, expected in zip(told, lines, strict=True))
    assert main(["check-policy"]) == 0  # the configured one is as it was
    new.rename(configured)
    assert main(["check-policy"]) == 1


def test_check_policy_says_which_files_are_valid_and_what_has_ended(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-policy"]) == 0
    assert capsys.readouterr().out == f"valid: {CONFIG / 'policy.yaml'}, {configured}\n"
    entry = "{value: 203.0.113.7, until: 2020-01-31, owner: a, reason: b}"
    configured.write_text(f"never_block: {{allow: [{entry}]}}\n", "utf-8")
    assert main(["check-policy"]) == 0
    assert "expired" in capsys.readouterr().out.splitlines()[0]
    configured.write_text(f"block: {{asn_table: {configured.parent}/no.tsv}}\n", "utf-8")
    assert main(["check-policy"]) == 1
    assert "block.asn_table: " in capsys.readouterr().out
    assert main(["check-policy", str(configured.parent / "nowhere.yaml")]) == 1
    assert "nowhere.yaml" in capsys.readouterr().out
    assert not (configured.parent / "home").exists()


def test_n7_planning_in_the_wrong_environment_makes_no_ledger(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty ledger gives the other commands a green light."""
    assert main(["plan-enrichment", "--from", "2026-01-31", "--to", "2026-02-01"]) == 2
    assert "there is no ledger at" in capsys.readouterr().err
    assert not (configured.parent / "home").exists()


@pytest.fixture
def ledger(configured: Path) -> Iterator[Ledger]:
    with closing(settings.ledger()) as found:
        yield found


def block(ledger: Ledger, outcome: Outcome = Outcome.BLOCKED) -> None:
    """203.0.113.7 at a firewall."""
    action = Action(
        control="waf", verb=Verb.DENY, observable=address("203.0.113.7"), outcome=outcome, proof={"list": "a\x1bb"}
    )
    ledger.actions.record(ActionBatch(control="waf", actions=(action,)), run_id="r", now=settings.now())


def test_verify_audit_tells_the_head_and_names_what_was_changed(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    block(ledger)
    noted = ledger.actions.head().hash
    block(ledger)
    head = ledger.actions.head()
    assert main(["verify-audit", "--head", noted.upper()]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"action_events: 2 rows, head {head.hash}\nallows: 0 rows, head 000")
    assert "is that of row 1\n" in out
    assert out.endswith("intact\n")
    assert ledger.actions.head() == head  # it writes nothing
    # A chain that somebody made anew is sound in itself, but not the one whose head was noted.
    assert main(["verify-audit", "--head", "ab" * 32]) == 1
    assert "made anew" in capsys.readouterr().out
    with ledger.database.session() as session:
        session.execute(sqlalchemy.text("UPDATE action_events SET detail = 'x' WHERE number = 2"))
        session.execute(sqlalchemy.text("DELETE FROM chains WHERE name = 'allows'"))
    assert main(["verify-audit"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("action_events 2 (")
    assert lines[-2:] == ["allows: the row of the chain's end is missing", "3 problems"]


def test_cancelled_lists_what_is_protected_and_in_force(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """3b: it forgot what a later try was refused for."""
    block(ledger)
    assert main(["cancelled"]) == 0
    assert capsys.readouterr().out == "nothing is to be lifted\n"
    ledger.actions.cancel_protected(settings.gate(), run_id="r", now=settings.now())
    block(ledger, Outcome.PROTECTED)
    assert main(["cancelled"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("203[.]0[.]113[.]7 is in force at waf: was blocked; ")
    assert "documentation" in out
    assert "\x1b" not in out
    assert out.endswith("airflow threat-response lift VALUE --reason …, or the DAG reconcile_blocks\n")
