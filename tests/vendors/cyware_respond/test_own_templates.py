"""A SOC's own templates, through the three incident stages: used, and never at the cost of an incident."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.soar.incident import render, views
from tests.support import SimServer
from tests.vendors.cyware_respond.support import ATTACKER, actions, case, comments, finding, incidents
from tests.vendors.cyware_respond.test_operators import older_case, open_incidents, relate, update

pytestmark = pytest.mark.usefixtures("connected")

OURS = """{{% extends "shipped/{name}" %}}
{{% block observables %}}<p>by our own template</p>{{% endblock %}}
"""
BROKEN = "<p>\n{{ nobody_knows_this }}</p>"
TEXTS = [view.template for view in views.VIEWS if view.template.endswith(".html.j2")]


def written(sim: SimServer) -> list[str]:
    """Every text, after all stages have run twice."""
    batch = case(finding("f-1"))
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    for _ in range(2):
        opened = open_incidents(batch)
        relate(batch, opened)
        update(batch, opened, actions={"waf": actions()})
    by_hand, ours = incidents(sim)
    return [ours["description"], *comments(sim, by_hand["unique_id"]), *comments(sim, ours["unique_id"])]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    made = tmp_path / "texts"
    made.mkdir()
    monkeypatch.setenv("THREAT_RESPONSE_TEMPLATES", str(made))
    return made


def test_the_own_templates_write_every_text_once(sim: SimServer, folder: Path) -> None:
    for name in TEXTS:
        (folder / name).write_text(OURS.format(name=name), encoding="utf-8")
    told = written(sim)
    assert len(told) == 3
    assert all("by our own template" in text for text in told)


def test_broken_templates_lose_no_incident_and_no_comment(sim: SimServer, folder: Path) -> None:
    for name in TEXTS:
        (folder / name).write_text(BROKEN, encoding="utf-8")
    description, related, report = written(sim)
    assert "<th>why an incident</th>" in description
    assert "Related: " in related
    assert "Response: 1 blocked" in report


def test_own_comments_without_a_reference_are_not_written_again_and_again(sim: SimServer, folder: Path) -> None:
    for name in TEXTS:
        shipped = (render.SHIPPED / name).read_text("utf-8")
        (folder / name).write_text(shipped.replace("{{ reference }}", ""), encoding="utf-8")
    assert len(written(sim)) == 3
