"""The stages' contracts, with the smallest vendors that can have them: four operators over a tiny HTTP server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException

from include.soar.model import (
    Action,
    ActionBatch,
    Answer,
    CaseBatch,
    FetchBatch,
    Finding,
    Indicator,
    Observable,
    ObservableType,
    Observed,
    Outcome,
    Reputation,
    ReputationBatch,
    Verb,
)
from include.soar.vendor.errors import (
    RateLimited,
    RecordProblem,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
)
from include.soar.vendor.wire import Request
from tests.soar.examples import at, sighting, window
from tests.stages import controls, tiny
from tests.stages.controls import POLICY, PROTECTED, decision, incidents, indicator
from tests.stages.tiny import TinyServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.control import ConfirmSensor, ControlOperator, Result
from threat_response.stages.enrich import EnrichOperator
from threat_response.stages.fetch import Fetch, Page
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import WriteInPlanMode

EVIL, WORSE, CLEAN = "203.0.113.7", "203.0.113.8", "203.0.113.9"


class TinyHook(VendorHook):
    vendor = "tiny"
    conn_type = "tiny"
    default_conn_name = "tiny_default"
    hook_name = "Tiny"

    def headers(self, connection: Connection) -> dict[str, str]:
        return {"Key": self.required("password")}

    def get(self, path: str, **params: str) -> Any:
        request = Request("GET", path, operation="get", params=tuple(params.items()), timeout_seconds=5)
        return json.loads(self.send(request).body)

    def put(self, path: str) -> None:
        self.send(Request("PUT", path, operation="put", json={}, writes=True, timeout_seconds=5))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TinyServer]:
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", POLICY)
    monkeypatch.setenv("THREAT_RESPONSE_HOME", str(tmp_path / "home"))
    server = TinyServer()
    connect(monkeypatch, "tiny_default", "tiny", server.url, password="a-tiny-key")
    yield server
    server.stop()


#: Gives the lines that were printed since it was last asked; Airflow's own loggers print when no task runs.
Printed = Callable[[], list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return lambda: capsys.readouterr().out.splitlines()


@pytest.fixture
def unconnected(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> TinyServer:
    monkeypatch.delenv("AIRFLOW_CONN_TINY_DEFAULT")
    return server


def json_answer(document: Any, status: int = 200) -> tiny.Answer:
    return tiny.Answer(status, json.dumps(document).encode())


def context(
    start: str = "2026-01-02T10:00", end: str = "2026-01-02T11:00", *, run_type: str = "scheduled", **params: Any
) -> Any:
    """As Airflow gives it to a task of a run with a data interval."""
    run = SimpleNamespace(run_type=run_type, run_id=f"{run_type}-{start}", dag_id="response", run_after=at(end))
    return {
        "dag_run": run,
        "params": params,
        "logical_date": at(start),
        "data_interval_start": at(start),
        "data_interval_end": at(end),
        "ti": SimpleNamespace(),
    }


# --- stage 1: fetch ----------------------------------------------------------------------------------------------


class TinyFetch(Fetch):
    vendor = "tiny"

    def _hook_class(self) -> type[TinyHook]:
        return TinyHook

    def read(self, hook: TinyHook, start_at: datetime, end_at: datetime) -> list[Page]:
        pages = []
        total = 1
        while len(pages) < total:
            answer = hook.get("/events", since=start_at.isoformat(), until=end_at.isoformat(), page=str(len(pages)))
            total = answer["pages"]
            pages.append(Page(len(pages), json.dumps(answer).encode(), answer["events"]))
        return pages

    def parse(self, record: Any) -> Finding:
        if record.get("severity") == "purple":
            raise RecordProblem("severity", "unknown word\nwith a line end")
        return Finding(
            uid=record["id"],
            source=self.vendor,
            vendor_id=record["id"],
            title=record.get("title", "title"),
            severity=record.get("severity", "high"),
            detected_at=record["time"],
        )

    def name_of(self, record: Any) -> str | None:
        return record.get("id")


def event(uid: str, time: str, **more: Any) -> dict[str, Any]:
    return {"id": uid, "time": f"2026-01-02T{time}:00Z", **more}


def serve(server: TinyServer, *pages: list[dict[str, Any]]) -> None:
    """These pages, filtered by time as a vendor does."""

    def answer(seen: tiny.Seen) -> tiny.Answer:
        query = dict(seen.query)
        shown = [
            e for e in pages[int(query["page"])] if query["since"] <= e["time"].replace("Z", "+00:00") < query["until"]
        ]
        return json_answer({"pages": len(pages), "events": shown})

    server.always = answer


def fetch(*args: Any, **kwargs: Any) -> FetchBatch:
    return FetchBatch.model_validate(TinyFetch(task_id="fetch").execute(context(*args, **kwargs)))


def uids(batch: FetchBatch) -> list[str]:
    return [f.uid for f in batch.findings]


def test_fetch_reads_the_window_and_its_overlap_and_archives_what_came(server: TinyServer, tmp_path: Path) -> None:
    serve(server, [event("c", "10:59"), event("a", "10:00")], [event("b", "10:30")])
    batch = fetch()
    assert uids(batch) == ["a", "b", "c"]  # by time
    assert (batch.pages, batch.records, batch.rejected) == (2, 3, ())
    assert dict(server.seen[0].query)["since"] == "2026-01-02T07:00:00+00:00"  # three hours back
    assert dict(server.seen[0].query)["until"] == "2026-01-02T11:00:00+00:00"
    raw = [gzip.decompress(Path(uri.removeprefix("file://")).read_bytes()) for uri in batch.archive]
    assert [[e["id"] for e in json.loads(page)["events"]] for page in raw] == [["c", "a"], ["b"]]
    (row,) = settings.ledger().windows.rows()
    assert (row.source, row.findings, row.records, row.pages) == ("tiny", 3, 3, 2)
    assert row.run_id == "response/scheduled-2026-01-02T10:00"
    assert (row.digest, row.start_at) == (batch.digest, at("2026-01-02T10:00"))


def test_a_window_fetched_again_gives_the_same_and_leaves_no_second_copy(server: TinyServer, tmp_path: Path) -> None:
    serve(server, [event("a", "10:00")])
    first = fetch()
    assert fetch() == first
    assert len(list(tmp_path.rglob("page-*.json.gz"))) == 1
    assert len(settings.ledger().windows.rows()) == 1
    serve(server, [event("a", "10:00"), event("b", "10:01")])
    assert uids(fetch()) == ["a", "b"]
    assert len(list(tmp_path.rglob("page-*.json.gz"))) == 2  # both readings can be looked at


def test_a_record_that_cannot_be_read_costs_itself_only(server: TinyServer, printed: Printed) -> None:
    serve(
        server,
        [event("a", "10:00"), event("bad\n2026 INFO forged", "10:01", severity="purple")],
        [event("b", "10:02", severity="unheard of"), {"id": None, "time": "2026-01-02T10:03:00Z"}, event("c", "10:04")],
    )
    batch = fetch()
    assert uids(batch) == ["a", "c"]
    assert (batch.records, settings.ledger().windows.rows()[0].rejected) == (5, 3)
    assert [(r.record, r.field) for r in batch.rejected] == [
        ("bad 2026 INFO forged", "severity"),
        ("b", "severity"),
        ("page 1, row 1", "uid"),
    ]
    assert batch.rejected[0].problem == "unknown word with a line end"
    assert all(r.kept_at in batch.archive for r in batch.rejected)
    lines = [line for line in printed() if "Left out tiny record" in line]
    assert len(lines) == 3
    assert "forged" in lines[0]


def test_the_same_event_twice_counts_once_with_its_last_word(server: TinyServer) -> None:
    serve(server, [event("a", "10:00", title="before")], [event("a", "10:00", title="after")])
    batch = fetch()
    assert [(f.uid, f.title) for f in batch.findings] == [("a", "after")]
    assert batch.records == 2


def test_a_late_event_counts_once_in_the_first_window_that_sees_it(server: TinyServer) -> None:
    on_time, late = event("on-time", "10:10"), event("late", "10:20")
    serve(server, [on_time])
    assert uids(fetch("2026-01-02T10:00", "2026-01-02T11:00")) == ["on-time"]
    serve(server, [on_time, late, event("next", "11:30")])
    eleven = ("2026-01-02T11:00", "2026-01-02T12:00")
    assert uids(fetch(*eleven)) == ["late", "next"]  # not "on-time" again
    assert uids(fetch(*eleven)) == ["late", "next"]  # a repeated run gets its own again
    assert uids(fetch("2026-01-02T12:00", "2026-01-02T13:00")) == []
    assert [row.findings for row in settings.ledger().windows.rows("tiny")] == [1, 2, 0]


def test_an_event_later_than_the_overlap_is_not_read(server: TinyServer) -> None:
    serve(server, [event("too-late", "06:59"), event("late", "07:00")])
    assert uids(fetch()) == ["late"]
    short = TinyFetch(task_id="fetch", overlap=timedelta(0)).execute(context())
    assert uids(FetchBatch.model_validate(short)) == []


def test_an_explicit_window_is_read(server: TinyServer) -> None:
    serve(server, [event("a", "08:15")])
    batch = fetch(window_start="2026-01-02T08:00:00Z", window_end="2026-01-02T08:30:00Z")
    assert uids(batch) == ["a"]
    assert batch.window.key == "20260102T080000Z-20260102T083000Z"


def test_a_source_that_is_not_complete_yet_is_waited_for(server: TinyServer) -> None:
    class Slow(TinyFetch):
        settled_after = timedelta(minutes=20)

    end = datetime.now(UTC).replace(second=0, microsecond=0)
    run = context() | {"data_interval_start": end - timedelta(hours=1), "data_interval_end": end}
    with pytest.raises(AirflowRescheduleException) as caught:
        Slow(task_id="fetch").execute(run)
    assert caught.value.reschedule_date == end + timedelta(minutes=20)
    assert server.seen == []


def test_a_source_without_a_connection_is_skipped(unconnected: TinyServer) -> None:
    with pytest.raises(AirflowSkipException, match="source tiny is skipped: there is no connection 'tiny_default'"):
        TinyFetch(task_id="fetch").execute(context())
    assert unconnected.seen == []


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (503, Unavailable), (429, RateLimited)])
def test_a_source_that_fails_leaves_no_window_behind(server: TinyServer, status: int, kind: type[VendorError]) -> None:
    server.script = [json_answer({"pages": 2, "events": [event("a", "10:00")]}), tiny.Answer(status)]
    with pytest.raises(kind):
        TinyFetch(task_id="fetch").execute(context())
    assert settings.ledger().windows.rows() == []
    assert settings.ledger().windows.claim_findings([_finding("a")], window_key="other", now=settings.now()) == {
        "a": "other"
    }


def _finding(uid: str) -> Finding:
    return TinyFetch(task_id="x").parse(event(uid, "10:00"))


# --- stage 3: enrich ---------------------------------------------------------------------------------------------


class TinyAsker(TinyHook):
    #: How old the provider's answers are.
    age: ClassVar[timedelta] = timedelta(0)

    def lookup(self, observable: Observable) -> Reputation:
        score = self.get(f"/score/{quote(observable.value, safe='')}")
        return Reputation(
            observable=observable,
            provider=TinyEnrich.provider,
            answer=Answer.LISTED if score else Answer.NOT_LISTED,
            score=score,
            known_at=settings.now() - self.age,
        )


class TinyEnrich(EnrichOperator):
    provider = "abuseipdb"  # a name that the policy knows
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})
    hook_class = TinyAsker


def case(*values: str) -> dict[str, Any]:
    observed = tuple(Observed(observable=_observable(value), sightings=(sighting(),)) for value in values)
    return CaseBatch(window=window(), findings=(), observed=observed).to_json()


def _observable(value: str) -> Observable:
    if value.replace(".", "").isdigit():
        return Observable(type=ObservableType.IPV4, value=value)
    kind = ObservableType.IPV6 if ":" in value else ObservableType.DOMAIN
    return Observable(type=kind, value=value)


def scores(server: TinyServer, table: dict[str, int | tiny.Answer]) -> None:
    def answer(seen: tiny.Seen) -> tiny.Answer:
        found = table[unquote(seen.path.rsplit("/", 1)[-1])]
        return found if isinstance(found, tiny.Answer) else json_answer(found)

    server.always = answer


def asked(server: TinyServer) -> list[str]:
    return [unquote(seen.path.rsplit("/", 1)[-1]) for seen in server.seen]


def enrich(*values: str, by: type[EnrichOperator] = TinyEnrich) -> dict[str, Reputation]:
    batch = ReputationBatch.model_validate(by(task_id="enrich", case=case(*values)).execute(context()))
    assert [r.observable.value for r in batch.reputations] == [
        o.value for o in sorted((_observable(v) for v in values), key=lambda o: o.key)
    ]
    return {r.observable.value: r for r in batch.reputations}


def test_enrich_gives_one_answer_for_each(server: TinyServer) -> None:
    scores(server, {EVIL: 90, CLEAN: 0})
    answers = enrich(EVIL, CLEAN, "evil.example")
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL: (Answer.LISTED, 90),
        CLEAN: (Answer.NOT_LISTED, 0),
        "evil.example": (Answer.NOT_APPLICABLE, None),
    }
    assert asked(server) == [EVIL, CLEAN]


@pytest.mark.parametrize(
    "value",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "::1",
        "fd00::1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        PROTECTED,  # ours
        "64:ff9b::c000:205",  # ours in disguise
        "198.51.100.201",  # a partner's
    ],
)
def test_what_is_private_is_never_sent_to_a_provider(server: TinyServer, value: str) -> None:
    scores(server, {EVIL: 90})
    answers = enrich(value, EVIL)
    assert answers[value].answer is Answer.NOT_APPLICABLE
    assert "not sent out" in answers[value].summary
    assert asked(server) == [EVIL]


def test_what_is_never_blocked_anyway_costs_no_question(server: TinyServer) -> None:
    answer = enrich("192.0.2.53")["192.0.2.53"]
    assert answer.answer is Answer.NOT_APPLICABLE
    assert answer.summary.startswith("never blocked anyway: ")
    assert server.seen == []


def test_a_local_list_is_asked_about_it_all_the_same(server: TinyServer) -> None:
    class Local(TinyEnrich):
        is_remote = False

    scores(server, {"192.0.2.53": 0})
    assert enrich("192.0.2.53", by=Local)["192.0.2.53"].answer is Answer.NOT_LISTED


def test_outside_of_the_demo_documentation_ranges_are_not_asked_about(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", POLICY.split(":")[0])
    assert enrich(EVIL)[EVIL].answer is Answer.NOT_APPLICABLE
    assert server.seen == []


def test_a_stored_answer_is_not_asked_for_again(server: TinyServer) -> None:
    scores(server, {EVIL: 90, CLEAN: 0, WORSE: 100})
    first = enrich(EVIL, CLEAN)
    second = enrich(EVIL, CLEAN, WORSE)
    assert asked(server) == [EVIL, CLEAN, WORSE]
    assert {value: second[value] for value in first} == first


def test_an_answer_stays_good_as_long_as_the_policy_says(server: TinyServer) -> None:
    """24 hours for listed, 6 for not listed."""

    def aged(hours: int) -> type[EnrichOperator]:
        asker = type("Asker", (TinyAsker,), {"age": timedelta(hours=hours)})
        return type("Aged", (TinyEnrich,), {"hook_class": asker})

    scores(server, {EVIL: 90, CLEAN: 0})
    enrich(EVIL, CLEAN, by=aged(7))
    enrich(EVIL, CLEAN)
    assert asked(server) == [EVIL, CLEAN, CLEAN]
    scores(server, {WORSE: 90})
    enrich(WORSE, by=aged(25))
    enrich(WORSE)
    assert asked(server)[3:] == [WORSE, WORSE]


def test_a_provider_that_costs_nothing_is_asked_each_time(server: TinyServer) -> None:
    class Local(TinyEnrich):
        is_remote = False

    scores(server, {EVIL: 90})
    enrich(EVIL, by=Local)
    enrich(EVIL, by=Local)
    assert asked(server) == [EVIL, EVIL]


def test_an_item_that_the_provider_rejects_costs_that_item(server: TinyServer) -> None:
    scores(server, {EVIL: tiny.Answer(422, b'{"detail": "not an address"}'), WORSE: 90})
    answers = enrich(EVIL, WORSE)
    assert answers[EVIL].answer is Answer.ERROR
    assert "not an address" in answers[EVIL].summary
    assert answers[WORSE].answer is Answer.LISTED


@pytest.mark.parametrize(("status", "answer"), [(429, Answer.NOT_CHECKED), (401, Answer.ERROR), (403, Answer.ERROR)])
def test_a_provider_that_wants_nothing_costs_the_rest_and_stops_nothing(
    server: TinyServer, printed: Printed, status: int, answer: Answer
) -> None:
    scores(server, {EVIL: tiny.Answer(status), WORSE: 90, CLEAN: 0})
    answers = enrich(EVIL, WORSE, CLEAN)
    assert {r.answer for r in answers.values()} == {answer}
    assert asked(server) == [EVIL]  # it is not asked on and on
    assert sum("is silent for 3 observables" in line for line in printed()) == 1
    assert settings.ledger().answers.changes(at("2000-01-01"), settings.now() + timedelta(days=1)) == []


@pytest.mark.parametrize("status", [500, 302])
def test_one_bad_answer_costs_its_value(server: TinyServer, status: int) -> None:
    scores(server, {EVIL: 90, WORSE: tiny.Answer(status), CLEAN: 0})
    answers = enrich(EVIL, WORSE, CLEAN)
    assert [answers[v].answer for v in (EVIL, WORSE, CLEAN)] == [Answer.LISTED, Answer.ERROR, Answer.NOT_LISTED]
    # What may be a blip is tried again at the end; what was not understood is not.
    assert asked(server).count(WORSE) == (2 if status == 500 else 1)
    assert (answers[WORSE].retry_at is not None) == (status == 500)
    # NoAnswer is not stored: the next run asks, and only about what it does not know.
    scores(server, {WORSE: 100})
    answers = enrich(EVIL, WORSE, CLEAN)
    assert [answers[v].score for v in (EVIL, WORSE, CLEAN)] == [90, 100, 0]


class Bulk(TinyEnrich):
    """One question for all of them."""

    def ask(self, hook: TinyAsker, observables: Sequence[Observable]) -> list[Reputation]:
        answer = hook.get("/bulk")
        return [
            Reputation(
                observable=_observable(v), provider=self.provider, answer="listed", score=s, known_at=settings.now()
            )
            for v, s in answer
        ]


def test_a_provider_that_is_asked_at_once_and_fails(server: TinyServer) -> None:
    server.always = tiny.Answer(503)
    answers = enrich(EVIL, WORSE, by=Bulk)
    assert {r.answer for r in answers.values()} == {Answer.ERROR}


def test_a_value_that_the_provider_passes_over_is_not_clean(server: TinyServer) -> None:
    server.always = json_answer([[EVIL, 50], [EVIL, 60], [CLEAN, 70]])  # one twice, one that nobody asked about
    answers = enrich(EVIL, WORSE, by=Bulk)
    assert (answers[EVIL].answer, answers[EVIL].score) == (Answer.LISTED, 60)
    assert (answers[WORSE].answer, answers[WORSE].score) == (Answer.ERROR, None)


def test_with_nothing_to_ask_the_provider_is_left_alone(server: TinyServer) -> None:
    enrich()
    enrich("evil.example", "10.0.0.1")
    assert server.seen == []


def test_a_provider_without_a_connection_is_skipped(unconnected: TinyServer) -> None:
    with pytest.raises(AirflowSkipException, match="enrichment by abuseipdb"):
        TinyEnrich(task_id="enrich", case=case(EVIL)).execute(context())


# --- stages 6, 7, 8: control -------------------------------------------------------------------------------------


class TinyControl(ControlOperator):
    control = "tiny_control"
    verb = Verb.DENY
    types = frozenset({ObservableType.IPV4})
    hook_class = TinyHook

    def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
        done = Result()
        for one in indicators:
            value = one.observable.value
            try:
                known = hook.get(f"/blocked/{value}")
                if not known:
                    hook.put(f"/blocked/{value}")
            except Rejected as error:
                done.actions.append(self.action(one, Outcome.FAILED, str(error)))
            else:
                names = ", ".join(incidents[one.observable.key])
                done.actions.append(self.action(one, Outcome.BLOCKED, names, changed=not known, proof={"list": "x"}))
        return done


class World:
    """What the control's other end holds; ``fails`` answers a value's write with this status."""

    def __init__(self, server: TinyServer) -> None:
        self.blocked: set[str] = set()
        self.fails: dict[str, int] = {}
        server.always = self

    def __call__(self, seen: tiny.Seen) -> tiny.Answer:
        value = seen.path.rsplit("/", 1)[-1]
        if seen.method == "GET":
            return json_answer(value in self.blocked)
        if value in self.fails:
            return tiny.Answer(self.fails[value], b'{"message": "no"}')
        self.blocked.add(value)
        return json_answer(None)


@pytest.fixture
def world(server: TinyServer) -> World:
    return World(server)


IP = "ipv4-addr"


def act(*wanted: Indicator, by: type[ControlOperator] = TinyControl, **options: Any) -> controls.Run:
    return controls.run(by, decision(*wanted), **options)


def test_a_control_blocks_and_a_second_run_changes_nothing(world: World, server: TinyServer) -> None:
    first = act(indicator(IP, EVIL), indicator(IP, WORSE))
    assert first.error is None
    assert first.outcomes == {EVIL: "blocked", WORSE: "blocked"}
    assert first.actions[EVIL].detail == "INC-1"  # the finding's incident
    assert world.blocked == {EVIL, WORSE}
    writes = sum(seen.method == "PUT" for seen in server.seen)
    second = act(indicator(IP, EVIL), indicator(IP, WORSE))
    assert (second.outcomes, {a.changed for a in second.actions.values()}) == (first.outcomes, {False})
    assert sum(seen.method == "PUT" for seen in server.seen) == writes == 2
    rows = settings.ledger().actions.rows("tiny_control")
    assert [(row.observable, row.outcome, row.proof) for row in rows] == [
        (f"{IP}:{EVIL}", "blocked", {"list": "x"}),
        (f"{IP}:{WORSE}", "blocked", {"list": "x"}),
    ]
    assert rows[0].run_id == "response/run-1"


def test_the_gate_is_asked_again_at_the_last_moment(world: World, server: TinyServer) -> None:
    """Whatever decision arrives: made by hand, by an older policy, or by a bug."""
    run = act(indicator(IP, PROTECTED), indicator(IP, "10.0.0.1"), indicator(IP, "198.51.100.201"), indicator(IP, EVIL))
    assert run.outcomes == {
        PROTECTED: "protected",
        "10.0.0.1": "protected",
        "198.51.100.201": "protected",
        EVIL: "blocked",
    }
    assert world.blocked == {EVIL}
    assert not [s for s in server.seen if PROTECTED in s.path]


def test_what_is_not_for_this_control_or_over_is_said_and_not_sent(world: World, server: TinyServer) -> None:
    run = act(indicator("domain-name", "evil.example"), indicator(IP, EVIL, days=-1))
    assert run.error is None
    assert run.outcomes == {"evil.example": "unsupported", EVIL: "expired"}
    assert server.seen == []


def test_nothing_is_done_that_no_incident_tells_of(world: World, server: TinyServer) -> None:
    """One incident that could not be opened costs its own indicators; one that tells of them is enough."""
    lost, shared = indicator(IP, EVIL, finding_uids=("lost",)), indicator(IP, WORSE, finding_uids=("lost", "finding-1"))
    batch = controls.incidents()
    batch["incidents"].append(
        {"finding_uid": "lost", "marker": "m2", "outcome": "failed", "title": "t", "detail": "refused"}
    )
    pushed: dict[str, Any] = {}
    operator = TinyControl(task_id="control", decision=decision(lost, shared), incidents=batch)
    with pytest.raises(Rejected, match="incident"):
        operator.execute(controls.context(xcom_push=lambda key, value: pushed.update({key: value})))
    outcomes = {a["observable"]["value"]: a["outcome"] for a in pushed["return_value"]["actions"]}
    assert outcomes == {EVIL: "failed", WORSE: "blocked"}
    assert world.blocked == {WORSE}


@pytest.mark.parametrize("missing", ["decision", "incidents"])
def test_a_control_without_a_decision_or_incidents_does_nothing(server: TinyServer, missing: str) -> None:
    given = {"decision": decision(indicator(IP, EVIL)), "incidents": controls.incidents()} | {missing: None}
    with pytest.raises(AirflowSkipException):
        TinyControl(task_id="control", **given).execute(controls.context())
    assert server.seen == []


def test_a_watchlist_may_hold_protected_values(world: World) -> None:
    class Watch(TinyControl):
        gated = False

    assert act(indicator(IP, PROTECTED), by=Watch).outcomes == {PROTECTED: "blocked"}


@pytest.mark.parametrize(
    ("effects", "run_type", "writes"),
    [
        ("auto", "scheduled", True),
        ("auto", "manual", True),
        (None, "manual", True),
        ("auto", "backfill", False),
        ("apply", "backfill", True),
        ("plan", "scheduled", False),
        ("plan", "manual", False),
    ],
)
def test_which_runs_write(world: World, server: TinyServer, effects: str | None, run_type: str, writes: bool) -> None:
    operator = TinyControl(task_id="c", decision=decision(indicator(IP, EVIL)), incidents=incidents())
    batch = ActionBatch.model_validate(operator.execute(context(run_type=run_type, effects=effects)))
    assert batch.actions[0].outcome is (Outcome.BLOCKED if writes else Outcome.PLANNED)
    assert world.blocked == ({EVIL} if writes else set())
    assert len(settings.ledger().actions.rows()) == (1 if writes else 0)  # a plan is no state


def test_an_effect_that_nobody_knows_is_refused(world: World) -> None:
    run = act(indicator(IP, EVIL), effects="aply")
    assert isinstance(run.error, ValueError)
    assert "aply" in str(run.error)
    assert world.blocked == set()


def test_a_vendor_that_writes_while_it_plans_is_stopped_at_the_line(world: World, server: TinyServer) -> None:
    class Eager(TinyControl):
        preview = TinyControl.ensure

    run = act(indicator(IP, EVIL), by=Eager, effects="plan")
    assert isinstance(run.error, WriteInPlanMode)
    assert [s.method for s in server.seen] == ["GET"]
    assert world.blocked == set()


def test_one_items_failure_costs_that_item_and_then_the_task(world: World) -> None:
    world.fails = {WORSE: 422}
    run = act(indicator(IP, EVIL), indicator(IP, WORSE), indicator(IP, CLEAN))
    assert run.outcomes == {EVIL: "blocked", WORSE: "failed", CLEAN: "blocked"}
    assert "no [HTTP 422]" in run.actions[WORSE].detail
    # Published although the task fails: the incident's update reads it.
    assert isinstance(run.error, Rejected)
    assert list(run.pushed) == ["return_value"]
    assert {row.observable: row.outcome for row in settings.ledger().actions.rows()}[f"{IP}:{WORSE}"] == "failed"


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (429, RateLimited), (500, Unavailable), (302, Unexpected)]
)
def test_what_stops_the_control_is_raised_as_it_is_after_the_batch_was_published(
    world: World, status: int, kind: type[VendorError]
) -> None:
    world.fails = {EVIL: status}
    run = act(indicator(IP, EVIL), indicator(IP, WORSE), indicator(IP, PROTECTED))
    assert type(run.error) is kind
    assert run.outcomes == {EVIL: "failed", WORSE: "failed", PROTECTED: "protected"}
    assert run.actions[WORSE].detail == str(run.error)


def test_what_was_done_before_the_stop_is_kept(world: World) -> None:
    class Half(TinyControl):
        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
            done = super().ensure(hook, indicators[:1], incidents)
            done.error = Unavailable("tiny", "put", "went away")
            return done

    run = act(indicator(IP, EVIL), indicator(IP, WORSE), by=Half)
    assert run.outcomes == {EVIL: "blocked", WORSE: "failed"}
    assert isinstance(run.error, Unavailable)


def test_an_indicator_that_a_vendor_passes_over_is_not_lost(world: World) -> None:
    class Forgetful(TinyControl):
        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
            return super().ensure(hook, indicators[1:], incidents)

    run = act(indicator(IP, EVIL), indicator(IP, WORSE), by=Forgetful)
    assert run.outcomes == {EVIL: "failed", WORSE: "blocked"}
    assert isinstance(run.error, Unexpected)


def test_with_nothing_to_do_the_control_is_left_alone(world: World, server: TinyServer) -> None:
    assert act().outcomes == {}
    assert server.seen == []


def test_a_control_without_a_connection_is_skipped(unconnected: TinyServer) -> None:
    assert isinstance(act(indicator(IP, EVIL)).error, AirflowSkipException)


def test_one_log_line_an_item_that_no_value_can_forge(server: TinyServer, printed: Printed) -> None:
    class Urls(TinyControl):
        types = frozenset({ObservableType.URL})

        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
            return Result([self.action(i, Outcome.BLOCKED, "a\nb", proof={"page": "c\r\nd"}) for i in indicators])

    act(indicator("url", "https://evil.example/\u2028forged"), by=Urls)
    items = [line for line in printed() if "tiny_control deny" in line]
    assert len(items) == 1
    assert "forged: blocked; a b" in items[0]
    assert "page=c d" in items[0]


# --- the sensor --------------------------------------------------------------------------------------------------


class TinyConfirm(ConfirmSensor):
    control = "tiny_control"
    hook_class = TinyHook

    def look(self, hook: TinyHook, actions: Sequence[Action]) -> list[Action]:
        return [
            a.model_copy(update={"outcome": Outcome.BLOCKED, "detail": "in force"})
            for a in actions
            if hook.get(f"/blocked/{a.observable.value}")
        ]


def action(value: str, outcome: Outcome) -> Action:
    return Action(control="tiny_control", verb=Verb.DENY, observable=_observable(value), outcome=outcome)


def poke(
    *actions: Action, waiting_since: datetime | None = None, by: type[ConfirmSensor] = TinyConfirm
) -> tuple[bool, dict[str, str] | None]:
    batch = ActionBatch(control="tiny_control", actions=actions).to_json()
    run = context()
    run["ti"] = SimpleNamespace(get_first_reschedule_date=lambda _: waiting_since)
    answer = by(task_id="confirm", actions=batch).poke(run)
    if answer.xcom_value is None:
        return answer.is_done, None
    result = ActionBatch.model_validate(answer.xcom_value)
    return answer.is_done, {a.observable.value: a.outcome.value for a in result.actions}


def test_the_sensor_waits_until_all_pending_is_in_force(world: World) -> None:
    batch = (action(EVIL, Outcome.PENDING), action(WORSE, Outcome.PENDING), action(CLEAN, Outcome.FAILED))
    assert poke(*batch) == (False, None)
    world.blocked = {EVIL}
    assert poke(*batch) == (False, None)
    assert settings.ledger().actions.rows() == []
    world.blocked = {EVIL, WORSE}
    assert poke(*batch) == (True, {EVIL: "blocked", WORSE: "blocked", CLEAN: "failed"})
    assert {row.outcome for row in settings.ledger().actions.rows()} == {"blocked", "failed"}


def test_the_sensors_patience_ends_with_what_is_true(world: World) -> None:
    world.blocked = {EVIL}
    batch = (action(EVIL, Outcome.PENDING), action(WORSE, Outcome.PENDING))
    just_begun, long_ago = settings.now() - timedelta(minutes=29), settings.now() - timedelta(minutes=31)
    assert poke(*batch, waiting_since=just_begun) == (False, None)
    assert poke(*batch, waiting_since=long_ago) == (True, {EVIL: "blocked", WORSE: "pending"})


def test_with_nothing_pending_the_sensor_asks_nobody(world: World, server: TinyServer) -> None:
    assert poke(action(EVIL, Outcome.BLOCKED), action(WORSE, Outcome.PLANNED)) == (
        True,
        {EVIL: "blocked", WORSE: "planned"},
    )
    assert poke() == (True, {})
    assert server.seen == []


def test_the_sensor_cannot_write(world: World) -> None:
    class Writing(TinyConfirm):
        def look(self, hook: TinyHook, actions: Sequence[Action]) -> list[Action]:
            hook.put("/blocked/x")
            return []

    with pytest.raises(WriteInPlanMode):
        poke(action(EVIL, Outcome.PENDING), by=Writing)
    assert world.blocked == set()


def test_an_error_while_looking_is_for_the_retry_policy(world: World, server: TinyServer) -> None:
    server.always = tiny.Answer(503)
    with pytest.raises(Unavailable):
        poke(action(EVIL, Outcome.PENDING))


def test_a_sensor_of_an_absent_control_is_skipped(unconnected: TinyServer) -> None:
    """Its control was skipped, and gave no batch."""
    with pytest.raises(AirflowSkipException, match="control tiny_control"):
        TinyConfirm(task_id="confirm", actions=None).poke(context())


@pytest.mark.parametrize(
    "make",
    [
        lambda: TinyFetch(task_id="t"),
        lambda: TinyEnrich(task_id="t", case={}),
        lambda: TinyControl(task_id="t", decision={}, incidents={}),
        lambda: TinyConfirm(task_id="t", actions={}),
    ],
    ids=["fetch", "enrich", "control", "confirm"],
)
def test_making_an_operator_reads_no_connection_and_every_field_is_templated(
    unconnected: TinyServer, make: Callable[[], Any]
) -> None:
    operator = make()
    assert operator.conn_id == "tiny_default"
    assert all(hasattr(operator, name) for name in operator.template_fields)
    assert "conn_id" in operator.template_fields
