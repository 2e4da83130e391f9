"""A SOC's own templates, through the three incident stages: used, and never at the cost of an incident."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from include.soar.incident import render, views
from tests.stages.incidents.incident_examples import ATTACKER, actions, case, finding
from tests.stages.incidents.incident_products import Product
from tests.stages.incidents.incident_runs import Runs

OURS = """{{% extends "shipped/{name}" %}}
{{% block observables %}}<p>by our own template</p>{{% endblock %}}
"""
BROKEN = "<p>\n{{ nobody_knows_this }}</p>"
TEXTS = [view.template for view in get_args(views.View) if view.template.endswith(".html.j2")]


def written(product: Product, runs: Runs) -> list[str]:
    """Every text, after all stages have run twice."""
    batch = case(finding("f-1"))
    by_hand = product.seed("by hand", ATTACKER, days=2)
    for _ in range(2):
        opened = runs.open(batch)
        runs.relate(batch, opened)
        runs.update(batch, opened, actions={"waf": actions()})
    ours = product.held()[-1]
    return [ours.description, *product.comments(by_hand), *product.comments(ours.id)]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    made = tmp_path / "texts"
    made.mkdir()
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__TEMPLATES", str(made))
    return made


def test_the_own_templates_write_every_text_once(product: Product, runs: Runs, folder: Path) -> None:
    for name in TEXTS:
        (folder / name).write_text(OURS.format(name=name), encoding="utf-8")
    told = written(product, runs)
    assert len(told) == 3
    assert all("by our own template" in text for text in told)


def test_broken_templates_lose_no_incident_and_no_comment(product: Product, runs: Runs, folder: Path) -> None:
    for name in TEXTS:
        (folder / name).write_text(BROKEN, encoding="utf-8")
    description, related, report = written(product, runs)
    assert "<th>why an incident</th>" in description
    assert "Related: " in related
    assert "Response: 1 blocked" in report


def test_own_comments_without_a_reference_are_written_once(product: Product, runs: Runs, folder: Path) -> None:
    for name in TEXTS:
        shipped = (render.SHIPPED / name).read_text("utf-8")
        (folder / name).write_text(shipped.replace("{{ reference }}", ""), encoding="utf-8")
    assert len(written(product, runs)) == 3
