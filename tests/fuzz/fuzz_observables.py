"""Extraction under a coverage-guided fuzzer: ``make fuzz`` (``FUZZ_SECONDS=600 make fuzz`` for longer).

Arguments are libFuzzer's. It begins with the texts of ``tests/soar/extract/extraction_cases``; what it finds
interesting joins them in the environment's ``corpus``, until ``make clean``. A text that fails is printed, and
becomes a case there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["include.soar"]):
    from include.soar.extract.refang import refang
    from include.soar.extract.text import extract_text
    from include.soar.extract.values import KINDS
    from include.soar.model import Observable, ObservableType


def check_canonical(observable: Observable) -> None:
    """What was made without validation passes it."""
    assert Observable(type=observable.type, value=observable.value) == observable


def beyond_doubt(observable: Observable) -> str:
    """Written so that it can be nothing else: alone, ``evil.sh`` may be a file and ``::be`` code."""
    match observable.type:
        case ObservableType.DOMAIN:
            return f"http://{observable.value}/"
        case ObservableType.IPV6:
            return f"http://[{observable.value}]/"
    return observable.value


def check(text: str) -> None:
    items = extract_text(text)
    assert len({item.observable for item in items}) == len(items), "an observable was given twice"
    for item in items:
        check_canonical(item.observable)
        # A value that can still be undone (four times escaped) is rightly read as another one.
        if refang(item.value) == item.value:
            alone = {found.observable for found in extract_text(beyond_doubt(item.observable))}
            assert item.observable in alone, f"{item.observable.key} is not found again: {alone}"
    for kind in KINDS.values():
        parsed = kind.parse(text)
        if parsed is not None:
            check_canonical(parsed)
            # A network of one address is that address.
            again = KINDS[parsed.type].parse(parsed.value)
            assert again == parsed, f"{parsed.type.value} reads its own answer otherwise"


def one_input(data: bytes) -> None:
    """A text of any characters, lone surrogates aside: nothing that we read can hold one."""
    check(atheris.FuzzedDataProvider(data).ConsumeUnicodeNoSurrogates(len(data)))
    check(data.decode("utf-8", "replace"))


def seeds(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in sorted((ROOT / "tests/soar/extract/extraction_cases").glob("*.yaml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            (folder / case["id"]).write_text(case["text"], encoding="utf-8")


if __name__ == "__main__":
    corpus = Path(sys.prefix) / "corpus"
    seeds(corpus)
    atheris.Setup([*sys.argv, str(corpus)], one_input)
    atheris.Fuzz()
