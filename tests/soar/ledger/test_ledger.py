"""The ledger: every write an upsert, every claim won once, on SQLite and on Postgres."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import StatementError

from include.soar.judge.decision import decide
from include.soar.judge.verdict import History, Inputs, Judgement, judge
from include.soar.ledger import Ledger
from include.soar.ledger.database import HEAD, MIGRATIONS
from include.soar.ledger.tables import Table
from include.soar.model import (
    Action,
    ActionBatch,
    FetchBatch,
    Finding,
    Observable,
    ObservableType,
    Outcome,
    Verb,
)
from tests.soar.deciding import basis, batches, case_of_observed
from tests.soar.examples import NOW, address, finding, gate_at, observed, policy, reputation, sighting, window
from tests.soar.ledger.postgres import Postgres
from threat_response.runtime import settings

ROOT = Path(__file__).resolve().parents[3]
HOUR = timedelta(hours=1)
EVIL = address("203.0.113.7")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/home/ledger.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(url)) as ledger:
        yield ledger


def batch(*findings: Finding, **more: object) -> FetchBatch:
    fields = {
        "source": "akamai_sia",
        "window": window(),
        "pages": 2,
        "records": len(findings),
        "archive": ("a", "b"),
        "digest": "d" * 64,
        "findings": findings,
    }
    return FetchBatch.model_validate(fields | more)


def action(observable: Observable = EVIL, outcome: Outcome = Outcome.BLOCKED, **more: object) -> Action:
    fields = {"control": "waf", "verb": Verb.DENY, "observable": observable, "outcome": outcome}
    return Action.model_validate(fields | more)


# --- the schema --------------------------------------------------------------------------------------------------


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


def test_findings_of_before_count_as_delivered(url: str) -> None:
    """0004: a ledger of today must not give the last hours' findings to the next window again."""
    with contextlib.closing(Ledger(url)) as ledger:
        ledger.windows.claim_findings([finding("1")], window_key="A", now=NOW)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["url"] = url
        command.downgrade(config, "0003")
        columns = {column["name"] for column in inspect(ledger.database.engine).get_columns("findings")}
        assert columns.isdisjoint({"claimed_at", "delivered_at"})
    with contextlib.closing(Ledger(url)) as ledger:
        later = NOW + 2 * HOUR
        assert ledger.windows.free_findings([finding("1"), finding("2")], window_key="B", now=later) == {"2"}
        assert ledger.windows.claim_findings([finding("1")], window_key="B", now=later) == {"1": "A"}
        assert ledger.windows.deliver_findings([finding("1")], window_key="B", now=later) == {"1": "A"}


PROCESS = """
import sys
import alembic.command, alembic.config, alembic.autogenerate, psycopg2  # what would spread the start
from include.soar.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
ledger = Ledger(sys.argv[1])
print(len(ledger.windows.rows()), flush=True)
"""


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


# --- windows and findings ----------------------------------------------------------------------------------------


def test_a_window_read_again_is_one_row(ledger: Ledger) -> None:
    ledger.windows.record(batch(), run_id="first", now=NOW)
    ledger.windows.record(batch(finding(), pages=3, digest="e" * 64), run_id="x" * 501, now=NOW + HOUR)
    (row,) = ledger.windows.rows()
    assert (row.run_id, row.pages, row.records, row.findings, row.digest) == ("x" * 501, 3, 1, 1, "e" * 64)
    assert (row.start_at, row.end_at, row.fetched_at) == (window().start_at, window().end_at, NOW + HOUR)
    assert row.start_at.tzinfo is UTC


def test_windows_by_source_and_in_order(ledger: Ledger) -> None:
    later = window("2026-11-24T11:00", "2026-11-24T12:00")
    for one in (batch(window=later), batch(), batch(source="akamai_api_security")):
        ledger.windows.record(one, run_id="r", now=NOW)
    assert [(r.source, r.start_at.hour) for r in ledger.windows.rows()] == [
        ("akamai_api_security", 10),
        ("akamai_sia", 10),
        ("akamai_sia", 11),
    ]
    assert len(ledger.windows.rows("akamai_sia")) == 2
    assert ledger.windows.rows("nobody") == []


def test_a_finding_belongs_to_the_first_window_that_read_it(ledger: Ledger) -> None:
    one, two, three = finding("1"), finding("2"), finding("3")
    assert ledger.windows.claim_findings([one, two], window_key="A", now=NOW) == {"1": "A", "2": "A"}
    assert ledger.windows.claim_findings([two, three], window_key="B", now=NOW) == {"2": "A", "3": "B"}
    assert ledger.windows.claim_findings([one, two, three], window_key="A", now=NOW) == {"1": "A", "2": "A", "3": "B"}
    assert ledger.windows.claim_findings([], window_key="C", now=NOW) == {}


def test_many_findings_one_of_them_twice_and_with_a_long_name(ledger: Ledger) -> None:
    many = [finding(f"f{n}", vendor_id="v" * 2000) for n in range(1203)]
    owners = ledger.windows.claim_findings([*many, many[0]], window_key="A", now=NOW)
    assert owners == {f.uid: "A" for f in many}


def test_windows_that_overlap_at_the_same_time_share_no_finding(url: str) -> None:
    Ledger(url).close()
    findings = [finding(f"f{n}") for n in range(300)]

    def claim(key: str) -> dict[str, str]:
        with contextlib.closing(Ledger(url)) as ledger:
            return ledger.windows.claim_findings(findings if key < "C" else findings[::-1], window_key=key, now=NOW)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(claim, "ABCD"))
    assert all(answer == answers[0] for answer in answers)
    assert set(answers[0]) == {f.uid for f in findings}


# --- reputations -------------------------------------------------------------------------------------------------


def test_an_answer_is_good_for_its_time_only_and_for_its_provider(ledger: Ledger) -> None:
    answer = reputation(EVIL, 90)
    ledger.answers.store([(answer, HOUR)])
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW) == {EVIL.key: answer}
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW + HOUR - timedelta(seconds=1)) != {}
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW + HOUR) == {}
    assert ledger.answers.known("list_feed", [EVIL], now=NOW) == {}
    assert ledger.answers.known("abuseipdb", [address("203.0.113.8")], now=NOW) == {}
    assert ledger.answers.known("abuseipdb", [], now=NOW) == {}


def test_a_newer_answer_replaces_the_older_one(ledger: Ledger) -> None:
    ledger.answers.store([(reputation(EVIL, 90), HOUR)])
    newer = reputation(EVIL, 0, known_at=NOW + HOUR)
    ledger.answers.store([(reputation(EVIL, 50), HOUR), (newer, HOUR)])  # the last of one batch wins
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW + HOUR) == {EVIL.key: newer}
    ledger.answers.store([])


def test_many_answers_and_very_long_values(ledger: Ledger) -> None:
    urls = [Observable(type=ObservableType.URL, value=f"https://a.example/{'ü' * 2000}/{n}") for n in range(2)]
    many = [*urls, *(address(f"10.0.{n >> 8}.{n & 255}") for n in range(1100))]
    ledger.answers.store([(reputation(o, 1), HOUR) for o in many])
    found = ledger.answers.known("abuseipdb", many, now=NOW)
    assert {r.observable for r in found.values()} == set(many)


# --- incidents ---------------------------------------------------------------------------------------------------


def test_the_last_word_about_an_incident_is_kept(ledger: Ledger) -> None:
    assert ledger.incidents.get("mark") is None
    ledger.incidents.record("mark", "f1", unique_id="u-1", readable_id=None, now=NOW)
    ledger.incidents.record("mark", "f1", unique_id="u-2", readable_id="INC-2", now=NOW + HOUR)
    row = ledger.incidents.get("mark")
    assert row is not None
    assert (row.unique_id, row.readable_id, row.updated_at) == ("u-2", "INC-2", NOW + HOUR)


def test_of_many_claims_at_once_one_wins(url: str) -> None:
    Ledger(url).close()

    def claim(number: int) -> list[str]:
        with contextlib.closing(Ledger(url)) as ledger:
            return [
                mark
                for mark in map(str, range(25))
                if ledger.claims.take(mark, by=f"run-{number}", now=NOW, lease=HOUR)
            ]

    with ThreadPoolExecutor(4) as pool:
        won = [mark for marks in pool.map(claim, range(4)) for mark in marks]
    assert sorted(won, key=int) == [str(n) for n in range(25)]


# --- actions -----------------------------------------------------------------------------------------------------


def test_an_actions_row_is_the_last_known_state(ledger: Ledger) -> None:
    pending = action(outcome=Outcome.PENDING, detail="activation 7", proof={"activation": 7, "list": "x"})
    ledger.actions.record(ActionBatch(control="waf", actions=(pending,)), run_id="r1", now=NOW)
    done = action(expires_at=NOW + HOUR, proof={"activation": 7, "version": None})
    ledger.actions.record(ActionBatch(control="waf", actions=(pending, done)), run_id="r2", now=NOW + HOUR)
    (row,) = ledger.actions.rows()
    assert (row.observable, row.outcome, row.verb, row.run_id) == (EVIL.key, "blocked", "deny", "r2")
    assert (row.expires_at, row.updated_at) == (NOW + HOUR, NOW + HOUR)
    assert json.dumps(row.proof, sort_keys=True) == '{"activation": 7, "version": null}'


def test_actions_by_control(ledger: Ledger) -> None:
    ledger.actions.record(ActionBatch(control="edr", actions=(action(control="edr"),)), run_id="r", now=NOW)
    ledger.actions.record(ActionBatch(control="waf", actions=(action(),)), run_id="r", now=NOW)
    ledger.actions.record(ActionBatch(control="siem", actions=()), run_id="r", now=NOW)
    assert [row.control for row in ledger.actions.rows()] == ["edr", "waf"]
    assert [row.control for row in ledger.actions.rows("waf")] == ["waf"]


def test_an_entry_that_is_added_later_cancels_what_is_in_force(ledger: Ledger, tmp_path: Path) -> None:
    over, long_url = (
        address("203.0.113.99"),
        Observable(type=ObservableType.URL, value="http://evil.example/" + "a" * 600),
    )
    in_force = (action(EVIL), action(OTHER, outcome=Outcome.FAILED), action(over, expires_at=NOW), action(long_url))
    ledger.actions.record(ActionBatch(control="waf", actions=in_force), run_id="r1", now=NOW - HOUR)
    assert ledger.actions.cancel_protected(gate_at(policy()), run_id="r2", now=NOW) == []
    entry = "{value: 203.0.113.0/24, until: 2030-01-01, owner: j.doe, reason: our scanner}"
    later = gate_at(policy(tmp_path, f"never_block: {{allow: [{entry}]}}"))
    ((row, hit),) = ledger.actions.cancel_protected(later, run_id="r2", now=NOW)
    assert (row.observable, row.outcome, row.run_id, hit.layer) == (EVIL.key, "cancelled", "r2", "allow")
    assert row.detail.startswith("was blocked; ")
    assert "our scanner" in row.detail
    # Told once; and what the control says afterwards holds.
    assert ledger.actions.cancel_protected(later, run_id="r3", now=NOW) == []
    outcomes = {row.observable: row.outcome for row in ledger.actions.rows()}
    assert outcomes == {EVIL.key: "cancelled", OTHER.key: "failed", over.key: "blocked", long_url.key: "blocked"}


def test_many_writers_wait_for_each_other(url: str) -> None:
    """On SQLite a writer that read first would otherwise die with "database is locked"."""
    Ledger(url).close()

    def write(number: int) -> None:
        with contextlib.closing(Ledger(url)) as ledger:
            for n in range(15):
                ledger.windows.claim_findings([finding(f"{number}-{n}")], window_key="A", now=NOW)
                one = action(address(f"203.0.113.{number * 15 + n}"))
                ledger.actions.record(ActionBatch(control="waf", actions=(one,)), run_id="r", now=NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    with contextlib.closing(Ledger(url)) as ledger:
        assert len(ledger.actions.rows()) == 60


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


# --- claims ------------------------------------------------------------------------------------------------------


def test_a_named_claim_is_one_runs_until_released_or_over(ledger: Ledger) -> None:
    def claim(by: str, now: datetime) -> bool:
        return ledger.claims.take("comment:1", by=by, now=now, lease=HOUR)

    assert claim("run-a", NOW)
    assert claim("run-a", NOW)
    assert not claim("run-b", NOW)
    ledger.claims.release("comment:1", by="run-b")  # not run-b's to release
    assert not claim("run-b", NOW)
    ledger.claims.release("comment:1", by="run-a")
    assert claim("run-b", NOW)
    assert not claim("run-a", NOW + HOUR - timedelta(seconds=1))
    assert claim("run-a", NOW + HOUR)  # run-b is taken for dead


def test_a_claim_is_renewed_only_while_it_is_ours(ledger: Ledger) -> None:
    def take(by: str, now: datetime) -> bool:
        return ledger.claims.take("comment:1", by=by, now=now, lease=HOUR)

    def renew(by: str, now: datetime) -> bool:
        return ledger.claims.renew("comment:1", by=by, now=now, lease=HOUR)

    assert not renew("try-a", NOW)
    assert take("try-a", NOW)
    assert renew("try-a", NOW + HOUR)  # nobody has taken it although it had ended
    assert not take("try-b", NOW + HOUR)
    assert take("try-b", NOW + 2 * HOUR)
    assert not renew("try-a", NOW + 2 * HOUR)
    ledger.claims.release("comment:1", by="try-b")
    assert not renew("try-a", NOW + 2 * HOUR)  # what try-a saw is from before try-b's write


# --- verdicts ----------------------------------------------------------------------------------------------------

OTHER = address("203.0.113.8")
RULES = policy()


def judged(*observables: Observable, seen: datetime = NOW, score: int = 100) -> list[Judgement]:
    """As a run decides: listed by both sources (nothing at score 0), each seen once in a high finding."""
    event = finding(f"f-{seen:%d%H%M}", seen=seen)
    items = [observed(o, sighting(event.uid, seen=seen)) for o in observables]
    said = [reputation(o, score, provider=p) for o in observables for p in ("abuseipdb", "list_feed") if score]
    return decide(case_of_observed([event], items), batches(said), basis(RULES, NOW)).judgements


def record(ledger: Ledger, made: list[Judgement], run_id: str = "r1", now: datetime = NOW) -> None:
    ledger.verdicts.record(made, policy=RULES, minimum_severity=None, run_id=run_id, now=now)


def past(ledger: Ledger, *observables: Observable, before: datetime = NOW, known: datetime = NOW) -> dict[str, History]:
    return ledger.verdicts.history(observables, since=NOW - 720 * HOUR, before=before, known_before=known)


def test_a_verdict_is_kept_with_everything_that_it_followed_from(ledger: Ledger) -> None:
    (made,) = judged(EVIL)
    record(ledger, [made])
    row = ledger.verdicts.latest(EVIL, at=NOW)
    assert row is not None
    assert (row.observable, row.run_id, row.outcome) == (EVIL.key, "r1", "act")
    assert (row.decided_at, row.last_seen_at) == (NOW, NOW)
    assert row.policy_digest == RULES.digest
    assert ledger.verdicts.policy(row.policy_digest) == RULES.document
    assert ledger.verdicts.policy("0" * 64) is None
    inputs = Inputs.model_validate(row.inputs)
    assert inputs == made.inputs
    assert inputs.digest == row.inputs_digest
    again = judge(inputs, RULES)
    assert (again.standing.value, again.confidence, list(again.reasons)) == (row.standing, row.confidence, row.reasons)
    assert made.plan is not None
    assert row.plan == made.plan.to_json()


def test_what_is_decided_again_in_the_same_way_adds_nothing(ledger: Ledger) -> None:
    made = judged(EVIL, OTHER)
    record(ledger, made)
    record(ledger, made, now=NOW + HOUR)  # a retried task
    assert [(r.observable, r.decided_at) for r in ledger.verdicts.of_run("r1")] == [(EVIL.key, NOW), (OTHER.key, NOW)]
    record(ledger, judged(EVIL, score=95), now=NOW + HOUR)  # the same run, cleared: a source says something else now
    record(ledger, made, run_id="r2", now=NOW + 2 * HOUR)
    assert [(r.observable, r.confidence) for r in ledger.verdicts.of_run("r1")] == [
        (EVIL.key, 96),
        (OTHER.key, 96),
        (EVIL.key, 94),
    ]
    assert len(ledger.verdicts.of_run("r2")) == 2
    assert ledger.verdicts.deciding_runs(since=NOW, until=NOW + 3 * HOUR) == ["r1", "r2"]
    assert ledger.verdicts.deciding_runs(since=NOW, until=NOW + 2 * HOUR) == ["r1"]
    assert ledger.verdicts.deciding_runs(since=NOW + 3 * HOUR, until=NOW + 4 * HOUR) == []
    record(ledger, [])


def test_the_last_verdict_of_a_point_in_time(ledger: Ledger) -> None:
    record(ledger, judged(EVIL), now=NOW)
    record(ledger, judged(EVIL, score=0), run_id="r2", now=NOW + HOUR)
    assert ledger.verdicts.latest(EVIL, at=NOW - HOUR) is None
    for at, standing in ((NOW, "malicious"), (NOW + HOUR / 2, "malicious"), (NOW + HOUR, "unknown")):
        row = ledger.verdicts.latest(EVIL, at=at)
        assert row is not None
        assert row.standing == standing
    assert ledger.verdicts.latest(OTHER, at=NOW) is None


def test_history_tells_what_was_decided_over_earlier_findings(ledger: Ledger) -> None:
    own = address("192.0.2.1")
    for hours in (5, 3):
        record(ledger, judged(EVIL, own, seen=NOW - hours * HOUR), run_id=f"r{hours}", now=NOW - hours * HOUR)
    record(ledger, judged(own, seen=NOW - 2 * HOUR, score=0), run_id="r2", now=NOW - 2 * HOUR)
    found = past(ledger, EVIL, OTHER, own)
    assert found == {
        EVIL.key: History(malicious=2, malicious_last_at=NOW - 3 * HOUR),
        own.key: History(malicious=2, malicious_last_at=NOW - 3 * HOUR, benign=1, benign_last_at=NOW - 2 * HOUR),
    }
    # A plan is nobody's block until a control says so.
    for outcome, blocked in ((Outcome.PENDING, 0), (Outcome.FAILED, 0), (Outcome.BLOCKED, 2)):
        ledger.actions.record(ActionBatch(control="waf", actions=(action(outcome=outcome),)), run_id="r", now=NOW)
        assert past(ledger, EVIL)[EVIL.key].blocked == blocked


def test_a_run_does_not_meet_its_own_verdicts_nor_those_of_the_same_findings(ledger: Ledger) -> None:
    made = judged(EVIL)
    record(ledger, made, now=NOW + HOUR)
    # A retry of the same task, and another run over the same window a week later.
    assert past(ledger, EVIL, before=NOW, known=NOW + 170 * HOUR) == {}
    # A later finding meets it; but not a run that began before it was written.
    assert past(ledger, EVIL, before=NOW + HOUR, known=NOW + 2 * HOUR)[EVIL.key].malicious == 1
    assert past(ledger, EVIL, before=NOW + HOUR, known=NOW + HOUR) == {}
    # Nor does anybody, when it is too long ago.
    assert ledger.verdicts.history([EVIL], since=NOW + HOUR, before=NOW + 2 * HOUR, known_before=NOW + 2 * HOUR) == {}


def test_thousands_of_verdicts_with_long_values(ledger: Ledger) -> None:
    urls = [Observable(type=ObservableType.URL, value=f"https://a.example/{'ü' * 2000}/{n}") for n in range(2)]
    many = [*urls, *(address(f"203.0.{n >> 8}.{n & 255}") for n in range(1300))]
    record(ledger, judged(*many, seen=NOW - HOUR), run_id="r" * 500, now=NOW - HOUR)
    assert set(past(ledger, *many)) == {o.key for o in many}
    assert len(ledger.verdicts.of_run("r" * 500)) == 1302
