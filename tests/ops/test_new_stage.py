"""A new stage, made as docs/add-a-stage.md says: one file, one key, one line. Is it in the DAG, and does it work?"""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path

import pytest

from include.soar.model import IncidentBatch, IncidentOutcome, IncidentRef
from tests.conftest import ROOT
from tests.ops.conftest import Run

PAGE = (ROOT / "docs/add-a-stage.md").read_text("utf-8")
#: What to do, where, and the code.
STEPS: list[tuple[str, str, str]] = re.findall(
    r"(?ms)^<!-- (file|after|before): (.+?) -->\n```python\n(.*?)^```$", PAGE
)
REGISTRY, DAG = "plugins/threat_response/registry.py", "dags/api_threat_response.py"

#: The DAG's tasks, and what the new task gives for the incidents on standard input; or how the import of the DAG fails.
READ = """
import json, sys
import tests.conftest
try:
    from api_threat_response import api_threat_response
    tasks = api_threat_response().task_dict
except LookupError as error:
    print(json.dumps({"error": str(error)}))
    raise SystemExit
task = tasks["notify.splunk"]
task.incidents = json.load(sys.stdin)
end = tasks["fail_the_run"]
found = {"told": task.execute({}), "end": sorted(end.upstream_task_ids), "tasks": sorted(set(tasks) - {"fail_the_run"})}
print(json.dumps({**found, "upstream": sorted(task.upstream_task_ids), "rule": task.trigger_rule}))
"""
READ_COMMAND = (sys.executable, "-c", READ)


def incident(marker: str, outcome: IncidentOutcome) -> IncidentRef:
    return IncidentRef(
        finding_uid=marker,
        marker=marker,
        title=f"Incident {marker}",
        unique_id=marker,
        readable_id=f"INC-{marker}",
        outcome=outcome,
        url=f"https://respond.example/{marker}",
    )


INCIDENTS = IncidentBatch(
    incidents=(incident("new", IncidentOutcome.CREATED), incident("old", IncidentOutcome.EXISTING))
).to_json()


def with_line(path: Path, where: str, mark: str, line: str) -> None:
    """The file with a line before or after the one that has the mark, indented as that one."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    [at] = [number for number, text in enumerate(lines) if text.strip().startswith(mark)]
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines.insert(at + (where == "after"), f"{indent}{line.strip()}\n")
    path.write_text("".join(lines), "utf-8")


@pytest.fixture
def new_stage(copy: Path) -> Path:
    """The file of the new stage, in a copy of the project in which the page was followed."""
    [(_, name, code), (_, key, entry), (_, line, call)] = STEPS
    assert [step for step, _, _ in STEPS] == ["file", "after", "before"]
    file = copy / name
    assert not file.exists()
    file.write_text(code, "utf-8")
    with_line(copy / REGISTRY, "after", key, entry)
    with_line(copy / DAG, "before", line, call)
    return file


def test_the_page_makes_a_stage(copy: Path, new_stage: Path, run: Run) -> None:
    for path in (REGISTRY, DAG):  # one line each, and none other
        before, after = ((root / path).read_text("utf-8").splitlines() for root in (ROOT, copy))
        assert len([line for line in difflib.ndiff(before, after) if line[0] in "+-"]) == 1, path
    found = json.loads(run(*READ_COMMAND, stdin=json.dumps(INCIDENTS)).splitlines()[-1])
    assert found["told"] == ["new"]
    assert "notify.splunk" in found["tasks"]
    assert found["end"] == found["tasks"]  # the end waits for each of them
    assert (found["upstream"], found["rule"]) == (["open_incidents"], "all_done")
    tested = run(
        *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-rA", "tests/project/test_completeness.py"),
        *("tests/dags/test_dag.py", "-k", "test_dag or of_a_stage or serves_a_stage"),
    )
    assert re.search(r"PASSED tests/project/test_completeness.py::.*\[notify-splunk\]", tested)
    assert "PASSED tests/dags/test_dag.py::test_every_registered_vendor_has_its_task" in tested
    changed = [str(new_stage), REGISTRY, DAG]
    run(sys.executable, "-m", "ruff", "check", "--no-cache", *changed)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *changed)


def test_a_stage_without_its_file_or_its_class_is_named(new_stage: Path, run: Run) -> None:
    error = (
        "splunk cannot serve notify: there is no NOTIFY in plugins/threat_response/vendors/splunk/operators.py, "
        "nor in plugins/threat_response/stages/notify.py"
    )
    whole = new_stage.read_text("utf-8")
    assert "NOTIFY = Notify\n" in whole
    new_stage.write_text(whole.replace("NOTIFY = Notify\n", ""), "utf-8")
    assert json.loads(run(*READ_COMMAND).splitlines()[-1]) == {"error": error}
    new_stage.unlink()
    assert json.loads(run(*READ_COMMAND).splitlines()[-1]) == {"error": error}
