"""Every vendor's sample answers, and how each is read: for tests that try something on all of them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from include.soar.model import Observable, ObservableType
from include.soar.vendor.errors import RecordProblem
from include.soar.vendor.wire import Response
from tests.conftest import ROOT
from tests.soar.examples import NOW, address, domain
from threat_response.vendors.abuseipdb import api as abuseipdb
from threat_response.vendors.akamai_api_security import api as akamai_api_security
from threat_response.vendors.akamai_client_lists import api as akamai_client_lists
from threat_response.vendors.akamai_sia import api as akamai_sia
from threat_response.vendors.alienvault_otx import api as alienvault_otx
from threat_response.vendors.crowdstrike_falcon import api as crowdstrike_falcon
from threat_response.vendors.cyware_respond import api as cyware_respond
from threat_response.vendors.greynoise import api as greynoise
from threat_response.vendors.list_feed.api import Copy, ListIndex, Source
from threat_response.vendors.list_feed.formats import parse_list
from threat_response.vendors.misp import api as misp
from threat_response.vendors.splunk import api as splunk
from threat_response.vendors.taxii import api as taxii
from threat_response.vendors.taxii.index import Index
from threat_response.vendors.threatfox import api as threatfox
from threat_response.vendors.urlhaus import api as urlhaus
from threat_response.vendors.virustotal import api as virustotal

HERE = Path(__file__).parent
RECORDED = ROOT / "../shared/data/api-samples/wtfis"


@dataclass(frozen=True)
class Reading:
    """
    :param body: the answer
    :param read: a body -> what comes of it. Raises ``VendorError`` where it cannot be read
    """

    name: str
    body: bytes
    read: Callable[[bytes], Sequence[Any]]


def _file(vendor: str, name: str) -> bytes:
    return (HERE / vendor / "samples" / name).read_bytes()


def _urlhaus() -> list[Reading]:
    payload = json.loads(_file("urlhaus", "payload.json"))
    url = json.loads(_file("urlhaus", "url.json"))["url"]
    host = json.loads(_file("urlhaus", "host.json"))["host"]
    asked = {
        "host.json": address(host) if host[0].isdigit() else domain(host),
        "url.json": Observable(type=ObservableType.URL, value=url),
        "payload.json": Observable(type=ObservableType.FILE, value=payload["sha256_hash"]),
    }
    return [
        _one(f"urlhaus/{name}", _file("urlhaus", name), urlhaus.parse_lookup, observable)
        for name, observable in asked.items()
    ]


def _one(name: str, body: bytes, parse: Callable[..., Any], observable: Observable) -> Reading:
    return Reading(name, body, lambda given: [parse(observable, Response(200, {}, given), known_at=NOW)])


def _virustotal() -> list[Reading]:
    file = json.loads(_file("virustotal", "file.json"))["data"]["attributes"]
    asked = {
        "ip_address.json": address("203.0.113.7"),
        "domain.json": domain("evil.example"),
        "url.json": Observable(type=ObservableType.URL, value="http://evil.example/login?id=1"),
        "file.json": Observable(type=ObservableType.FILE, value=file["sha1"]),
    }
    found = [
        _one(f"virustotal/{n}", _file("virustotal", n), virustotal.parse_lookup, asked_) for n, asked_ in asked.items()
    ]
    not_found = _one("", b"", virustotal.parse_not_found, asked["domain.json"])
    return [*found, Reading("virustotal/not_found.json", _file("virustotal", "not_found.json"), not_found.read)]


def _abuseipdb() -> list[Reading]:
    check = json.loads(_file("abuseipdb", "check.json"))["data"]["ipAddress"]
    block = json.loads(_file("abuseipdb", "check-block.json"))["data"]
    network = Observable(type=ObservableType.CIDR, value=f"{block['networkAddress']}/24")
    members = [address(row["ipAddress"]) for row in block["reportedAddress"]]

    def read_block(body: bytes) -> Sequence[Any]:
        response = Response(200, {}, body)
        return abuseipdb.parse_block(network, members, response, max_age_days=30, known_at=NOW)

    def read_blacklist(body: bytes) -> Sequence[Any]:
        listed = abuseipdb.parse_blacklist(Response(200, {}, body), confidence_minimum=90)
        abuseipdb.blacklist_remarks(listed, confidence_minimum=90, limit=10_000)
        listed.is_fresh(NOW)
        return [answer for value in listed.rows if (answer := listed.answer(address(value)))]

    return [
        _one("abuseipdb/check.json", _file("abuseipdb", "check.json"), abuseipdb.parse_check, address(check)),
        Reading("abuseipdb/check-block.json", _file("abuseipdb", "check-block.json"), read_block),
        Reading("abuseipdb/blacklist.json", _file("abuseipdb", "blacklist.json"), read_blacklist),
    ]


def _greynoise() -> list[Reading]:
    def about(name: str) -> Observable:
        return address(json.loads(_file("greynoise", name))["ip"])

    multi = json.loads(_file("greynoise", "multi.json"))
    asked = [address(one["ip"]) for one in multi["data"]]

    def read_multi(body: bytes) -> Sequence[Any]:
        return greynoise.parse_multi(asked, Response(200, {}, body), known_at=NOW)

    parsers = {
        "community.json": greynoise.parse_community,
        "community_riot.json": greynoise.parse_community,
        "community_not_found.json": greynoise.parse_community_not_found,
        "ip.json": greynoise.parse_profile,
    }
    return [
        *(_one(f"greynoise/{n}", _file("greynoise", n), parse, about(n)) for n, parse in parsers.items()),
        Reading("greynoise/multi.json", _file("greynoise", "multi.json"), read_multi),
    ]


def _otx_and_threatfox() -> list[Reading]:
    general = json.loads(_file("alienvault_otx", "general.json"))["indicator"]
    harmless = json.loads(_file("alienvault_otx", "harmless.json"))["indicator"]
    row = json.loads(_file("threatfox", "search_ioc.json"))["data"][0]["ioc"]

    def asked(value: str) -> Observable:
        return address(value) if value[0].isdigit() else domain(value)

    about = asked(row.rpartition(":")[0] or row)
    return [
        _one(
            "alienvault_otx/general",
            _file("alienvault_otx", "general.json"),
            alienvault_otx.parse_general,
            asked(general),
        ),
        _one(
            "alienvault_otx/harmless",
            _file("alienvault_otx", "harmless.json"),
            alienvault_otx.parse_general,
            asked(harmless),
        ),
        _one("threatfox/search_ioc", _file("threatfox", "search_ioc.json"), threatfox.parse_search, about),
        _one("threatfox/no_result", _file("threatfox", "no_result.json"), threatfox.parse_search, about),
    ]


def _misp_and_taxii() -> list[Reading]:
    attributes = json.loads(_file("misp", "search.json"))["response"]["Attribute"]
    asked = [address("203.0.113.7"), address("203.0.113.9"), domain("cdn.example.org")]
    asked.append(Observable(type=ObservableType.FILE, value=attributes[2]["value"].partition("|")[2].lower()))

    def read_misp(body: bytes) -> Sequence[Any]:
        found = misp.parse_page(Response(200, {}, body))
        return misp.reputations(asked, found, body_digest="", page_of=lambda id_: f"https://m/{id_}", known_at=NOW)

    def read_taxii(body: bytes) -> Sequence[Any]:
        state: taxii.State = {}
        envelope = taxii.parse_envelope(Response(200, {}, body))
        taxii.merge(state, envelope.objects)
        place = taxii.Paging(None)
        if envelope.more and envelope.next:
            place.go_on(envelope, None)
        taxii.count(state)
        index = Index([taxii.load(taxii.dump(taxii.forget_lapsed(state, now=NOW)))])
        return [
            index.reputation(one, body_digest="", doubts=(), known_at=NOW)
            for one in (address("203.0.113.7"), domain("evil.example"), domain("other.example"))
        ]

    def read_collections(body: bytes) -> Sequence[Any]:
        return taxii.parse_collections("/r/", Response(200, {}, body))[0]

    def read_discovery(body: bytes) -> Sequence[Any]:
        found = taxii.parse_discovery(Response(200, {}, body))
        named = [*found.api_roots, *([found.default] if found.default else [])]
        return [taxii.root_path(one, url="https://taxii.example") for one in named]

    return [
        Reading("misp/search.json", _file("misp", "search.json"), read_misp),
        Reading("taxii/envelope.json", _file("taxii", "envelope.json"), read_taxii),
        Reading("taxii/bundle20.json", _file("taxii", "bundle20.json"), read_taxii),
        Reading("taxii/collections.json", _file("taxii", "collections.json"), read_collections),
        Reading("taxii/discovery.json", _file("taxii", "discovery.json"), read_discovery),
    ]


def _list_feed() -> list[Reading]:
    source = Source("drop", "drop", "/drop/drop_v4.json", 100)

    def read(body: bytes) -> Sequence[Any]:
        entries = parse_list(source, body).entries
        index = ListIndex([(source, entries)], {"drop": Copy(NOW, "")})
        return [index.reputation(address("203.0.113.7"), known_at=NOW)]

    return [Reading("list_feed/drop_v4.json", _file("list_feed", "drop_v4.json"), read)]


def _parsed_each(records: Sequence[Any], parse: Callable[[Any], Any]) -> Sequence[Any]:
    """As the fetch stage does: a record that cannot be read costs itself."""
    found = []
    for record in records:
        try:
            found.append(parse(record))
        except (RecordProblem, ValidationError):
            continue
    return found


def _sources() -> list[Reading]:
    start, end = NOW.replace(year=2000), NOW.replace(year=2100)

    def read_sia(body: bytes) -> Sequence[Any]:
        rows = akamai_sia.parse_details(Response(200, {}, body), page=1, page_size=5000).rows
        rows = [row for row in rows if akamai_sia.in_window(row, start, end)]
        return _parsed_each(rows, akamai_sia.parse_row)

    def read_list(kind: str) -> Callable[[bytes], Sequence[Any]]:
        def read(body: bytes) -> Sequence[Any]:
            response = Response(200, {}, body)
            if kind == "alert":
                records = akamai_api_security.parse_alerts(response, offset=0, limit=1000).items
            else:
                records = akamai_api_security.parse_list(kind, response).entities
            records = [one for one in records if akamai_api_security.in_window(one, start, end)]
            for record in records:
                akamai_api_security.name_of(kind, record)
            return _parsed_each(records, lambda record: akamai_api_security.parse(kind, record))

        return read

    kinds = ("incident", "finding", "alert")
    return [
        Reading("akamai_sia/threat_events.json", _file("akamai_sia", "threat_events.json"), read_sia),
        *(
            Reading(f"akamai_api_security/{kind}s.json", _file("akamai_api_security", f"{kind}s.json"), read_list(kind))
            for kind in kinds
        ),
    ]


def _controls() -> list[Reading]:
    def read_falcon(body: bytes) -> Sequence[Any]:
        wanted = crowdstrike_falcon.Wanted(hash_action="prevent", severity="high", platforms=("windows",))
        found = crowdstrike_falcon.parse_search(Response(200, {}, body))
        return [crowdstrike_falcon.outcome_of(ioc, wanted) for ioc in found]

    def read_client_list(body: bytes) -> Sequence[Any]:
        found = akamai_client_lists.parse_list(Response(200, {}, body), items=True)
        akamai_client_lists.usable(found)
        return [item.in_force_at(NOW) for item in found.items or ()]

    def read_respond_list(body: bytes) -> Sequence[Any]:
        page = cyware_respond.parse_page("list", Response(200, {}, body))
        return sorted(cyware_respond.parse_row("list", row).order for row in page.rows)

    def read_watchlist(body: bytes) -> Sequence[Any]:
        found = splunk.parse_query(Response(200, {}, body))
        return [splunk.merge(one, one) for one in found.values() if splunk.ours(one)]

    readings: dict[str, Callable[[bytes], Sequence[Any]]] = {
        "crowdstrike_falcon/combined.json": read_falcon,
        "crowdstrike_falcon/duplicate.json": lambda body: [crowdstrike_falcon.refused_because(body)],
        "akamai_client_lists/list.json": read_client_list,
        "akamai_client_lists/environment.json": lambda body: [
            akamai_client_lists.parse_environment(Response(200, {}, body))
        ],
        "akamai_client_lists/invalid_timestamp.json": lambda body: [
            akamai_client_lists.authentication_problem("list", Response(400, {}, body))
        ],
        "cyware_respond/list_top.json": read_respond_list,
        "cyware_respond/list_link.json": read_respond_list,
        "cyware_respond/incident.json": lambda body: [cyware_respond.parse_incident(Response(200, {}, body))],
        "splunk/query.json": read_watchlist,
    }
    return [Reading(name, _file(*name.split("/")), read) for name, read in readings.items()]


def _recorded() -> list[Reading]:
    """Real answers, where the shared folder is there."""
    if not RECORDED.is_dir():
        return []
    found = []
    for name, parse in {
        "greynoise_one": greynoise.parse_community,
        "greynoise_1.1.1.1_malicious": greynoise.parse_community,
        "abuseipdb_one": abuseipdb.parse_check,
        "abuseipdb_1.1.1.1_red": abuseipdb.parse_check,
        "urlhaus_1.1.1.1": urlhaus.parse_lookup,
        "vt_ip_1.1.1.1": virustotal.parse_lookup,
        "vt_domain_gist": virustotal.parse_lookup,
    }.items():
        document = json.loads((RECORDED / f"{name}.json").read_bytes())
        if not name.startswith("vt_"):
            document = next(iter(document.values()))
        if name.startswith("abuseipdb"):
            document = {"data": document}
        value = (
            document.get("ip") or document.get("host") or document["data"].get("ipAddress") or document["data"]["id"]
        )
        observable = address(value) if value[0].isdigit() else domain(value)
        found.append(_one(f"recorded/{name}", json.dumps(document).encode(), parse, observable))
    return found


def _as_scaffolded(known: set[str]) -> list[Reading]:
    """A vendor that `make new-vendor` made, until its other samples have a place here."""
    found = []
    for sample in sorted(HERE.glob("*/samples/lookup.json")):
        vendor = sample.parents[1].name
        if vendor not in known:
            api = importlib.import_module(f"threat_response.vendors.{vendor}.api")
            found.append(_one(f"{vendor}/lookup.json", sample.read_bytes(), api.parse_lookup, address("203.0.113.7")))
    return found


def all_readings() -> list[Reading]:
    made = [
        *_abuseipdb(),
        *_virustotal(),
        *_greynoise(),
        *_otx_and_threatfox(),
        *_urlhaus(),
        *_misp_and_taxii(),
        *_list_feed(),
        *_sources(),
        *_controls(),
        *_recorded(),
    ]
    return made + _as_scaffolded({reading.name.partition("/")[0] for reading in made})
