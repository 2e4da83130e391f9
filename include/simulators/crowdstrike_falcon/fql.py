"""FQL, Falcon's language of filters, as far as indicators are searched with it; and the order and marks of pages."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

from include.simulators.crowdstrike_falcon.answers import (
    DATE_FIELDS,
    FILTER_FIELDS,
    SEVERITY_NUMBERS,
    SORT_FIELDS,
    Filter,
    Indicator,
    Refused,
    instant,
)


def order(sort: str | None) -> tuple[Callable[[Indicator], tuple[str | int, int]], bool]:
    """``field``, ``field|desc`` or ``field.asc``; without one, in the order of creation."""
    if not sort:
        return lambda i: (0, i["_number"]), False
    match = re.fullmatch(r"([\w.]+?)(?:[.|](asc|desc))?", sort)
    if not match or match[1] not in SORT_FIELDS:
        raise Refused(400, f"Invalid sort: '{sort}'")
    name = match[1]

    def key(indicator: Indicator) -> tuple[str | int, int]:
        value = _member(indicator, name)
        return (value if isinstance(value, int) else str(value or "")), indicator["_number"]

    return key, match[2] == "desc"


def encode_after(last: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(last).encode()).decode()


def decode_after(token: str) -> list[Any]:
    try:
        value, number = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise Refused(400, "Invalid after") from None
    return [value, number]


_TOKEN = re.compile(
    r"""\s*(?:(?P<field>[a-z][\w.]*):(?P<op><=|>=|<|>)?|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<bare>true|false|\d+)|(?P<mark>[\[\],+]))"""
)


def parse_fql(text: str) -> Filter:
    """
    A subset of Falcon Query Language: ``field:'value'``, ``field:['a','b']``, ``field:<='value'`` (also ``<``,
    ``>``, ``>=``; dates and severity_number only), ``+`` for and, ``,`` for or (binding less tightly).

    :raises Refused: 400 for everything else
    """
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if not match:
            raise Refused(400, f"Invalid filter at position {position}")
        tokens.append(match)
        position = match.end()
    groups: list[list[Filter]] = [[]]
    while True:
        groups[-1].append(_fql_term(tokens))
        if not tokens:
            return lambda indicator: any(all(term(indicator) for term in group) for group in groups)
        mark = tokens.pop(0)["mark"]
        if mark == ",":
            groups.append([])
        elif mark != "+":
            raise Refused(400, "Invalid filter: expected + or ,")


def _fql_term(tokens: list[re.Match[str]]) -> Filter:
    if not tokens or tokens[0]["field"] not in FILTER_FIELDS:
        raise Refused(400, "Invalid filter: expected a field that can be filtered on")
    head = tokens.pop(0)
    name, operator = head["field"], head["op"]
    values = []
    if tokens and tokens[0]["mark"] == "[":
        tokens.pop(0)
        values.append(_fql_value(tokens))
        while tokens and tokens[0]["mark"] == ",":
            tokens.pop(0)
            values.append(_fql_value(tokens))
        if not tokens or tokens.pop(0)["mark"] != "]" or operator:
            raise Refused(400, "Invalid filter: a list must be closed and takes no operator")
    else:
        values.append(_fql_value(tokens))
    wanted = [_comparable(name, v) for v in values]
    if operator is None:
        return lambda indicator: _comparable(name, _member(indicator, name)) in wanted
    if name not in DATE_FIELDS | {"severity_number"}:
        raise Refused(400, f"Invalid filter: {name} cannot be compared with {operator}")
    compare = {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }[operator]

    def term(indicator: Indicator) -> bool:
        value = _comparable(name, _member(indicator, name))
        return value is not None and compare(value, wanted[0])

    return term


def _fql_value(tokens: list[re.Match[str]]) -> str:
    token = tokens.pop(0) if tokens else None
    if token is None or not (token["text"] or token["bare"]):
        raise Refused(400, "Invalid filter: expected a quoted value")
    return token["bare"] or re.sub(r"\\(.)", r"\1", token["text"][1:-1])


def _member(indicator: Indicator, name: str) -> Any:
    if name == "severity_number":
        return SEVERITY_NUMBERS.get(indicator.get("severity", ""), 0)
    if name.startswith("metadata."):
        return indicator.get("metadata", {}).get(name.removeprefix("metadata.").removesuffix(".raw"))
    return indicator.get(name)


def _comparable(name: str, value: Any) -> Any:
    """A stored member and a filter's text in the same form."""
    if value is None or value == "":
        return None
    try:
        if name in DATE_FIELDS:
            return instant(value)
        if name == "severity_number":
            return int(value)
    except ValueError:
        raise Refused(400, f"Invalid filter: bad value for {name}") from None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).lower() if name == "value" else str(value)
