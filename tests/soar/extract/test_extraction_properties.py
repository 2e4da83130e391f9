"""What holds of extraction for every observable: defanging, rendering, neighbours and encodings do not change it."""

from __future__ import annotations

import base64
import html
import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from include.soar.extract.refang import refang
from include.soar.extract.text import extract_text
from include.soar.model import HASH_BY_LENGTH, Observable, ObservableType

ROOT = Path(__file__).resolve().parents[3]
Kind = ObservableType


def made(kind: ObservableType, values: st.SearchStrategy[str]) -> st.SearchStrategy[Observable]:
    return values.map(lambda value: Observable(type=kind, value=value))


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


LABELS = st.from_regex(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){1,12}", fullmatch=True).filter(lambda label: "--" not in label)
#: Under suffixes where a bare name is hardly ever a file; ``of`` would read as an element of a list in prose.
NAMES = st.builds(
    lambda labels, suffix: ".".join([*labels, suffix]),
    st.lists(LABELS, min_size=1, max_size=3),
    st.sampled_from(["example", "co.uk", "com", "xn--p1ai"]),
).filter(lambda name: name.split(".")[0] not in ("com", "org", "net", "java", "this", "self", "window"))
V4 = st.integers(2**24, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number)))
V6 = st.integers(0, 2**96 - 1).map(lambda host: str(ipaddress.IPv6Address((0x20010DB8 << 96) + host)))
HEX = "0123456789abcdef"
HASHES = st.sampled_from(sorted(HASH_BY_LENGTH)).flatmap(lambda size: st.text(HEX, min_size=size, max_size=size))
#: Never empty: http://a.example is http://a.example/.
PATHS = st.from_regex(
    r"(?:/[a-z0-9_-]{1,8}){0,3}/(?:\?[a-z]{1,4}=[a-z0-9]{1,8})?|(?:/[a-z0-9_-]{1,8}){0,2}/[a-z0-9_-]{0,7}[a-z0-9-]",
    fullmatch=True,
)
URLS = joined(st.sampled_from(["http://", "https://", "ftp://"]), NAMES | V4 | V6.map("[{}]".format), PATHS)

OF_EACH_TYPE: dict[ObservableType, st.SearchStrategy[Observable]] = {
    Kind.IPV4: made(Kind.IPV4, V4),
    Kind.IPV6: made(Kind.IPV6, V6),
    Kind.DOMAIN: made(Kind.DOMAIN, NAMES),
    Kind.URL: made(Kind.URL, URLS),
    Kind.EMAIL: made(
        Kind.EMAIL,
        joined(st.from_regex(r"[a-z][a-z0-9]{0,8}(?:[._+-][a-z0-9]{1,8})?", fullmatch=True), st.just("@"), NAMES),
    ),
    Kind.FILE: made(Kind.FILE, HASHES.filter(lambda value: len(set(value)) > 3 and not value.isdecimal())),
    Kind.ASN: made(Kind.ASN, st.integers(1, 2**32 - 1).map("AS{}".format)),
    Kind.CIDR: made(
        Kind.CIDR,
        st.tuples(V4, st.integers(1, 31)).map(lambda pair: str(ipaddress.ip_network(pair, strict=False)))
        | st.tuples(V6, st.integers(16, 127)).map(lambda pair: str(ipaddress.ip_network(pair, strict=False))),
    ),
    Kind.VULNERABILITY: made(
        Kind.VULNERABILITY,
        st.tuples(st.integers(1999, 2099), st.integers(1000, 9999999)).map(lambda pair: f"CVE-{pair[0]}-{pair[1]}"),
    ),
}
ANY = st.one_of(*OF_EACH_TYPE.values())
EACH_TYPE = pytest.mark.parametrize("kind", OF_EACH_TYPE, ids=lambda kind: kind.value)
FEW = settings(max_examples=25, deadline=None)

#: Words and marks that name nothing and take nothing away from what stands beside them.
BEFORE = ["", "seen: ", "(", "[", "“", "src=", "then ", "→ ", "\n", "| ", "攻击来自 "]
AFTER = ["", ".", ", then", ")", "]", "”", "; gone", " …", "\n", " |", "!", "?"]


def found(text: str) -> set[Observable]:
    """What stands in the text by itself; the hosts of URLs are left aside."""
    return {item.observable for item in extract_text(text) if not item.derived}


# --- defanging ---------------------------------------------------------------------------------------------------

DEFANGINGS: dict[str, Callable[[str], str]] = {
    "square": lambda text: text.replace(".", "[.]").replace("@", "[at]").replace("://", "[:]//"),
    "round": lambda text: text.replace(".", "(.)").replace("@", "(at)"),
    "curly": lambda text: text.replace(".", "{.}").replace("@", "{at}"),
    "words": lambda text: text.replace(".", "[dot]").replace("@", "[@]").replace("://", "[://]"),
    "escaped": lambda text: text.replace(".", "\\."),
    "last dot": lambda text: "[.]".join(text.rsplit(".", 1)),
    "mixed": lambda text: text.replace(".", "[.)", 1).replace(".", "{.]", 2),
    "zero width": lambda text: text.replace(".", "\u200b.\u200b"),
}
HXXP = re.compile(r"^(h)tt(ps?)(?=://|\[)|^f(t)p(?=://|\[)")


def hxxp(text: str) -> str:
    return HXXP.sub(lambda match: f"{match[1]}xx{match[2]}" if match[1] else "fxp", text)


@EACH_TYPE
@given(data=st.data())
@FEW
def test_refang_takes_back_every_way_to_defang(kind: ObservableType, data: st.DataObject) -> None:
    value = data.draw(OF_EACH_TYPE[kind]).value
    for defang in DEFANGINGS.values():
        assert refang(defang(value)) == value
        assert refang(hxxp(defang(value))) == value
    assert refang(value) == value


@EACH_TYPE
@given(data=st.data(), before=st.sampled_from(BEFORE), after=st.sampled_from(AFTER))
@FEW
def test_a_defanged_observable_is_found_in_a_sentence(
    kind: ObservableType, data: st.DataObject, before: str, after: str
) -> None:
    observable = data.draw(OF_EACH_TYPE[kind])
    for defang in DEFANGINGS.values():
        assert found(f"{before}{hxxp(defang(observable.value))}{after}") == {observable}


# --- rendering and neighbours ------------------------------------------------------------------------------------


@EACH_TYPE
@given(data=st.data())
@FEW
def test_a_rendered_observable_is_found_again(kind: ObservableType, data: st.DataObject) -> None:
    observable = data.draw(OF_EACH_TYPE[kind])
    assert found(observable.value) == {observable}
    if kind not in (Kind.URL, Kind.EMAIL):
        assert found(observable.value.upper()) == {observable}


@given(st.lists(ANY, max_size=4), st.lists(ANY, max_size=4), st.sampled_from(BEFORE), st.sampled_from(AFTER))
@FEW
def test_neutral_text_around_changes_nothing(
    first: list[Observable], second: list[Observable], before: str, after: str
) -> None:
    left, right = (" and ".join(o.value for o in some) for some in (first, second))
    assert found(left) == set(first)
    assert found(f"{before}{left}{after}") == set(first)
    assert found(f"{left} nothing to see here \n{right}") == {*first, *second}


@given(st.lists(ANY, min_size=2, max_size=5, unique=True))
@FEW
def test_what_stands_first_comes_first(observables: list[Observable]) -> None:
    items = [item for item in extract_text("\n".join(o.value for o in observables)) if not item.derived]
    assert [item.observable for item in items] == observables
    assert [item.start for item in items] == sorted(item.start for item in items)
    assert {item.steps for item in items} == {()}


# --- encodings ---------------------------------------------------------------------------------------------------


def json_escaped(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", lambda match: f"\\u{ord(match[0]):04x}", text)


def entities(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", lambda match: f"&#{ord(match[0])};", text)


ENCODINGS: dict[str, Callable[[str], str]] = {
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "html": entities,
    "json": json_escaped,
    "base64": lambda text: base64.b64encode(f"value: {text}\r\n".encode()).decode(),
}


@pytest.mark.parametrize("step", ENCODINGS)
@given(observable=ANY)
@FEW
def test_what_is_encoded_is_found_and_the_step_is_named(step: str, observable: Observable) -> None:
    text = ENCODINGS[step](observable.value)
    assume(text != observable.value)
    for around in ("{}", "k={}", '{{"k": "{}"}}', "GET /?k={} HTTP/1.1"):
        steps = {item.observable: item.steps for item in extract_text(around.format(text))}
        assert steps.get(observable) == (step,)


@given(OF_EACH_TYPE[Kind.URL], st.permutations(["percent", "base64"]))
@FEW
def test_steps_are_named_from_the_outside_in(observable: Observable, order: list[str]) -> None:
    text = observable.value
    for step in reversed(order):
        text = ENCODINGS[step](text)
    steps = {item.observable: item.steps for item in extract_text(text)}
    assert steps[observable] == tuple(order)


@given(OF_EACH_TYPE[Kind.URL], OF_EACH_TYPE[Kind.URL])
@FEW
def test_a_url_within_a_url_is_found_too(outer: Observable, inner: Observable) -> None:
    assume("?" not in outer.value)
    carrier = f"{outer.value}?next={quote(inner.value, safe='')}"
    steps = {item.observable: item.steps for item in extract_text(carrier)}
    assert steps[Observable(type=Kind.URL, value=carrier)] == ()
    assert inner in steps


@given(ANY)
@FEW
def test_html_source_reads_as_its_text(observable: Observable) -> None:
    assert found(f"<td>{html.escape(observable.value)}</td>") == {observable}


# --- determinism -------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from include.soar.extract.text import extract_text
for item in extract_text(sys.stdin.read()):
    print(item.type.value, item.value, item.start, item.steps, item.derived)
"""


def test_the_output_does_not_depend_on_the_hash_seed() -> None:
    text = "\n".join(f"203.0.113.{n} h{n}.example http%3A%2F%2Fu{n}.example%2Fa CVE-2026-{1000 + n}" for n in range(40))
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == 40 * 5
