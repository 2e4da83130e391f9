"""A vendor's declaration: is what the form shows what the reader accepts, and is everything else refused by name?"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from include.soar.vendor.errors import WrongConnection
from threat_response.registry import vendors
from threat_response.transport.form import (
    TLS,
    Choice,
    Json,
    Limit,
    Number,
    Secret,
    Switch,
    Text,
    Vendor,
    Words,
    read,
    read_fields,
    vendor_of,
)
from threat_response.transport.hook import VendorHook, hook_class

TINY = Vendor(
    "tiny",
    "Tiny",
    "TinyHook",
    host="https://tiny.example",
    password="Key",
    fields=(
        Choice("family", "Family", "Of the API", choices=("old", "NEW"), default="old"),
        Text("tenant", "Tenant", "Of the new family", needed=("family", "NEW")),
        Number("page_size", "Page size", "Rows a call", default=50, low=1, high=500),
        Limit("calls", "Calls", "A day"),
        Switch("drafts", "Drafts", "Too", default=False),
        Words("lists", "Lists", "By |", separator="|", choices=("a", "b", "c")),
        Json("levels", "Levels", "By name"),
        Text("name", "Name", "Letters", default="nobody", pattern="^[a-z]*$"),
        Secret("token", "Token", "A second key"),
        Text("hidden", "Hidden", "Not in the form", shown=False),
        *TLS,
    ),
)


@pytest.mark.parametrize("empty", [{}, dict.fromkeys(field.name for field in TINY.fields)], ids=["absent", "null"])
def test_what_is_not_filled_in_has_its_default(empty: dict[str, Any]) -> None:
    for extra in (empty, dict.fromkeys(empty, "")):
        settings = read_fields(TINY, extra)
        assert vars(settings) == {
            "family": "old",
            "tenant": None,
            "page_size": 50,
            "calls": 0,
            "drafts": False,
            "lists": (),
            "levels": None,
            "name": "nobody",
            "token": None,
            "hidden": None,
            "verify": True,
            "ca_bundle": None,
            "proxy": None,
        }


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("family", "new", "NEW"),
        ("page_size", 7, 7),
        ("page_size", " 7 ", 7),
        ("calls", "1000", 1000),
        ("calls", 0, 0),
        ("drafts", True, True),
        ("drafts", "True", True),
        ("verify", "false", False),
        ("verify", False, False),
        ("lists", " a | b |", ("a", "b")),
        ("levels", '{"high": "Very High"}', {"high": "Very High"}),
        ("levels", {"high": "Very High"}, {"high": "Very High"}),
        ("name", " abc ", "abc"),
        ("token", " as it is ", " as it is "),
        ("hidden", 41041, "41041"),
        ("proxy", "http://u:p@proxy.example:3128", "http://u:p@proxy.example:3128"),
    ],
)
def test_what_is_filled_in_is_read_as_its_kind(name: str, given: Any, value: Any) -> None:
    extra = {name: given} | ({"tenant": "t"} if name == "family" else {})
    found = getattr(read_fields(TINY, extra), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({"page_size": "half"}, "wrong field page_size: 'half' is not a whole number from 1 to 500"),
        ({"page_size": 0}, "wrong field page_size: '0' is not a whole number from 1 to 500"),
        ({"page_size": 501}, "wrong field page_size"),
        ({"page_size": True}, "wrong field page_size"),
        ({"page_size": 7.5}, "wrong field page_size"),
        ({"page_size": "٧"}, "wrong field page_size"),
        ({"calls": "-1"}, "wrong field calls"),
        ({"family": "middle"}, "wrong field family: 'middle' is not one of old, NEW"),
        ({"family": "new"}, "no field tenant"),
        ({"drafts": "perhaps"}, "wrong field drafts: 'perhaps' is neither true nor false"),
        ({"verify": "/ca.pem"}, "wrong field verify"),
        ({"lists": "a|d"}, "wrong field lists: 'd' is not one of a, b, c"),
        ({"levels": "{broken"}, "wrong field levels: is not JSON"),
        ({"levels": "[1]"}, "wrong field levels: is not a JSON object"),
        ({"name": "a/b"}, "wrong field name: 'a/b' does not match"),
        ({"name": ["a"]}, "wrong field name: .* is not a text"),
        ({"proxy": "beer"}, "wrong field proxy: does not match"),
        ({"pagesize": 7}, "unknown field 'pagesize'; did you mean 'page_size'\\?"),
        ({"nowhere_near": 7}, "unknown field 'nowhere_near'$"),
        ({"pagesize": 7, "drafts": "perhaps"}, "unknown field 'pagesize'.*; wrong field drafts"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_and_all_of_it(extra: dict[str, Any], problem: str) -> None:
    with pytest.raises(WrongConnection) as caught:
        read_fields(TINY, extra)
    assert (caught.value.vendor, caught.value.operation) == ("tiny", "connection")
    assert re.search(problem, caught.value.reason), caught.value.reason


def test_a_secret_is_not_repeated() -> None:
    with pytest.raises(WrongConnection) as caught:
        read_fields(TINY, {"token": 8_765_432_109})
    assert "8765432109" not in str(caught.value)


@pytest.mark.parametrize("extra", ["{", "[1]", '"text"'])
def test_an_extra_that_is_no_object_is_refused(extra: str) -> None:
    with pytest.raises(WrongConnection, match="not a JSON object"):
        read(TINY, SimpleNamespace(extra=extra))
    assert read(TINY, SimpleNamespace(extra=None)).page_size == 50


def test_the_form_is_of_the_same_lines() -> None:
    form = TINY.form()
    assert form["hook-class-name"] == "threat_response.vendors.tiny.hook.TinyHook"
    assert "hidden" not in form["conn-fields"]
    fields = {name: field["schema"] for name, field in form["conn-fields"].items()}
    assert fields["page_size"] == {"type": ["integer", "null"], "default": 50, "minimum": 1, "maximum": 500}
    assert fields["family"] == {"type": ["string", "null"], "enum": ["old", "NEW"], "default": "old"}
    assert fields["drafts"] == {"type": ["boolean", "null"], "default": False}
    assert fields["name"] == {"type": ["string", "null"], "pattern": "^[a-z]*$"}
    assert fields["token"] == {"type": ["string", "null"], "format": "password"}
    assert fields["proxy"]["format"] == "password"
    assert form["ui-field-behaviour"]["hidden-fields"] == ["schema", "login"]
    assert form["ui-field-behaviour"]["relabeling"] == {"host": "API host", "password": "Key"}


@pytest.mark.parametrize("name", vendors())
def test_every_vendor_that_is_talked_to_has_the_fields_of_tls(name: str) -> None:
    vendor = vendor_of(name)
    assert set(TLS) <= set(vendor.fields) or not vendor.has_host
    names = [field.name for field in vendor.fields]
    assert len(names) == len(set(names))
    for field in vendor.fields:
        if field.default is not None and not isinstance(field, (Json, Words)):
            assert field.read(field.default) == field.default, f"{name}: the default of {field.name} is refused"


@pytest.mark.parametrize("name", [name for name in vendors() if vendor_of(name).has_host])
def test_every_vendors_session_has_the_connections_tls(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    vendor = vendor_of(name)
    needed = {field.name: "1" for field in vendor.fields if field.needed is True}

    def session(**extra: Any) -> requests.Session:
        document = {
            "conn_type": name,
            "host": "https://vendor.example",
            "login": "a-login-1",
            "password": "a-password-1",
            "extra": needed | extra,
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{vendor.conn_id.upper()}", json.dumps(document))
        hook: VendorHook = hook_class(name)()
        made: requests.Session = hook.session
        return made

    bundle = requests.certs.where()
    assert session().verify is True
    assert session(verify=False).verify is False
    assert session(ca_bundle=bundle).verify == bundle
    assert session(proxy="http://127.0.0.1:3128").proxies["https"] == "http://127.0.0.1:3128"
    with pytest.raises(WrongConnection, match="CA bundle cannot be read"):
        session(ca_bundle=str(tmp_path / "nowhere.pem"))
    with pytest.raises(WrongConnection, match="unknown field 'ca_bundel'; did you mean 'ca_bundle'"):
        session(ca_bundel=bundle)


@pytest.mark.parametrize(
    ("name", "extra", "problem"),
    [
        ("taxii", {"auth": "beer"}, "wrong field auth: 'beer' is not one of basic, bearer, token, header"),
        ("cyware_respond", {"levels": "{broken"}, "wrong field levels: is not JSON"),
        ("cyware_respond", {"levels": {"enormous": "High"}}, "wrong field levels"),
        ("cyware_respond", {"portal_url": "{tenant}"}, "wrong field portal_url"),
        ("akamai_sia", {"access_token": "t", "config_id": "abc"}, "wrong field config_id: 'abc' does not match"),
        ("akamai_client_lists", {"access_token": "t", "list_id": "1", "max_body": "all"}, "wrong field max_body"),
        ("list_feed", {"lists": "drop drop /a | oops"}, "wrong field lists: "),
        ("splunk", {"ca_bundle": "/nowhere.pem"}, "CA bundle cannot be read"),
        ("crowdstrike_falcon", {"ca_bundle": "/nowhere.pem"}, "CA bundle cannot be read"),
        ("crowdstrike_falcon", {"platforms": "windows,amiga"}, "wrong field platforms: 'amiga' is not one of"),
        ("offline_asn", {}, "no field table"),
        ("abuseipdb", {"max_age_day": 30}, "unknown field 'max_age_day'; did you mean 'max_age_days'?"),
    ],
)
def test_test_connection_calls_a_wrong_field_that_and_no_wrong_key(
    name: str, extra: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens on port 1, so whoever asks before the fields are checked says "the vendor is down".
    document = {"conn_type": name, "host": "https://127.0.0.1", "port": 1, "login": "l", "password": "p"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{vendor_of(name).conn_id.upper()}", json.dumps(document | {"extra": extra}))
    passed, message = hook_class(name)().test_connection()
    assert not passed
    assert message.startswith("Incomplete or wrong connection: ")
    assert problem in message
