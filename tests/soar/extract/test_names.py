"""Names in Unicode become the A-labels that a browser would look up, or none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.soar.extract.names import ascii_name
from include.soar.extract.text import extract_text
from include.soar.extract.values import KINDS, parse_any, parse_domain, parse_email, parse_url
from include.soar.model import ObservableType

ZWNJ, ZWJ = "\u200c", "\u200d"
#: A Persian name that needs its non-joiner, and a Hindi one that needs its joiner.
PERSIAN, HINDI = f"\u0646\u0627\u0645\u0647{ZWNJ}\u0627\u06cc", f"\u0915\u094d{ZWJ}\u0937"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        # Where the rules of 2003, which Python's codec has, name another host. The A-labels are those of browsers.
        ("faß.de", "xn--fa-hia.de"),
        ("FAẞ.DE", "xn--fa-hia.de"),
        ("βόλος.gr", "xn--nxasmm1c.gr"),
        ("ΒΌΛΟΣ.gr", "xn--nxasmq6b.gr"),  # a capital is never a final sigma
        (f"{PERSIAN}.com", "xn--mgba3gch31f060k.com"),
        (f"{HINDI}.in", "xn--11b2ezcw70k.in"),
        # Where they agree.
        ("Bücher.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("ｅｖｉｌ．example。", "evil.example"),
        ("a.xn--53h.ü.example", "a.xn--53h.xn--tda.example"),
        ("Evil.EXAMPLE.", "evil.example"),
        # Symbols, which IDNA2008 refuses and browsers resolve.
        ("☕.example", "xn--53h.example"),
        ("☕\ufe0f.example", "xn--53h.example"),
        ("i❤.ws", "xn--i-7iq.ws"),
    ],
)
def test_a_name_is_spelled_as_browsers_spell_it(written: str, expected: str) -> None:
    assert ascii_name(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        f"ev{ZWJ}il.example",
        f"ev{ZWNJ}il.example",
        f"{ZWNJ}.example",
        "\u0301a.example",
        "\u05d0a.example",
        "a\u2488b.example",  # "1." as one character
        "\ufffd.example",
        "ü..example",
        ".ü.example",
        "ü" * 60 + ".example",
        "ü" * 64 + ".example",
        "ü" * 100_000,
        "a" * 60 + "ü.example",
        ".".join("ü" for _ in range(600)),
        chr(0xD800) + ".example",
    ],
    ids=lambda text: ascii(text[:12]) + str(len(text)),
)
def test_what_no_browser_looks_up_is_no_name(written: str) -> None:
    assert ascii_name(written) is None
    assert parse_domain(written) is None


def test_a_hostile_name_costs_nothing_but_itself() -> None:
    bad = ["ü" * 200, f"ev{ZWJ}il" + "ü" * 70, "\u05d0a", "ü" * 100_000]
    text = " ".join(f"http://{name}.de/x" for name in bad) + " http://faß.de/ 203.0.113.7"
    assert [item.value for item in extract_text(text)] == ["http://xn--fa-hia.de/", "xn--fa-hia.de", "203.0.113.7"]


def test_the_same_host_is_found_in_a_text_and_as_a_value() -> None:
    found = [item.value for item in extract_text("see http://faß.de/login now")]
    assert found == ["http://xn--fa-hia.de/login", "xn--fa-hia.de"]
    found = [item.value for item in extract_text("βόλος.gr, ΒΌΛΟΣ.gr and ☕.example wrote to a@faß.de")]
    assert found == ["xn--nxasmm1c.gr", "xn--nxasmq6b.gr", "a@xn--fa-hia.de"]
    assert [parse(f"{scheme}faß.de") for parse, scheme in ((parse_url, "http://"), (parse_email, "a@"))] == [
        parse_url("http://xn--fa-hia.de"),
        parse_email("a@xn--fa-hia.de"),
    ]
    assert [item.value for item in extract_text("http://☕.example/")] == [
        "http://xn--53h.example/",
        "xn--53h.example",
    ]


def test_a_joiner_that_hides_a_name_is_taken_out_and_one_that_spells_it_stays() -> None:
    hidden = f"h{ZWJ}ttp://ev{ZWNJ}il.example/ ev{ZWJ}il.example b{ZWNJ}@evil.example"
    assert {item.value for item in extract_text(hidden)} == {
        *("http://evil.example/", "evil.example", "b@evil.example"),
    }
    name = "xn--mgba3gch31f060k.com"
    spelled = f"http://{PERSIAN}.com/ {PERSIAN}.com a@{PERSIAN}.com"
    assert {item.value for item in extract_text(spelled)} == {f"http://{name}/", name, f"a@{name}"}
    without = {item.value for item in extract_text(spelled.replace(ZWNJ, ""))}
    assert name not in without
    assert len(without) == 3  # of another host


LABELS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(st.lists(LABELS, min_size=1, max_size=3).map(".".join))
def test_whatever_is_written_the_answer_is_a_name_that_stays_as_it_is(written: str) -> None:
    name = ascii_name(written)
    if name is not None and not written.isascii():
        assert name.isascii()
        assert all(0 < len(label) <= 63 or label.isascii() for label in name.split("."))
        assert ascii_name(name) == name.removesuffix(".")
        assert not re.search("[A-Z]", name)


# --- the table of kinds ------------------------------------------------------------------------------------------

EXAMPLES = {
    ObservableType.IPV4: "203.0.113.7",
    ObservableType.IPV6: "2001:DB8::1",
    ObservableType.CIDR: "203.0.113.0/24",
    ObservableType.DOMAIN: "Evil.example",
    ObservableType.URL: "HTTP://evil.example/A",
    ObservableType.EMAIL: "a@Evil.example",
    ObservableType.FILE: "A1" * 16,
    ObservableType.ASN: "AS 64496",
    ObservableType.VULNERABILITY: "cve-2026-0001",
}


@pytest.mark.parametrize("kind", list(ObservableType))
def test_every_type_has_its_row_and_is_told_from_all_others(kind: ObservableType) -> None:
    assert kind in KINDS, "add it to KINDS"
    found = KINDS[kind].parse(EXAMPLES[kind])
    assert found is not None
    assert found.type is kind
    assert parse_any(EXAMPLES[kind]) == found
    assert KINDS[kind].words
