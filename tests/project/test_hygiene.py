"""What no file of the project may hold: paths of one machine, addresses of package registries, secrets."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT


def glue(*pieces: str) -> str:
    """Written in pieces, so that this file does not hold what it looks for."""
    return "".join(pieces)


FORBIDDEN = {
    "a path of one machine": re.compile(
        glue(r"(?<![\w.}])(?:/wo", r"rk/|/ro", r"ot/|/Us", r"ers/\w|/ho", r"me/(?!airflow)\w|[A-Z]:\\Us", "ers)")
    ),
    "a package registry": re.compile(
        glue(r"py", r"pi\.org|files\.python", r"hosted|registry\.npm", r"js|deb\.deb", r"ian\.org|--index-", "url"),
        re.I,
    ),
    "a private key": re.compile(glue(r"-----BEGIN (?:[A-Z]+ )?PRIV", "ATE KEY-----")),
    "a conflict that was not solved": re.compile(r"^(?:<{7}|>{7}) ", re.M),
}


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or would be, in git."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git, and a checkout: the files of the project cannot be told from others")
    return tuple(path for n in done.stdout.split("\0") if n and (path := ROOT / n).is_file())


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = []
    for path in files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in FORBIDDEN[what].finditer(text)]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    examples = {
        "a path of one machine": [glue("/wo", "rk/main/x"), glue("cd /ro", "ot/x"), glue('"/ho', 'me/ann"')],
        "a package registry": [glue("https://py", "pi.org/simple"), glue("http://deb.deb", "ian.org")],
        "a private key": [glue("-----BEGIN PRIV", "ATE KEY-----"), glue("-----BEGIN RSA PRIV", "ATE KEY-----")],
        "a conflict that was not solved": ["<" * 7 + " HEAD"],
    }
    for what, texts in examples.items():
        assert [text for text in texts if not FORBIDDEN[what].search(text)] == []
    assert not FORBIDDEN["a path of one machine"].search(
        glue("/opt/airflow /home/airflow https://a.example/wo", "rk/x")
    )


def test_git_holds_no_secret_file_and_nothing_that_a_run_leaves_behind() -> None:
    names = [path.relative_to(ROOT) for path in files()]
    left = [n for n in names if n.suffix in (".db", ".pyc", ".log", ".pem", ".key") or n.name == ".env"]
    assert left == []
    assert [n for n in names if n.parts[0] in (".venv", ".demo", ".hypothesis", ".pytest_cache")] == []


def test_no_file_is_large() -> None:
    assert [path.name for path in files() if path.stat().st_size > 1_000_000] == []
