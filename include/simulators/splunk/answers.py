"""Bodies and errors of splunkd, in JSON and in XML, and the reading of a request."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape, quoteattr

from fastapi import Request
from fastapi.responses import Response

UNAUTHENTICATED = "call not properly authenticated"
BAD_LOGIN = "Login failed"
#: From recordings of third parties.
SAME_KEY = "A document with the same key and user already exists."
TOO_MANY = (
    "Request exceeds API limits - see limits.conf for details. "
    "(Too many documents for a single batch save, max_documents_per_batch_save={})"
)
# Inferred: the texts (and where noted the behaviour) below are recollection, not quotations.
NO_OBJECT = "Could not find object."
NO_COLLECTION = "Could not find collection: {}"
NO_APP = "Application does not exist: {}"
NO_OWNER = "Requested user could not be found."
NO_RIGHT = "You do not have permission to perform this operation."
SAME_NAME = "An object with name={} already exists"
UNKNOWN_ARGUMENT = 'Argument "{}" is not supported by this handler.'
NOT_JSON = "JSON in the request is invalid. ( JSON parse error )"
VERSION = "9.4.0"
ATOM = "http://www.w3.org/2005/Atom"
REST = "http://dev.splunk.com/ns/rest"
Document = dict[str, Any]


class Refused(Exception):
    def __init__(self, status: int, text: str, kind: str = "ERROR") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.kind = kind


def check_document(document: Any) -> None:
    if not isinstance(document, dict):
        raise Refused(400, "A document must be a JSON object.")
    key = document.get("_key")
    if "_key" in document and (not isinstance(key, str) or not key):
        raise Refused(400, "_key must be a non-empty string.")
    _check_names(document)


def _check_names(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_names(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if "." in name or name.startswith("$"):
                raise Refused(400, f"Invalid field name: {name}")
            _check_names(item)


#: Of a lookup definition (RESTknowledge, ``data/transforms/lookups``).
LOOKUP_SETTINGS = (
    *("external_type", "collection", "filename", "external_cmd", "fields_list", "match_type", "filter"),
    *("max_matches", "min_matches", "default_match", "case_sensitive_match"),
)


def checked_lookup(form: dict[str, str]) -> dict[str, str]:
    """One over a collection names it and its fields; a match type names one of them (INFERRED: that it is checked)."""
    if form.get("external_type") == "kvstore":
        fields = form.get("fields_list", "").replace(" ", "").split(",")
        if not form.get("collection") or fields == [""]:
            raise Refused(400, "A KV store lookup must have a collection and a fields_list.")
        for kind, field in re.findall(r"(\w+)\((\w*)\)", form.get("match_type", "")):
            if kind not in ("CIDR", "WILDCARD", "EXACT") or field not in fields:
                raise Refused(400, f"Invalid match_type: {kind}({field})")
    elif not form.get("filename"):
        raise Refused(400, "One of filename, external_cmd and collection is required.")
    return form


def arguments_of(request: Request, *names: str) -> dict[str, str]:
    arguments = dict(request.query_params)
    for name in arguments:
        if name not in names:
            raise Refused(400, UNKNOWN_ARGUMENT.format(name))
    return arguments


async def form_of(request: Request, names: set[str], prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    # splunklib sends its forms without a Content-Type, and splunkd takes them.
    body = (await request.body()).decode("utf-8", "replace")
    form = dict(parse_qsl(body, keep_blank_values=True)) | dict(request.query_params)
    for name in form:
        if name not in names and not name.startswith(prefixes or "\0"):
            raise Refused(400, UNKNOWN_ARGUMENT.format(name))
    return form


def output_mode(request: Request, body: bytes) -> str:
    return "json" if b"output_mode=json" in body else request.query_params.get("output_mode", "xml")


def json_body(request: Request, body: bytes) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(400, "The Content-Type of this request must be application/json.")
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, NOT_JSON) from None


def whole(arguments: dict[str, str], name: str, default: int) -> int:
    text = arguments.get(name, str(default))
    # The SDK asks for all entries with count=-1.
    if not re.fullmatch(r"\d+", text, re.ASCII) and not (name == "count" and text == "-1"):
        raise Refused(400, f"{name} must be a non-negative integer.")
    return int(text)


def _answer(content: str, media_type: str, status: int) -> Response:
    # splunkd names the connection's fate in every answer; splunklib closes the socket unread when it is missing.
    return Response(content, status, media_type=media_type, headers={"Connection": "keep-alive", "Server": "Splunkd"})


def json_answer(document: Any, status: int = 200) -> Response:
    return _answer("" if document is None else json.dumps(document), "application/json", status)


def xml_answer(text: str, status: int = 200) -> Response:
    return _answer(text, "text/xml", status)


def messages(status: int, kind: str, text: str, *, xml: bool) -> Response:
    if xml:
        message = f"<msg type={quoteattr(kind)}>{escape(text)}</msg>"
        return xml_answer(f"<response>\n  <messages>\n    {message}\n  </messages>\n</response>\n", status)
    return json_answer({"messages": [{"type": kind, "text": text}]}, status)


def dict_xml(content: dict[str, Any]) -> str:
    keys = "".join(
        f"<s:key name={quoteattr(k)}>{dict_xml(v) if isinstance(v, dict) else escape(str(v))}</s:key>"
        for k, v in content.items()
    )
    return f"<s:dict>{keys}</s:dict>"
