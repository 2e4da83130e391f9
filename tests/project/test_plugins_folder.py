"""
``plugins/.airflowignore``. Airflow executes every file of the plugins folder that it does not exclude, as a module
named by its bare file name; ``plugins/email.py`` would replace the standard library's (seen on 3.3.2).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from airflow._shared.module_loading import find_path_from_directory
from airflow.configuration import conf

from tests.conftest import ROOT

# Airflow's own, about the library that reads the file.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


def scanned(folder: Path) -> list[str]:
    """What the plugins manager would execute, found as it finds it."""
    syntax = conf.get_mandatory_value("core", "DAG_IGNORE_FILE_SYNTAX", fallback="glob")
    paths = (Path(p) for p in find_path_from_directory(str(folder), ".airflowignore", syntax))
    return sorted(p.relative_to(folder).as_posix() for p in paths if p.is_file() and p.suffix == ".py")


def test_only_plugin_files_are_scanned() -> None:
    found = scanned(ROOT / "plugins")
    assert [path for path in found if not path.endswith("_plugin.py")] == []
    assert found == sorted(p.relative_to(ROOT / "plugins").as_posix() for p in (ROOT / "plugins").rglob("*_plugin.py"))


def test_a_file_with_a_dangerous_name_is_left_alone_wherever_it_lies(tmp_path: Path) -> None:
    shutil.copy(ROOT / "plugins/.airflowignore", tmp_path)
    dangerous = ("email.py", "http.py", "vendors/new/types.py", "page/app.py")
    for path in (*dangerous, "mine_plugin.py", "page/other_plugin.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("", encoding="utf-8")
    assert scanned(tmp_path) == ["mine_plugin.py", "page/other_plugin.py"]


def test_the_guard_is_what_keeps_them_out(tmp_path: Path) -> None:
    """Were the scan to change in another Airflow, the guard could become pointless without anybody noticing."""
    (tmp_path / "email.py").write_text("", encoding="utf-8")
    assert scanned(tmp_path) == ["email.py"]


def test_no_top_level_name_of_ours_hides_another_package() -> None:
    """plugins/ and dags/ are on the path of every Airflow process."""
    names = {p.stem for folder in ("plugins", "dags") for p in (ROOT / folder).iterdir() if p.name[0] not in "._"}
    assert names & sys.stdlib_module_names == set()
    elsewhere = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    done = subprocess.run(
        [sys.executable, "-I", "-c", elsewhere, *sorted(names - {"threat_response"})],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.strip() == "[]"
