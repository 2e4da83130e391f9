"""The generated parts of the documents are those that the code gives."""

from __future__ import annotations

import pytest
from api_threat_response import api_threat_response

from include.ops.generated_docs import PARTS, ROOT, options_table, refusals_table, with_parts, with_tries
from include.soar.judge.refusals import REFUSALS
from threat_response.config import CONFIG, SECTION


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


def test_the_runbook_says_how_often_a_task_is_tried() -> None:
    text = (ROOT / "docs/runbook.md").read_text("utf-8")
    assert with_tries(text, api_threat_response().default_args["retries"]) == text


def test_a_document_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="generated: refusals"):
        with_parts("# A document", {"refusals": refusals_table})
    with pytest.raises(ValueError, match="says 0 times"):
        with_tries("no sentence", 6)
