"""A new vendor: does what the scaffold writes run at once, does the page that tells of it, and what does it refuse?"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.ops.__main__ import main
from include.ops.new_vendor import FILES, LONGEST_NAME, POLICY, REGISTRY, SHARED, SIMULATORS, scaffold
from include.soar.policy.file import load_policy
from tests.conftest import ROOT
from tests.ops.conftest import Run
from tests.project import test_completeness as completeness

PAGE = (ROOT / "docs/add-a-vendor.md").read_text("utf-8")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A project of nothing but the files that a scaffold adds a line to."""
    for file in (*SHARED, "pyproject.toml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def scripts() -> Iterator[str]:
    return (match[1] for match in re.finditer(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S))


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_page_can_be_followed_to_the_letter(copy: Path, run: Run) -> None:
    done = "".join(run("sh", "-e", "-c", script) for script in scripts())
    # It did what it says, and not nothing.
    assert re.search(r"^\d+ passed", done, re.M)
    assert "tests/vendors/acme_intel/case.py" in done
    assert "plugins/threat_response/vendors/acme_intel/api.py" in "".join(re.findall(r"^.*CHANGE:.*$", done, re.M))
    assert "`acme_intel_default`" in (copy / "README.md").read_text("utf-8")


def test_the_page_says_where_everything_goes() -> None:
    assert {path for path in SHARED if path != REGISTRY} - set(re.findall(r"[\w/]+\.(?:py|yaml)", PAGE)) == set()
    assert len(list(scripts())) == 4


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_missing_is_named(shared: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    scaffold("acme_intel", shared)
    monkeypatch.setattr(completeness, "ROOT", shared)
    # The lines in the shared files are those of the running project.
    before = [what for what in completeness.missing("acme_intel") if " for " not in what]
    assert before == []
    (shared / file).unlink()
    named = file.replace("samples/lookup.json", "samples/*")
    assert named in completeness.missing("acme_intel")


@pytest.mark.parametrize("name", ["ab", "contracts_intel", "base9", "zeta_10", "a123456789_1234567890_12"])
def test_what_is_written_is_formatted_whatever_the_name(shared: Path, name: str) -> None:
    assert len(name) <= LONGEST_NAME
    new = [path for path in scaffold(name, shared) if path.suffix == ".py"]
    # What is ours ruff sees from what is there.
    tests = [f"tests/{file}" for file in ("soar", "stages", "support.py", "vendors/support.py")]
    ours = [f"plugins/threat_response/{folder}" for folder in ("stages", "transport", "vendors/__init__.py")]
    for file in ("include/soar", *ours, *tests):
        (shared / file).symlink_to(ROOT / file)
    for kit in (ROOT / "include/simulators").glob("kit*"):  # a module or a package
        (shared / "include/simulators" / kit.name).symlink_to(kit)
    for command in (["check"], ["format", "--check"]):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *map(str, new)],
            cwd=shared,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout
    assert not [path for path in new if re.search("acme", path.read_text("utf-8"), re.I)]


def test_each_shared_file_gets_its_lines_and_keeps_the_others(shared: Path) -> None:
    before = {path: (ROOT / path).read_text("utf-8").splitlines() for path in SHARED}
    scaffold("acme_intel", shared)
    added = {}
    for path, lines in before.items():
        after = (shared / path).read_text("utf-8").splitlines()
        rest = iter(after)
        assert all(line in rest for line in lines), f"{path} lost a line"
        added[path] = len(after) - len(lines)
    assert added == {REGISTRY: 1, SIMULATORS: 1, POLICY: 4}


def test_its_word_counts_for_nothing_until_a_person_has_graded_it(shared: Path) -> None:
    scaffold("acme_intel", shared)
    policy = load_policy([shared / POLICY])
    assert policy.verdict.reliability[policy.sources["acme_intel"].reliability] == 0
    assert "acme_intel" not in policy.enrichment.providers


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("abuseipdb", "exists already"),
        ("list_feed", "exists already"),
        ("akamai", "a package of Akamai's"),
        ("email", "standard library"),
        ("class", "no name of a module"),
        ("Acme", "no name of a module"),
        ("acme-intel", "no name of a module"),
        ("9lives", "no name of a module"),
        ("_acme", "no name of a module"),
        ("../acme", "no name of a module"),
        ("acmé", "no name of a module"),
        ("acme\n", "no name of a module"),
        ("", "no name of a module"),
        ("a" * (LONGEST_NAME + 1), "longer than"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(
    shared: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    for file in (
        "plugins/threat_response/vendors/abuseipdb/api.py",
        "include/simulators/list_feed/__init__.py",
    ):
        (shared / file).parent.mkdir(parents=True, exist_ok=True)
        (shared / file).touch()
    before = contents(shared)
    assert main(["new-vendor", "--to", str(shared), "--", name]) == 2
    assert why in capsys.readouterr().err
    assert contents(shared) == before


def test_the_same_name_twice_is_refused(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-vendor", "acme_intel", "--to", str(shared)]) == 0
    assert set(FILES) | set(SHARED) <= set(capsys.readouterr().out.splitlines())
    after = contents(shared)
    assert main(["new-vendor", "acme_intel", "--to", str(shared)]) == 2
    assert "exists already: plugins/threat_response/vendors/acme_intel" in capsys.readouterr().err
    assert contents(shared) == after


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (REGISTRY, "SERVES: dict", "GIVES: dict"),
        (REGISTRY, '"enrich": (', '"ask": ('),
        (SIMULATORS, "SIMULATORS = {", "FAKES = {"),
        (POLICY, "\nsources:", "\nvoices:"),
    ],
)
def test_a_shared_file_that_was_changed_is_named_and_nothing_is_written(
    shared: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str
) -> None:
    text = (shared / file).read_text("utf-8")
    assert old in text
    (shared / file).write_text(text.replace(old, new), "utf-8")
    before = contents(shared)
    assert main(["new-vendor", "acme_intel", "--to", str(shared)]) == 2
    assert f"{file}: no place for acme_intel" in capsys.readouterr().err
    assert contents(shared) == before


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-vendor", "acme_intel", "--to", str(tmp_path)]) == 2
    assert "is no copy of this project" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
