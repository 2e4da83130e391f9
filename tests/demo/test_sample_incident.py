"""The incident that the documents show is what the code writes."""

from __future__ import annotations

from include.demo.sample_incident import PLACE, sample


def test_the_sample_incident_is_todays() -> None:
    made = sample()
    assert PLACE.read_text("utf-8") == made, "run: python -m include.demo.sample_incident"
    for words in ("[TR-", "blocked", "detect_only", "watched", "Not blocked, and why", "INC105", "203[.]0[.]113["):
        assert words in made, words
