"""The comparison with other extractors: is it fair, does it count rightly, and does it end what hangs?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from include.bench.extract import __main__ as command
from include.bench.extract.__main__ import BEGIN, END
from include.bench.extract.compare import Score, TooSlow, Worker, hostile_texts, judged, own_cases, registered
from include.bench.extract.corpora import CORPORA, corpus, megabytes
from include.soar.extract.text import extract_text

ADDRESS, DOMAIN, URL = ("ipv4-addr", "203.0.113.7"), ("domain-name", "evil.info"), ("url", "http://evil.info/a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Evil.example EVIL.EXAMPLE", "Evil.info EVIL.INFO"),
        ("evil%2Eexample", "evil%2Einfo"),
        ("&#101;&#120;&#97;&#109;&#112;&#108;&#101;", "&#105;&#110;&#102;&#111;"),
        ("k=aHR0cDovL2V2aWwuZXhhbXBsZS9h", "k=aHR0cDovL2V2aWwuaW5mby9h"),
        ("bm8gbmFtZSB3aXRoaW4gdGhpcw==", "bm8gbmFtZSB3aXRoaW4gdGhpcw=="),
        ("/samples/with_many-letters/in", "/samples/with_many-letters/in"),
    ],
)
def test_peers_are_asked_for_names_that_they_can_know(text: str, expected: str) -> None:
    assert registered(text) == expected


def test_the_renamed_cases_ask_for_as_much_as_those_of_the_tests() -> None:
    cases = own_cases()
    assert not [case["text"] for case in cases if "example" in case["text"].lower()]
    unlike = [
        case["text"]
        for case in cases
        for expected, found in [judged(case, {(i.type.value, i.value) for i in extract_text(case["text"])}, set())]
        if expected != found
    ]
    assert unlike == []


def test_what_comes_with_a_url_is_neither_right_nor_wrong() -> None:
    case = {"expect": {"url": [URL[1]], "ipv4-addr": [ADDRESS[1]], "cidr": ["203.0.113.0/24"]}}
    expected, found = judged(case, {URL, DOMAIN, ("domain-name", "other.info")}, {"cidr"})
    assert expected == {URL, ADDRESS}
    assert found == {URL, ("domain-name", "other.info")}
    score = Score()
    score.add(expected, found)
    score.add(set(), {ADDRESS})
    assert (score.cases, score.exact, score.right, score.wrong, score.missed) == (2, 0, 1, 2, 1)
    assert (score.negatives, score.wrong_on_negatives, score.f1) == (1, 1, 2 / 5)


@pytest.mark.parametrize("kind", CORPORA)
def test_a_corpus_is_the_same_each_time_and_has_something_to_find(kind: str) -> None:
    texts = corpus(kind, 1, 20_000)
    assert texts == corpus(kind, 1, 20_000) != corpus(kind, 2, 20_000)
    assert 0.02 <= megabytes(texts) < 0.06
    assert len({item.observable for text in texts for item in extract_text(text)}) > 20


def test_there_are_enough_hostile_texts_each_of_another_kind() -> None:
    texts = hostile_texts(1000)
    assert len(texts) >= 56
    assert len(set(texts.values())) == len(texts)
    assert {len(text) for text in texts.values()} == {1000}


def test_an_extractor_that_hangs_is_ended_and_starts_again() -> None:
    worker = Worker("ours", Path(sys.executable))
    try:
        assert worker.ask(["203.0.113.7", ""], 30)["found"] == [[["ipv4-addr", "203.0.113.7"]], []]
        first = worker.process
        with pytest.raises(TooSlow):
            worker.ask(["203.0.113.7 " * 2_000_000], 0.01)
        assert first is not None
        assert first.returncode is not None
        assert worker.ask(["203.0.113.7"], 30)["found"] == [[["ipv4-addr", "203.0.113.7"]]]
    finally:
        worker.end()


def test_what_was_measured_is_written_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "record.md"
    path.write_text(f"Before.\n\n{BEGIN}old\n{END}\nAfter.\n")
    command.write(path, "new\n\n")
    assert path.read_text() == f"Before.\n\n{BEGIN}\n```text\nnew\n```\n\n{END}\nAfter.\n"
    path.write_text("No marks.\n")
    with pytest.raises(SystemExit, match="no place"):
        command.write(path, "new")
