"""Each word has one meaning: the model's words are in the glossary, and the words of the old house are gone."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from include.soar import model
from tests.conftest import ROOT
from tests.project.source import name

#: Old word -> the word of today. As a pattern over the code and the documents; the change log and the records of
#: decisions tell of the past.
GONE = {
    r"\bhouse_id\b|\bHOUSE_NAMESPACE\b": "own_id, OWN_NAMESPACE",
    r"\b[Hh]ouse\b(?!s)": "settings, run, place",
    r"\bleaves_the_house\b|\bstores_answers\b": "is_remote",
    r"\bSilence\b": "NoAnswer",
    r"\bTrouble\b": "Failures",
    r"\bAnswered\b": "ApprovalAnswer",
    r"\bASKING_TASK\b": "APPROVAL_TASK",
    r"\bLooked\b": "Exceeded",
    r"\bcontracts\.py\b|\bplanning\.py\b|\bcyware_respond[./]contract\b": "stages/, plan_enrichment.py, tenant.py",
    r"\bvendors\.(?:base|house|contracts|registry|planning)\b|\bplugins/vendors\b": "threat_response.…",
    r"\btime is over\b": "expired",
    r"\blies here\b|\blie here\b": "local",
    r"\.well\(|\.heard\(|\.trip\(": "recovered, observe, open",
    r"\b_said\(|\bDone\(|-> Done\b": "_action_of, Result",
    r"\bcaps\.look\b": "check_caps",
    r"\bstands? there twice\b": "duplicate",
    r"\bplanned=(?:True|False)": "questions, preview",
    r"\bsoar[./](?:plan|report|store|stages|observables|verdicts|enrichment|evidence|refang|caps|traffic"
    r"|warninglists|asn|errors|wire|quota|forecast)\b": "include/soar/<room>/…",
}
FOLDERS = ("include", "plugins", "dags", "tests", "docs")
#: Words of the past are quoted where they are told of.
TELL_OF_THEM = ("tests/project/test_words.py", "docs/decisions/")


def texts() -> list[Path]:
    found = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".tmpl", ".j2", ".yaml")
    ]
    found += [
        ROOT / file for file in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "docker-compose.yaml")
    ]
    return sorted(path for path in found if not name(path).startswith(TELL_OF_THEM))


@pytest.mark.parametrize("pattern", GONE)
def test_no_old_word_is_left(pattern: str) -> None:
    old = re.compile(pattern)
    found = [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path in texts()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if old.search(line)
    ]
    assert found == [], f"the word is now: {GONE[pattern]}"


def test_the_check_finds_an_old_word() -> None:
    assert all(
        re.search(pattern, text)
        for pattern, text in zip(
            GONE,
            (
                "house_id",
                "the house",
                "stores_answers",
                "Silence",
                "Trouble",
                "Answered",
                "ASKING_TASK",
                "Looked",
                "contracts.py",
                "vendors.base",
                "its time is over",
                "what lies here",
                "meter.well()",
                "self._said(",
                "caps.look",
                "a key that stands there twice",
                "planned=True",
                "include/soar/plan.py",
            ),
            strict=True,
        )
    )


def test_every_class_of_the_model_is_in_the_glossary() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text("utf-8")
    words = {
        found.__name__
        for _, found in inspect.getmembers(model, inspect.isclass)
        if found.__module__.startswith("include.soar.model") and not found.__name__.startswith("_")
    }
    assert len(words) > 20
    assert sorted(word for word in words if not re.search(rf"`{word}`", glossary)) == []
