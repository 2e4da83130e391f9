"""What reading the DAG file costs: measured in a fresh process, and said against the budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.bench.dag_import import BUDGET, comparison, read_once
from tests.conftest import ROOT


def test_a_fresh_process_reads_the_dag_file_after_airflow(tmp_path: Path) -> None:
    airflow, over_it = read_once(ROOT, tmp_path)
    assert airflow > 0
    assert over_it > 0


@pytest.mark.parametrize(("ours", "verdict"), [(BUDGET, "kept."), (BUDGET + 0.01, "EXCEEDED.")])
def test_checkouts_are_compared_with_ours_and_ours_with_the_budget(ours: float, verdict: str) -> None:
    told = comparison({"this checkout": [(1.0, ours), (1.0, ours), (9.0, 9.0)], "the other": [(1.0, ours * 4)] * 3})
    assert "4 x" in told
    assert f"Medians of 3, in turns. At most {BUDGET} s over Airflow is the budget: {verdict}" in told
