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
from include.soar.extract.values import parse_url
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


# --- what strangers found: each is one of a kind ------------------------------------------------------------------

SECRETS = st.text("abcXYZ0189._~!$&*+=%^,;|/-", min_size=4, max_size=12).filter(lambda secret: not secret.isdecimal())
SCHEMES = st.from_regex(r"[a-z][a-z0-9]{2,8}(?:[+.-][a-z0-9]{2,4})?", fullmatch=True)
PORTS = st.integers(0, 70_000).map(":{}".format) | st.sampled_from(["", ":", ":x", ":{port}"])
#: Hosts that no scheme makes a file or a package of.
HOSTS = NAMES | V4 | V6.map("[{}]".format)


def of_types(text: str, *kinds: ObservableType) -> set[str]:
    return {item.value for item in extract_text(text) if item.type in kinds}


@given(SCHEMES, HOSTS, PORTS, st.sampled_from(["", "/", "/a/b", "?q=1"]), st.sampled_from(BEFORE))
@FEW
def test_the_host_of_a_url_is_seen_whatever_its_scheme_and_port(
    scheme: str, host: str, port: str, path: str, before: str
) -> None:
    """R8, X4"""
    wanted = host.strip("[]")
    assert wanted in of_types(f"{before}{scheme}://{host}{port}{path} and on", Kind.DOMAIN, Kind.IPV4, Kind.IPV6)


@given(SCHEMES | st.just("https"), LABELS, SECRETS, NAMES, st.sampled_from(["", ":27017", ":5432/db", "/admin?x=1"]))
@FEW
def test_a_password_of_a_url_is_never_a_mailbox_nor_a_name(
    scheme: str, user: str, secret: str, name: str, rest: str
) -> None:
    """X3"""
    text = f"dsn={scheme}://{user}:{secret}@{name}{rest}"
    assert of_types(text, Kind.EMAIL) == set()
    assert of_types(text, Kind.DOMAIN) <= {name}


@given(LABELS, st.text("abcXYZ0189", min_size=4, max_size=12), NAMES, st.sampled_from(["{}:{}@{}", "x={}:{}@{} ok"]))
@FEW
def test_a_password_without_a_scheme_is_never_a_mailbox(user: str, secret: str, name: str, form: str) -> None:
    """X3"""
    assume(not user.endswith(("mail", "to", "from", "cc", "sip", "smtp", "addr", "owner", "author", "abuse")))
    assert of_types(form.format(user, secret, name), Kind.EMAIL) == set()


@given(st.sampled_from(["password", "pwd", "Passwort", "secret", "api_key"]), OF_EACH_TYPE[Kind.EMAIL])
@FEW
def test_what_a_field_calls_a_password_is_none_however_it_looks(key: str, secret: Observable) -> None:
    """X3: P@ssw0rd.example"""
    for form in ("{}={}", '"{}": "{}"', "{}:{}", '\\"{}\\":\\"{}\\"', "<{}>{}<"):
        assert of_types(f"a=1&{form.format(key, secret.value)}", Kind.EMAIL) == set()


@given(st.sampled_from(["ldap", "ldaps", "rmi", "dns", "iiop", "corba"]), NAMES, PATHS, st.booleans())
@FEW
def test_a_lookup_names_its_host_and_no_other(scheme: str, name: str, path: str, nested: bool) -> None:
    """X1: hyphens in host and path."""
    host = f"a-{name}"
    text = f"${{jndi:{scheme}://{host}:1389{path}-x}}"
    if nested:
        text = text.replace("jndi", "${lower:j}n${::-d}${env:NaN:-i}")
    for written in (text, quote(text, safe="")):
        assert of_types(written, Kind.DOMAIN) == {host}


@given(st.lists(LABELS, min_size=1, max_size=3), st.sampled_from(["com", "com.br", "org.cn", "net", "example"]))
@FEW
def test_a_spoken_name_is_the_whole_name(labels: list[str], suffix: str) -> None:
    """X6"""
    name = ".".join([*labels, suffix])
    assume("dot" not in labels)
    assert of_types(f"go to {name.replace('.', ' dot ')} now", Kind.DOMAIN) == {f"{name}"}
    assert of_types(f"go to {name.replace('.', ' dot ')} dot nosuch now", Kind.DOMAIN) == set()


CELLS = st.sampled_from(["url", "domain", "online", "2026-01-02", '""', "203.0.113.9", "a@b.example", "ab12" * 8])


@given(NAMES, PATHS, st.lists(CELLS, min_size=1, max_size=4))
@FEW
def test_a_url_ends_with_its_cell(name: str, path: str, cells: list[str]) -> None:
    """X10"""
    assume("=" not in path)
    assert of_types(",".join([f"https://{name}{path}", *cells]), Kind.URL) == {f"https://{name}{path}"}


@given(st.lists(st.tuples(NAMES, PATHS, LABELS, LABELS), min_size=2, max_size=5))
@FEW
def test_a_comma_ends_the_urls_of_rows(rows: list[tuple[str, str, str, str]]) -> None:
    """X10: whatever the cells hold."""
    text = "id,where,what\n" + "\n".join(f"{first},https://{name}{path},{last}" for name, path, first, last in rows)
    assert of_types(text, Kind.URL) == {f"https://{name}{path}" for name, path, _, _ in rows}


@given(NAMES, PATHS, st.from_regex(r"[A-Za-z][a-z]{0,8}(?: [a-z]{1,8}){0,3}", fullmatch=True))
@FEW
def test_the_words_of_a_link_in_asciidoc_are_none_of_it(name: str, path: str, words: str) -> None:
    """X11"""
    assume("?" not in path)
    assert of_types(f"see https://{name}{path}[{words}], then", Kind.URL) == {f"https://{name}{path}"}


@given(NAMES, NAMES, PATHS)
@FEW
def test_a_backslash_ends_the_authority(evil: str, good: str, path: str) -> None:
    """R9"""
    assume(evil != good)
    text = f"https://{evil}\\@{good}{path}"
    assert of_types(text, Kind.DOMAIN) == {evil}
    read = parse_url(text)
    assert read is not None
    assert read.value.startswith(f"https://{evil}/@")


@given(LABELS, LABELS, st.sampled_from(["\u0301", "\u20dd", "\u24d1", "\ufffd", "\U0001f480", "\u0323\u0301"]))
@FEW
def test_a_piece_of_a_name_is_never_another_name(first: str, last: str, sign: str) -> None:
    """2e"""
    found_names = of_types(f"see {first}{sign}{last}.example now", Kind.DOMAIN, Kind.EMAIL)
    assert f"{last}.example" not in found_names
    assert of_types(f"see {first}{sign}{last}.example and {last}.example now", Kind.DOMAIN) >= {f"{last}.example"}


@given(st.sampled_from(["appVersion", "client_version", "osVer", "buildNumber", "SdkBuild", "fw-release"]), V4)
@FEW
def test_a_version_is_no_address_however_its_key_is_written(key: str, number: str) -> None:
    """X5"""
    for form in ("{}={}", '"{}":"{}"', "{}: {}", '{}("{}")', "<{}>{}<"):
        assert of_types(form.format(key, number), Kind.IPV4) == set()
        assert of_types(f"{form.format(key, number)} from {number}", Kind.IPV4) == {number}


@given(V6, st.sampled_from(["IPv6:", "ip6:", "inet6:", "src:", "ipv6-addr:", "AAAA:"]))
@FEW
def test_a_label_does_not_hide_an_address(value: str, label: str) -> None:
    """X2"""
    assert of_types(f"from [{label}{value}] by", Kind.IPV6) == {value}


@given(
    HASHES.filter(lambda value: len(set(value)) > 3 and not value.isdecimal()),
    st.sampled_from(["{}.exe.vir", "a_{}_b.dll", "x-{}.tar.gz"]),
)
@FEW
def test_a_hash_that_names_a_file_is_found(value: str, form: str) -> None:
    """X9"""
    assert of_types(form.format(value), Kind.FILE) == {value}


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
