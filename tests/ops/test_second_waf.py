"""A second WAF, made as docs/add-a-vendor.md says: is it in the DAG, does it keep the promises, what is named?"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.ops.conftest import Run

PAGE = (ROOT / "docs/add-a-vendor.md").read_text("utf-8").partition("## Add a control")[2]
#: Place in the project -> the file, whole.
FILES: dict[str, str] = dict(re.findall(r"(?ms)^##### `([^`\n]+)`\n\n````\w+\n(.*?)^````$", PAGE))
DAG = "dags/api_threat_response.py"

#: What the completeness test names, with each file of the page taken away in turn, and with none.
NAMED = """
import json, sys
from pathlib import Path
import tests.conftest
from tests.project.test_completeness import missing
named = {"": missing("acme_waf")}
for file in json.load(sys.stdin):
    path, away = Path(file), Path("away")
    path.rename(away)
    named[file] = missing("acme_waf")
    away.rename(path)
print(json.dumps(named))
"""
TASKS = f"""
import sys
sys.path[:0] = ["plugins", "dags"]
import {Path(DAG).stem} as file
tasks = file.{Path(DAG).stem}().task_dict
print(*tasks)
print(*sorted(tasks["block.waf.acme_waf"].upstream_task_ids), *tasks["block.waf.acme_waf"].downstream_task_ids)
"""


@pytest.fixture
def second_waf(copy: Path, run: Run) -> Path:
    for name, text in FILES.items():
        file = copy / name
        assert not file.exists(), "the page would write over a file that is there"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    [lines] = re.findall(r"(?ms)^```bash\n(.*?)^```$", PAGE)
    run("sh", "-e", "-c", lines)
    return copy


def test_the_page_makes_a_second_waf(second_waf: Path, run: Run) -> None:
    python = (sys.executable, "-c")
    tasks, around = run(*python, TASKS).splitlines()[-2:]
    assert {"block.waf.akamai_client_lists", "block.waf.acme_waf"} <= set(tasks.split())
    told = {"update_incidents", "approved.update_incidents"}
    assert {"plan_blocks", "open_incidents", "fail_the_run", *told} == set(around.split())
    assert (second_waf / DAG).read_bytes() == (ROOT / DAG).read_bytes()

    suites = "tests/stages/controlling/test_control_contract.py", "tests/project/test_completeness.py"
    of_it = "acme_waf or every_registered_vendor or every_folder_and_simulator or every_stage"
    tested = run(
        *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-k", of_it, "-rA"),
        *("tests/vendors/acme_waf", *suites, "tests/dags/test_dag.py"),
    )
    for suite in (*suites, "tests/dags/test_dag.py", *(name for name in FILES if "/test_" in name)):
        assert f"PASSED {suite}::" in tested, suite

    new = [name for name in FILES if name.endswith(".py")]
    run(sys.executable, "-m", "ruff", "check", "--no-cache", *new)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *new)


def test_each_file_that_is_missing_is_named(second_waf: Path, run: Run) -> None:
    named = json.loads(run(sys.executable, "-c", NAMED, stdin=json.dumps(list(FILES))).splitlines()[-1])
    assert named.pop("") == []
    assert named == {file: [re.sub(r"samples/.*", "samples/*", file)] for file in FILES}
