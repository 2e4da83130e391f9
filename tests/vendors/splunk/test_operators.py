"""The SIEM's watchlist, against the simulator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import Indicator
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable
from tests.stages.controls import PROTECTED, Run, decision, indicator, run
from tests.support import SimServer
from tests.vendors.splunk.conftest import COLLECTION, PRODUCT, held, seed, writes
from threat_response.vendors.splunk.operators import SplunkWatchOperator

ALL = [
    indicator("ipv4-addr", "198.51.100.7"),
    indicator("ipv6-addr", "2001:db8::7"),
    indicator("domain-name", "bad.example"),
    indicator("url", "http://bad.example/a'b\"c?d=%2F&e"),
    indicator("email-addr", "a@bad.example"),
    indicator("file", "a" * 40),
    indicator("url", "http://bad.example/" + "x" * 3000),
]
KEYS = sorted(i.observable.key for i in ALL)
ONE = ALL[0]
KEY = ONE.observable.key


def seen_again(one: Indicator) -> Indicator:
    """By now, and after whatever was done about it."""
    return one.model_copy(update={"last_seen_at": datetime.now(UTC)})


def watch(*wanted: Any, **options: Any) -> Run:
    return run(SplunkWatchOperator, decision(*(wanted or ALL)), **options)


def test_the_same_batch_three_times_is_one_row_each(sim: SimServer) -> None:
    seed(sim)
    first, second, third = watch(), watch(), watch()
    for result, changed in ((first, True), (second, False), (third, False)):
        assert result.error is None
        assert set(result.outcomes.values()) == {"watched"}
        assert {a.changed for a in result.actions.values()} == {changed}
    assert writes(sim) == ["lookups", "batch_save"]
    assert sorted(held(sim)) == KEYS
    row = held(sim)[KEY]
    assert (row["value"], row["type"], row["source"]) == ("198.51.100.7", "ipv4-addr", "threat-response")
    assert row["incidents"] == ["INC-1"]
    assert row["expires_at"] == int(ONE.expires_at.timestamp())
    assert first.actions["198.51.100.7"].proof == {"collection": COLLECTION, "key": KEY}


def test_the_collection_is_made_where_it_is_missing(sim: SimServer) -> None:
    assert watch().error is None
    assert sorted(held(sim)) == KEYS
    watch()
    assert writes(sim) == ["config", "lookups", "batch_save"]
    lookup = sim.state(PRODUCT)["lookups"][COLLECTION]
    assert (lookup["external_type"], lookup["collection"]) == ("kvstore", COLLECTION)
    assert lookup["match_type"] == "CIDR(network)"
    assert set(held(sim)[KEY]) <= set(lookup["fields_list"].split(","))


@pytest.mark.parametrize("status", [400, 403])
def test_without_the_right_to_make_a_lookup_the_list_is_kept_all_the_same(
    sim: SimServer, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    sim.fault(PRODUCT, "status", method="POST", path="/lookups$", status=status)
    assert set(watch().outcomes.values()) == {"watched"}
    assert "No search sees threat_watchlist" in capsys.readouterr().out


def test_a_lookup_of_a_person_is_left_as_it_is(sim: SimServer) -> None:
    seed(sim)
    theirs = {"external_type": "kvstore", "collection": COLLECTION, "fields_list": "value"}
    sim.world.simulators[PRODUCT].lookups["search", COLLECTION] = theirs
    watch()
    assert sim.state(PRODUCT)["lookups"] == {COLLECTION: theirs}


@pytest.mark.parametrize("there", [True, False])
def test_plan_mode_makes_neither_rows_nor_a_collection(sim: SimServer, there: bool) -> None:
    if there:
        seed(sim)
    planned = watch(effects="plan")
    assert planned.error is None
    assert set(planned.outcomes.values()) == {"planned"}
    assert ("would be added" if there else "would be created") in planned.actions["198.51.100.7"].detail
    assert writes(sim) == []
    assert sim.state(PRODUCT)["collections"] == ({COLLECTION: []} if there else {})


def test_plan_mode_says_what_is_there_already(sim: SimServer) -> None:
    watch(ONE)
    assert watch(ONE, effects="plan").actions["198.51.100.7"].detail.endswith("already")
    again = watch(ONE, effects="plan", incident="INC-2")
    assert again.actions["198.51.100.7"].detail.endswith("would be updated")


def test_a_protected_address_may_be_watched(sim: SimServer) -> None:
    assert watch(indicator("ipv4-addr", PROTECTED)).outcomes == {PROTECTED: "watched"}


def test_without_a_connection_the_task_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SPLUNK_DEFAULT")
    assert isinstance(watch().error, AirflowSkipException)


def test_one_row_in_milliseconds_costs_itself_only(sim: SimServer) -> None:
    """R17: everything was written, and then the task died, in every run."""
    other = indicator("ipv4-addr", "198.51.100.8")
    watch(ONE)
    row = held(sim)[KEY]
    seed(sim, row | {"expires_at": row["expires_at"] * 1000})
    done = watch(ONE, other)
    assert done.outcomes == {"198.51.100.7": "failed", "198.51.100.8": "watched"}
    assert "not as we write it" in done.actions["198.51.100.7"].detail


def test_a_row_gains_incidents_and_time_and_loses_nothing(sim: SimServer) -> None:
    watch(ONE)
    before = held(sim)[KEY]
    seed(sim, before | {"note": "by an analyst"})
    longer = indicator("ipv4-addr", "198.51.100.7", expires_at=ONE.expires_at + timedelta(days=3))
    assert watch(longer, incident="INC-2").actions["198.51.100.7"].changed
    row = held(sim)[KEY]
    assert row["incidents"] == ["INC-1", "INC-2"]
    assert row["expires_at"] == before["expires_at"] + 3 * 86400
    assert row["note"] == "by an analyst"
    shorter = watch(ONE, incident="INC-1")
    assert held(sim)[KEY] == row
    assert int(shorter.actions["198.51.100.7"].expires_at.timestamp()) == row["expires_at"]  # type: ignore[union-attr]


def test_only_different_rows_are_written(sim: SimServer) -> None:
    watch(ONE)
    sim.world.calls.clear()
    watch()
    [call] = sim.calls(PRODUCT, "POST")
    assert sorted(document["_key"] for document in call["body"]) == sorted(set(KEYS) - {KEY})


def test_a_row_of_somebody_else_is_left_alone(sim: SimServer) -> None:
    theirs = {"_key": KEY, "source": "soc", "value": "198.51.100.7"}
    seed(sim, theirs)
    result = watch(ONE)
    assert result.outcomes == {"198.51.100.7": "watched"}
    assert "somebody else" in result.actions["198.51.100.7"].detail
    assert held(sim) == {KEY: theirs}
    assert writes(sim) == []


def test_a_row_of_ours_that_somebody_broke_fails_alone(sim: SimServer) -> None:
    seed(sim, {"_key": KEY, "source": "threat-response", "value": "198.51.100.7"})
    result = watch()
    assert isinstance(result.error, Rejected)
    assert [v for v, outcome in result.outcomes.items() if outcome == "failed"] == ["198.51.100.7"]
    assert sorted(held(sim)) == KEYS


def test_a_failing_row_costs_itself_only_and_the_batch_is_published(sim: SimServer) -> None:
    seed(sim)
    sim.fault(PRODUCT, "status", method="POST", path="batch_save", body='"a@bad.example"', status=400, times=-1)
    result = watch()
    assert isinstance(result.error, Rejected)
    assert "a@bad.example" in str(result.error)
    assert list(result.pushed) == ["return_value"]
    assert [v for v, outcome in result.outcomes.items() if outcome == "failed"] == ["a@bad.example"]
    assert sorted(held(sim)) == sorted(set(KEYS) - {"email-addr:a@bad.example"})


@pytest.mark.parametrize("path", ["batch_save$", "config$"])
def test_an_answer_that_is_lost_after_the_write_makes_no_second_one(sim: SimServer, path: str) -> None:
    sim.fault(PRODUCT, "reset_after_commit", method="POST", path=path)
    lost = watch()
    assert isinstance(lost.error, Unavailable)
    again = watch()
    assert again.error is None
    assert sorted(held(sim)) == KEYS
    assert writes(sim) == ["config", "lookups", "batch_save"]


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (403, Unauthorized), (429, RateLimited), (500, Unavailable)]
)
def test_what_stops_the_writing_is_raised_and_nothing_is_claimed(sim: SimServer, status: int, error: type) -> None:
    seed(sim)
    sim.fault(PRODUCT, "status", method="POST", path="batch_save", status=status)
    result = watch()
    assert type(result.error) is error
    assert set(result.outcomes.values()) == {"failed"}
    assert held(sim) == {}


def test_a_row_that_reads_back_otherwise_is_not_claimed(sim: SimServer) -> None:
    """The vendor says that it saved, and did not."""
    seed(sim)
    real = sim.world.simulators[PRODUCT].collections[("search", COLLECTION)]
    real.put = lambda document: document["_key"]  # type: ignore[method-assign]
    assert watch(ONE).outcomes == {"198.51.100.7": "failed"}


@pytest.mark.parametrize("changed", [True, False], ids=["just written", "there before"])
def test_a_row_that_a_person_removes_meanwhile_costs_itself_only(sim: SimServer, changed: bool) -> None:
    """3e: a KeyError, by which the incident told nothing of all the others."""
    watch(ONE)
    if changed:
        seed(sim, held(sim)[KEY] | {"expires_at": 1})
    collection = sim.world.simulators[PRODUCT].collections[("search", COLLECTION)]

    class Removing(dict[str, Any]):
        looks = 0

        def values(self) -> Any:
            self.looks += 1
            if self.looks == 2:  # the one that reads back
                self.pop(KEY)
            return super().values()

    collection.documents = Removing(collection.documents)
    result = watch(seen_again(ONE), ALL[1])
    assert isinstance(result.error, Rejected)
    assert list(result.pushed) == ["return_value"]
    assert [v for v, outcome in result.outcomes.items() if outcome != "watched"] == ["198.51.100.7"]
    action = result.actions["198.51.100.7"]
    assert (action.outcome.value, action.expires_at) == ("failed", None)
    assert "when it was read back" in action.detail


@pytest.mark.parametrize("end", [10**18, 1e300, 253_402_300_800, 9_223_372_036_854_775_807])
def test_an_end_beyond_the_calendar_fails_its_row_only(sim: SimServer, end: float) -> None:
    """3e, R17: it was an OSError, and no action was told. The row is not touched: what a person meant is not known."""
    watch(ONE)
    seed(sim, held(sim)[KEY] | {"expires_at": end})
    result = watch()
    assert [v for v, outcome in result.outcomes.items() if outcome != "watched"] == ["198.51.100.7"]
    assert "not as we write it" in result.actions["198.51.100.7"].detail
    assert held(sim)[KEY]["expires_at"] == end


@pytest.mark.parametrize("end", [-(10**18), -1e300, 0, 1.5])
def test_an_end_long_ago_is_prolonged(sim: SimServer, end: float) -> None:
    """3e"""
    watch(ONE)
    seed(sim, held(sim)[KEY] | {"expires_at": end})
    assert watch(ONE).outcomes == {"198.51.100.7": "not_ours"}  # a person ended it
    again = seen_again(ONE)
    result = watch(again)
    assert (result.error, result.outcomes) == (None, {"198.51.100.7": "watched"})
    assert held(sim)[KEY]["expires_at"] == int(again.expires_at.timestamp())


@pytest.mark.parametrize("end", [None, "soon", "1893456000", [], {}, True])
def test_an_end_that_is_no_time_fails_its_row_only(sim: SimServer, end: Any) -> None:
    """3e"""
    watch(ONE)
    seed(sim, held(sim)[KEY] | {"expires_at": end})
    result = watch()
    assert isinstance(result.error, Rejected)
    assert [v for v, outcome in result.outcomes.items() if outcome != "watched"] == ["198.51.100.7"]
    assert "not as we write it" in result.actions["198.51.100.7"].detail
    assert held(sim)[KEY]["expires_at"] == end
