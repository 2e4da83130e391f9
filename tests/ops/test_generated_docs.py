"""What documents say of options and tries is what the code does."""

from __future__ import annotations

import pytest
from api_threat_response import api_threat_response

from include.ops.generated_docs import DEPLOYMENT, ROOT, with_options, with_tries


def test_the_deployment_page_has_the_options() -> None:
    text = DEPLOYMENT.read_text("utf-8")
    assert with_options(text) == text, "python -m include.ops.generated_docs"


def test_the_runbook_says_how_often_a_task_is_tried() -> None:
    text = (ROOT / "docs/runbook.md").read_text("utf-8")
    assert with_tries(text, api_threat_response().default_args["retries"]) == text


def test_a_document_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="options:begin"):
        with_options("no marks")
    with pytest.raises(ValueError, match="says 0 times"):
        with_tries("no sentence", 6)
