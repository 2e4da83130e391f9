"""The generated parts of the documents are those that the code gives."""

from __future__ import annotations

import re

import pytest
from api_threat_response import api_threat_response

from include.ops.generated_docs import (
    PARTS,
    ROOT,
    flow_picture,
    incident_excerpt,
    options_table,
    refusals_table,
    rooms_picture,
    stages_table,
    with_parts,
    with_tries,
)
from include.soar.judge.refusals import REFUSALS
from threat_response.config import CONFIG, SECTION
from threat_response.registry import SERVES, vendors


@pytest.mark.parametrize("name", list(PARTS))
def test_a_documents_generated_parts_are_up_to_date(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == with_parts(text, PARTS[name]), "run: python -m include.ops.generated_docs"


def test_the_table_of_refusals_has_every_rule_in_its_order() -> None:
    rows = refusals_table().splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == [rule.__name__.replace("_", " ") for rule in REFUSALS]
    assert all(len(row.split(" | ")[2]) > 20 for row in rows)


def test_the_table_of_options_has_every_option() -> None:
    rows = options_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(CONFIG[SECTION]["options"])


def test_the_picture_of_the_rooms_has_every_folder_once_and_no_other() -> None:
    shown = [line.split()[0] for line in rooms_picture().splitlines() if line.startswith("    ")]
    folders = {
        path.stem
        for place in ("plugins/threat_response", "include/soar")
        for path in (ROOT / place).iterdir()
        if not path.name.startswith("__")
    }
    assert len(shown) == len(set(shown))
    # Files beside the wings may be missing in the picture, wings and rooms may not.
    assert set(shown) <= folders
    assert folders - set(shown) <= {"cli", "config", "provider_info", "warm"}


def test_the_readmes_incident_is_a_part_of_the_sample() -> None:
    shown = incident_excerpt().splitlines()[1:-1]
    whole = (ROOT / "docs/pictures/incident.txt").read_text("utf-8")
    cells = [cell.removesuffix("…") for line in shown for cell in re.split(r" {2,}", line)]
    assert len(shown) > 10
    assert [cell for cell in cells if cell not in whole] == []
    assert max(map(len, shown)) <= 160


def test_every_vendor_and_every_task_is_in_the_data_flow() -> None:
    picture, table = flow_picture(), stages_table()
    assert [name for name in vendors() if f"`{name}`" not in table] == []
    assert len(table.splitlines()) == len(SERVES) + 2
    tasks = {task.rpartition(".")[2] for task in api_threat_response().task_ids}
    assert sorted(task for task in tasks if task not in picture) == []


def test_the_runbook_says_how_often_a_task_is_tried() -> None:
    text = (ROOT / "docs/runbook.md").read_text("utf-8")
    assert with_tries(text, api_threat_response().default_args["retries"]) == text


def test_a_document_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="generated: refusals"):
        with_parts("# A document", {"refusals": refusals_table})
    with pytest.raises(ValueError, match="says 0 times"):
        with_tries("no sentence", 6)
