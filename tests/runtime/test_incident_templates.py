"""Where the incident's templates come from, and who hears of one that fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.soar.incident import texts
from threat_response.runtime import settings


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear = Ear(logging.WARNING)
    settings.log.addHandler(ear)
    yield heard
    settings.log.removeHandler(ear)


def test_the_folders_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THREAT_RESPONSE_TEMPLATES", raising=False)
    assert settings.templates() == ()
    monkeypatch.setenv("THREAT_RESPONSE_TEMPLATES", "")
    assert settings.templates() == ()
    monkeypatch.setenv("THREAT_RESPONSE_TEMPLATES", "/soc/texts:/soc/night")
    assert settings.templates() == (Path("/soc/texts"), Path("/soc/night"))


def test_a_socs_text_is_used_and_an_error_in_one_is_logged_on_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warnings: list[str]
) -> None:
    monkeypatch.setenv("THREAT_RESPONSE_TEMPLATES", str(tmp_path))
    file = tmp_path / "duplicate_note.html.j2"
    file.write_text("<p>see {{ name }}</p>", encoding="utf-8")
    assert texts.duplicate_note("INC1", templates=settings.incident_templates()) == "<p>see INC1</p>"
    assert warnings == []
    file.write_text("<p>\nsee {{ nobody }} instead</p>", encoding="utf-8")
    assert texts.duplicate_note("INC1", templates=settings.incident_templates()) == "<p>duplicate of INC1</p>"
    [warning] = warnings
    assert f"{file}:2: 'nobody' is undefined" in warning
    assert "\n" not in warning


def test_a_folder_that_is_not_there_is_said_and_the_shipped_texts_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warnings: list[str]
) -> None:
    monkeypatch.setenv("THREAT_RESPONSE_TEMPLATES", str(tmp_path / "nowhere"))
    assert texts.duplicate_note("INC1", templates=settings.incident_templates()) == "<p>duplicate of INC1</p>"
    assert warnings == [f"incident texts: there is no folder {tmp_path}/nowhere"]
