"""
R16: what attackers and providers write, through every vendor's parser into a real Postgres: the ledger's tables, and a
``JSONB`` column as Airflow keeps XCom in.

SQLite takes U+0000 and halves of surrogate pairs; Postgres refuses the whole row.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from include.soar.judge.decision import decide
from include.soar.ledger import Ledger
from include.soar.model import (
    Action,
    ActionBatch,
    CaseBatch,
    FetchBatch,
    Finding,
    Frozen,
    IncidentBatch,
    IncidentOutcome,
    IncidentRef,
    Outcome,
    RejectedRecord,
    Relation,
    RelationBatch,
    Reputation,
    ReputationBatch,
    Verb,
)
from include.soar.vendor.errors import VendorError
from tests.soar.deciding import basis, batches, case_of_observed
from tests.soar.examples import NOW, address, finding, mention, observed, policy, reputation, sighting, window
from tests.soar.ledger.postgres import Postgres, serve
from tests.vendors.answers import Reading, all_readings

NUL, HALF, SPELLED = "a\x00b", "c\ud800d\udfff", "\\u0000 \\ud800"
HOSTILE = f" {NUL} {HALF} {SPELLED}"
KEPT = f" a\ufffdb c\ufffdd\ufffd {SPELLED}"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def url(server: Postgres) -> str:
    return server.new_database()


@pytest.fixture(scope="module")
def ledger(url: str) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(url)) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def xcom(url: str) -> Iterator[Any]:
    """Keeps a batch as Airflow does, and gives it back."""
    place = make_url(url)
    connection = psycopg2.connect(
        host=place.host, port=place.port, user=place.username, password=place.password, dbname=place.database
    )
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE xcom (value JSONB)")

        def keep(batch: Frozen) -> Any:
            cursor.execute("INSERT INTO xcom VALUES (%s::jsonb) RETURNING value", [json.dumps(batch.to_json())])
            return type(batch).model_validate(cursor.fetchone()[0])

        yield keep
    connection.close()


def _hostile(document: Any) -> Iterator[Any]:
    """The document with one text or key at a time made hostile."""
    places: list[tuple[Any, ...]] = [()]
    while places:
        path = places.pop()
        value = document
        for name in path:
            value = value[name]
        if isinstance(value, (dict, list)):
            places += [(*path, name) for name in (value if isinstance(value, dict) else range(len(value)))]
            if isinstance(value, dict):
                yield _with(document, path, {**value, f"key{HOSTILE}": HOSTILE})
        elif isinstance(value, str):
            yield _with(document, path, value + HOSTILE)
            yield _with(document, path, HOSTILE)
        elif value is None:
            yield _with(document, path, HOSTILE)


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    made = copy.deepcopy(document)
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return made


def _read(reading: Reading) -> list[Any]:
    found: list[Any] = []
    try:
        document = json.loads(reading.body)
    except ValueError:
        return found
    for hostile in _hostile(document):
        with contextlib.suppress(VendorError):
            found += reading.read(json.dumps(hostile).encode())
    return found


@pytest.mark.parametrize("reading", all_readings(), ids=lambda reading: reading.name)
def test_what_comes_of_every_answer_can_be_kept(reading: Reading, ledger: Ledger, xcom: Any) -> None:
    found = _read(reading)
    reputations = tuple(one for one in found if isinstance(one, Reputation))
    findings = tuple(one for one in found if isinstance(one, Finding))
    if reputations:
        batch = ReputationBatch(provider=reading.name, reputations=reputations)
        assert xcom(batch) == batch
        ledger.answers.store((one, timedelta(hours=1)) for one in reputations if one.score is not None)
    if findings:
        fetched = FetchBatch(
            source=reading.name,
            window=window(),
            pages=1,
            records=len(findings),
            archive=(),
            digest="d",
            findings=findings,
        )
        assert xcom(fetched) == fetched
        ledger.windows.claim_findings(findings, window_key=window().key, now=NOW)
        ledger.windows.record(fetched, run_id="r", now=NOW)


def test_the_attack_of_the_report_keeps_its_place(ledger: Ledger, xcom: Any) -> None:
    """A NUL in a parameter took the whole source out for as long as it was in the window."""
    reading = next(one for one in all_readings() if one.name == "akamai_api_security/incidents.json")
    document = json.loads(reading.body)
    document["entities"][0]["evidence"] = {"path": f"/f?x={HOSTILE}", f"q{NUL}": HALF}
    found = reading.read(json.dumps(document).encode())
    assert len(found) == len(reading.read(reading.body))
    texts = [one.text for one in found[0].mentions]
    assert f"/f?x={KEPT}" in texts


def test_verdicts_that_follow_from_it_can_be_kept(ledger: Ledger, xcom: Any) -> None:
    rules, evil = policy(), address("203.0.113.7")
    event = finding(title=HOSTILE, target=HALF, vendor_id=f"v{NUL}")
    said = [
        Reputation.model_validate({**reputation(evil, 100, provider=name).to_json(), "summary": HOSTILE, "tags": [NUL]})
        for name in ("abuseipdb", "list_feed")
    ]
    decided = decide(case_of_observed([event], [observed(evil, sighting(event.uid))]), batches(said), basis(rules, NOW))
    ledger.verdicts.record(decided.judgements, policy=rules, minimum_severity=None, run_id="r", now=NOW)
    assert xcom(decided.decision) == decided.decision
    (row,) = ledger.verdicts.of_run("r")
    assert KEPT in json.dumps(row.inputs, ensure_ascii=False).replace("\\\\", "\\")


def test_our_own_batches_can_be_kept(ledger: Ledger, xcom: Any) -> None:
    """What controls and the incident system answer, in details, proofs, ids and titles."""
    evil = address("203.0.113.7")
    actions = ActionBatch(
        control="waf",
        actions=(
            Action(
                control="waf",
                verb=Verb.DENY,
                observable=evil,
                outcome=Outcome.BLOCKED,
                detail=HOSTILE,
                proof={f"list{NUL}": HOSTILE, "version": 3, "by": None},
            ),
        ),
    )
    kept = xcom(actions)
    assert kept == actions
    assert kept.actions[0].detail == KEPT
    assert kept.actions[0].proof == {"list" + "a\ufffdb": KEPT, "version": 3, "by": None}
    ledger.actions.record(actions, run_id="r", now=NOW)
    assert ledger.actions.rows("waf")[0].detail == KEPT

    ref = IncidentRef(
        finding_uid="f1",
        marker="m",
        outcome=IncidentOutcome.CREATED,
        title=HOSTILE,
        unique_id=f"id{NUL}",
        readable_id=HALF,
        url=HOSTILE,
        detail=HOSTILE,
    )
    assert xcom(IncidentBatch(incidents=(ref,))).incidents[0].title == KEPT
    assert ref.unique_id is not None
    ledger.incidents.record("m", "f1", unique_id=ref.unique_id, readable_id=ref.readable_id, now=NOW)
    relation = Relation(
        incident_id=NUL, related_id=HALF, related_readable_id=None, shared=(evil,), outcome="failed", detail=HOSTILE
    )
    assert xcom(RelationBatch(relations=(relation,))).relations[0].detail == KEPT
    rejected = RejectedRecord(source="s", record=HOSTILE, field=HALF, problem=NUL)
    case = CaseBatch(
        window=window(),
        findings=(finding(title=HOSTILE, url=HOSTILE, target=HALF, tags=(NUL,), mentions=(mention(HOSTILE),)),),
        observed=(observed(evil),),
        rejected=(rejected,),
    )
    assert xcom(case) == case
