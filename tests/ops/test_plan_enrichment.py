"""The forecast of a backfill beside what the backfill's tasks then really ask, by the simulators' call logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.demo.place import connections, make_secrets
from include.ops.plan_enrichment import CannotPlan, plan
from include.simulators.demo_feed import build_demo
from include.soar.enrich.forecast import BackfillPlan, Forecast
from tests.ops.commands import main
from tests.stages.enriching.providers import PROVIDERS, PUBLIC, PUBLIC_IPV4, connect_providers, use_policy
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response import registry
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich
from threat_response.stages.extract import Extract

END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
START = END - timedelta(hours=3)
COMMAND = ("plan-enrichment", "--from")
HOUR = timedelta(hours=1)
#: None stores what it says: they read lists, and are asked nothing about a value.
LISTS = {"list_feed", "taxii"}
UNLIMITED: dict[str, list[Any]] = {name: [] for name in PROVIDERS}


@pytest.fixture
def demo_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sim: SimServer) -> SimServer:
    use_policy(monkeypatch, tmp_path, quotas=UNLIMITED)
    for product, data in build_demo(END).items():
        if product[0] != "_":
            sim.seed(product, data)
    sim.configure("virustotal", plan="premium")
    sim.configure("greynoise", weekly_limit=100_000)
    sim.seed("greynoise", {"public_networks": PUBLIC_IPV4})
    sim.seed("alienvault_otx", {"public_networks": PUBLIC})
    sim.seed("taxii", {"roots": {"intel": {"title": "t", "collections": [{"id": "c", "title": "c", "objects": []}]}}})
    secrets = make_secrets()
    for source in registry.SERVES["fetch"]:
        sim.configure(source, **secrets[source])
        given = connections(sim.port, secrets)[f"{source}_default"]
        extra = {name: value for name, value in given["extra"].items() if value is not None}
        connect(
            monkeypatch, f"{source}_default", source, sim, login=given["login"], password=given["password"], **extra
        )
    connect_providers(monkeypatch, sim)
    return sim


def context(start: datetime) -> Any:
    run = SimpleNamespace(run_type="backfill", run_id=f"backfill-{start}", dag_id="response", run_after=END)
    return {
        "dag_run": run,
        "params": {},
        "logical_date": start,
        "data_interval_start": start,
        "data_interval_end": start + HOUR,
    }


def refresh() -> dict[str, Any]:
    return {name: bring(task_id="r").execute(context(START)) for name, bring in registry.operators("refresh").items()}


def backfill(start: datetime = START, end: datetime = END, providers: Sequence[str] = PROVIDERS) -> None:
    """The tasks of each hour's run up to the answers, as the DAG orders them."""
    while start < end:
        given = context(start)
        batches = [read(task_id=source).execute(given) for source, read in registry.operators("fetch").items()]
        case = Extract(task_id="extract", batches=batches).execute(given)
        lists: dict[str, Any] = refresh() if providers else {}
        local: dict[str, Any] = {}
        for name in [vendor.name for vendor in registry.providers(providers)]:
            more = {"lists": lists[name]} if name in lists else {}
            said = Enrich(task_id=name, vendor=name, case=case, local=dict(local), **more).execute(given)
            if name in LISTS:
                local[name] = said
        start += HOUR


def asked(sim: SimServer) -> Counter[str]:
    """Calls about values: those that bring a list up to date are the refresh tasks'."""
    return Counter(
        call["product"]
        for call in sim.calls()
        if call["product"] in PROVIDERS and call["product"] not in LISTS and "/blacklist" not in call["path"]
    )


def of(provider: str, made: BackfillPlan) -> Forecast:
    return next(one for one in made.forecasts if one.provider == provider)


def forecast(made: BackfillPlan) -> dict[str, int]:
    return {one.provider: one.calls for one in made.forecasts if one.provider not in LISTS}


def test_the_forecast_is_what_a_backfill_then_asks(demo_day: SimServer) -> None:
    refresh()  # as any earlier run has done
    demo_day.world.calls.clear()
    made = plan(START, END)
    assert not [call for call in demo_day.calls() if call["product"] in PROVIDERS]
    assert settings.ledger().windows.rows() == []
    backfill()
    used = asked(demo_day)
    assert set(used) == set(PROVIDERS) - LISTS
    for provider, calls in forecast(made).items():
        assert abs(calls - used[provider]) <= 0.05 * used[provider], (provider, calls, used[provider])
    assert of("abuseipdb", plan(START, END)).calls == 0  # it is all stored now


def test_what_is_stored_is_not_planned_again(
    demo_day: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few = ["abuseipdb", "virustotal", "misp"]
    use_policy(monkeypatch, tmp_path, quotas=UNLIMITED, providers=few)
    backfill(START, START + HOUR, few)
    demo_day.world.calls.clear()
    made = plan(START, END)
    backfill(providers=few)
    used = asked(demo_day)
    for provider, calls in forecast(made).items():
        assert abs(calls - used[provider]) <= 0.05 * used[provider], (provider, calls, used[provider])
    abuseipdb = of("abuseipdb", made)
    assert abuseipdb.count("stored") > 0
    assert abuseipdb.count("asked") > 0


def test_a_quota_that_ends_is_foreseen(demo_day: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    day = {"name": "check", "calls": 20, "seconds": 86_400}
    use_policy(monkeypatch, tmp_path, quotas={**UNLIMITED, "abuseipdb": [day]}, live_share=0.3)
    demo_day.configure("abuseipdb", daily_limits={"check": day["calls"]})
    refresh()
    demo_day.world.calls.clear()
    made = plan(START, END)
    backfill(providers=["abuseipdb"])
    [cost] = of("abuseipdb", made).costs
    assert (cost.left, cost.now) == (14, 14)
    assert cost.calls > 14
    assert cost.takes == timedelta(days=-(-(cost.calls - 14) // 14))
    assert asked(demo_day)["abuseipdb"] == cost.now


def test_a_network_that_is_asked_about_as_a_whole_is_one_call(
    demo_day: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(
        monkeypatch,
        "abuseipdb_default",
        "abuseipdb",
        demo_day,
        password=demo_day.world.simulators["abuseipdb"].knobs["api_key"],
        check_block_from=2,
        blacklist="off",
    )
    made = plan(START, END)
    demo_day.world.calls.clear()
    backfill(providers=["abuseipdb"])
    blocks = [call for call in demo_day.calls("abuseipdb") if "/check-block" in call["path"]]
    singles = [call for call in demo_day.calls("abuseipdb") if call["path"].endswith("/check")]
    # Without quotas, the checks have no name.
    assert {cost.kind or "check": cost.calls for cost in of("abuseipdb", made).costs} == {
        "check-block": len(blocks),
        "check": len(singles),
    }
    assert blocks


def test_what_is_not_asked_has_a_reason(demo_day: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tlp = {"sources": {"akamai_sia": "AMBER"}}
    use_policy(monkeypatch, tmp_path, quotas=UNLIMITED, tlp=tlp)
    made = plan(START, END)
    one = of("virustotal", made)
    assert all(one.count(reason) for reason in ("private", "protected", "TLP"))
    assert len(one.fates) == made.observables
    assert 0 < one.asked_for_high < one.count("asked")


def test_frozen_asks_nobody_and_says_what_is_known(demo_day: SimServer) -> None:
    made = plan(START, END, frozen=True)
    one = of("abuseipdb", made)
    assert one.calls == 0
    assert one.count("asked") == 0
    assert one.count("not known") > 0
    assert "frozen: nobody is asked" in made.render()


def test_a_provider_without_a_connection_costs_nothing_and_is_named(
    demo_day: SimServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_MISP_DEFAULT")
    monkeypatch.delenv("AIRFLOW_CONN_AKAMAI_SIA_DEFAULT")
    settings.ledger().close()  # as the first run makes it
    assert main([*COMMAND, START.isoformat(), "--to", END.isoformat(), "--minimum-severity", "critical"]) == 0
    printed = capsys.readouterr().out
    assert "skipped: no connection 'misp_default'" in printed
    assert "Source akamai_sia is left out" in printed
    assert "No provider was asked." in printed


@pytest.mark.parametrize(
    ("start", "end", "problem"),
    [("2026-01-31T08:10Z", "2026-02-01", "no full hour"), ("2026-02-01", "2026-01-31", "not after")],
)
def test_a_range_that_is_none_is_refused(
    start: str, end: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, start, "--to", end]) == 2
    assert problem in capsys.readouterr().err


def test_without_any_source_there_is_no_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_policy(monkeypatch, tmp_path)
    with pytest.raises(CannotPlan, match="no source"):
        plan(START, END)


def test_the_first_windows_overlap_counts_what_nobody_has_read(demo_day: SimServer) -> None:
    refresh()
    early = plan(START, END).findings
    backfill(START - 3 * HOUR, START, providers=[])
    assert len(settings.ledger().windows.rows()) == 6
    late = plan(START, END).findings
    assert late.total() < early.total()
