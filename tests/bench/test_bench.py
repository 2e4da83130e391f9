"""The benchmark's own parts: does it compare what it says, and do its tables say what was measured?"""

from __future__ import annotations

import runpy
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.bench import enrichment, pure, stages, whole
from include.bench.__main__ import arguments, markdown
from include.bench.load import build_load, public
from include.bench.measure import number, seconds, table, times
from include.bench.stages import Step
from include.bench.whole import EMPTY_DAG, Whole
from include.simulators.demo_feed.cast import CONFIG_ID
from include.soar.extract.findings import observe
from include.soar.model import Finding, Severity
from threat_response.vendors.akamai_api_security import api as api_security
from threat_response.vendors.akamai_sia import api as sia

END = datetime(2026, 3, 4, 12, tzinfo=UTC)


def findings_of(count: int, high: int) -> dict[str, Finding]:
    """The load as the vendors' parsers read it, by uid."""
    day = build_load(END, findings=count, high=high)
    security, rows = day["akamai_api_security"], day["akamai_sia"]["configs"][CONFIG_ID]
    found = [api_security.parse(kind[:-1], public(r)) for kind in ("incidents", "findings") for r in security[kind]]
    return {f.uid: f for f in [*found, *(sia.parse_row(public(row)) for row in rows)]}


def test_only_one_of_the_measurements_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    options = arguments([])
    assert (options.only, options.quick, options.write) == (None, False, None)
    options = arguments(["--only", "2", "--quick", "--write", "b.md"])
    assert (options.only, options.quick, options.write) == (2, True, Path("b.md"))
    with pytest.raises(SystemExit):
        arguments(["--only", "6"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_table_lines_up() -> None:
    text = table("Title", ("what", "n", "s"), [("one", 1200, 0.01234), ("another", 3, 12_345.6)], "A note.")
    assert text.splitlines() == [
        "Title",
        "",
        "what         n       s",
        "-------  -----  ------",
        "one      1,200  0.0123",
        "another      3  12,300",
        "",
        "A note.",
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.00123456, "0.00123"), (4.5678, "4.57"), (999.7, "1,000"), (12345, "12,300")]
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_ratio_needs_something_to_compare_with() -> None:
    assert times(3.0, 2.0) == "1.5 x"
    assert times(3.0, 0.0) == "-"


def test_what_comes_before_a_run_is_done_each_time() -> None:
    order: list[str] = []
    assert seconds(lambda: order.append("work"), 2, before=lambda: order.append("before")) >= 0
    assert order == ["before", "work", "before", "work"]


def test_the_load_has_as_many_findings_as_it_says() -> None:
    for count, high in ((1000, 50), (60, 4)):
        found = findings_of(count, high)
        severities = Counter(f.severity for f in found.values())
        assert len(found) == count
        assert severities[Severity.HIGH] + severities[Severity.CRITICAL] == high


def test_more_findings_bring_more_observables() -> None:
    assert len(observe(findings_of(1000, 50).values())) > 1.5 * len(observe(findings_of(300, 30).values()))


def test_the_pure_measurements_run() -> None:
    tables = list(pure.report(findings=40, hostile_size=400, repeats=1))
    assert [text[:3] for text in tables] == ["1a.", "1b.", "1c.", "1d.", "1d."]
    for name, *_ in pure.HOSTILE:
        assert f"\n{name} " in tables[2]


def test_a_stage_stands_beside_its_calls_or_beside_json() -> None:
    days = [
        [Step("4 open", 10, spent, Counter(respond=30), 9.0), Step("2 extract", 10, 2.0, Counter(), 0.5)]
        for spent in (1.0, 3.0, 2.0)
    ]
    text = stages.render(days, {"respond": (0.01, 0.02)}, findings=10)
    lines = [line.split() for line in text.splitlines()]
    assert ["4", "open", "10", "2", "30", "3.00", "0.3", "6.67", "x"] in lines
    assert ["2", "extract", "10", "2", "0", "-", "0.5", "4", "x"] in lines
    assert ["all", "4", "30", "0.8", "5", "x"] in lines


def test_half_of_the_ipv4_attackers_come_again_on_the_next_day() -> None:
    def attackers(days: int) -> set[str]:
        listed = enrichment.week(END, days)["abuseipdb"]["addresses"]
        old = {value for value in listed if value.startswith("203.0.113.")}
        new = {value for value in listed if value.startswith("192.0.2.")}
        return old | {value for value in new if int(value.rpartition(".")[2]) >= enrichment.FIRST_NEW}

    one, seven = attackers(1), attackers(7)
    replaced = {value for value in one if int(value.rpartition(".")[2]) % 2 == 0}
    assert one <= seven
    assert 0 < len(replaced) < len(one)
    assert len(seven) == len(one) + 6 * len(replaced)
    assert all(int(value.rpartition(".")[2]) <= 255 for value in seven)


def test_a_week_has_other_events_on_each_day() -> None:
    one, two = (enrichment.week(END, days)["akamai_api_security"] for days in (1, 2))
    for kind in ("incidents", "findings"):
        # All but those that have the same broken id every day.
        assert len({record["id"] for record in two[kind]}) > 1.9 * len(one[kind])


@pytest.mark.parametrize(
    ("values", "connections", "quota", "expected"),
    [
        (1000, 8, None, 6.25),
        (1000, 16, None, 3.15),
        (1000, 8, (400, 5), 11.25),
        (400, 8, (400, 5), 2.5),
        (401, 8, (400, 5), 5.05),
        (100, 1, (100, 1), 5.0),
    ],
)
def test_the_limit_is_that_of_the_connections_and_of_the_quota(
    values: int, connections: int, quota: tuple[int, int] | None, expected: float
) -> None:
    assert enrichment.least_seconds(values, connections, quota) == pytest.approx(expected)


def test_a_real_run_stands_beside_the_empty_one_before_it() -> None:
    runs = [Whole("empty 1", 10, 5, 14), Whole("real 1", 15, 9, 14), Whole("empty 2", 20, 5, 14)]
    text = whole.render([*runs, Whole("real 2", 40, 9, 14)], findings=10, high=1)
    assert [line.split()[-2] for line in text.splitlines() if line.startswith(("real", "median"))] == [
        "1.5",
        "2",
        "1.83",
    ]


def test_the_empty_dag_has_the_shape_of_the_real_one(tmp_path: Path) -> None:
    shape = {"fetch.a": ("all_success", ["extract"]), "extract": ("all_done", [])}
    path = tmp_path / "empty.py"
    path.write_text(EMPTY_DAG.format(dag_id="real", shape=shape, empty_id="bench_empty"))
    dag = runpy.run_path(str(path))["empty"]()
    assert {t.task_id: (t.trigger_rule.value, sorted(t.downstream_task_ids)) for t in dag.tasks} == shape


def test_what_is_written_is_what_was_printed() -> None:
    assert markdown("Today.", ["one\n", "two\n"]).endswith("Today.\n\n```text\none\n```\n\n```text\ntwo\n```\n")
