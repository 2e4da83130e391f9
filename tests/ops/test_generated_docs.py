"""The generated parts of the documents are those that the code gives."""

from __future__ import annotations

import pytest

from include.ops.generated_docs import PARTS, ROOT, refusals_table, with_parts
from include.soar.judge.refusals import REFUSALS


@pytest.mark.parametrize("name", list(PARTS))
def test_a_documents_generated_parts_are_up_to_date(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == with_parts(text, PARTS[name]), "run: python -m include.ops.generated_docs"


def test_the_table_of_refusals_has_every_rule_in_its_order() -> None:
    rows = refusals_table().splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == [rule.__name__.replace("_", " ") for rule in REFUSALS]
    assert all(len(row.split(" | ")[2]) > 20 for row in rows)


def test_a_document_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="generated: refusals"):
        with_parts("# A document", {"refusals": refusals_table})
