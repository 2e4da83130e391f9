"""The KV store's language of queries, sorting and projection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from include.simulators.splunk.answers import Document, Refused

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
}


def matches(condition: Any, document: Document) -> bool:
    """
    Whether a document satisfies a query in the supported subset of MongoDB's language.

    :raises Refused: 400 for an operator or a shape outside the subset
    """
    if not isinstance(condition, dict):
        raise Refused(400, "The query must be a JSON object.")
    results = []
    for name, wanted in condition.items():
        if name in ("$and", "$or"):
            if not isinstance(wanted, list) or not wanted:
                raise Refused(400, f"{name} takes a non-empty array.")
            parts = [matches(part, document) for part in wanted]
            results.append(all(parts) if name == "$and" else any(parts))
        elif name == "$not":
            results.append(not matches(wanted, document))
        elif name.startswith("$"):
            raise Refused(400, f"The operator {name} is not supported.")
        elif isinstance(wanted, dict) and any(k.startswith("$") for k in wanted):
            results += [_compare(operator, member(document, name), operand) for operator, operand in wanted.items()]
        else:
            results.append(_equal(member(document, name), wanted))
    return all(results)


def _compare(operator: str, value: Any, operand: Any) -> bool:
    if operator == "$ne":
        return not _equal(value, operand)
    if operator == "$not":
        if isinstance(operand, dict):
            return not all(_compare(inner, value, one) for inner, one in operand.items())
        return not _equal(value, operand)
    if operator == "$in":
        if not isinstance(operand, list):
            raise Refused(400, "$in takes an array.")
        return any(_equal(value, one) for one in operand)
    if operator == "$regex":
        return _matches_pattern(value, operand)
    if operator not in OPERATORS:
        raise Refused(400, f"The operator {operator} is not supported.")
    # As in MongoDB, values of different kinds are neither less nor greater.
    return _kind(value) == _kind(operand) and _kind(value) != "other" and OPERATORS[operator](value, operand)


def _matches_pattern(value: Any, pattern: Any) -> bool:
    try:
        found = re.compile(pattern)
    except (re.error, TypeError):
        raise Refused(400, "$regex takes a regular expression.") from None
    return any(isinstance(one, str) and found.search(one) for one in (value if isinstance(value, list) else [value]))


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, list) and not isinstance(wanted, list):
        return any(_equal(item, wanted) for item in value)
    return _kind(value) == _kind(wanted) and bool(value == wanted)


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "other"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "other"


def member(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def order(value: Any) -> tuple[int, Any]:
    """Sort key over mixed kinds: missing, numbers, texts, the rest."""
    kind = _kind(value)
    if value is None:
        return 0, 0
    return (1, value) if kind == "number" else (2, value) if kind == "text" else (3, json.dumps(value))


def sort_keys(text: str) -> list[tuple[str, bool]]:
    keys = []
    for part in filter(None, text.split(",")):
        field, _, direction = part.partition(":")
        if not field or direction not in ("", "1", "-1"):
            raise Refused(400, "sort takes field, field:1 or field:-1.")
        keys.append((field, direction == "-1"))
    return keys


def projection(text: str) -> Callable[[Document], Document]:
    """``a,b`` or ``a:1`` keeps these fields, ``a:0`` drops them; both in one request is an error."""
    named = dict(p.rpartition(":")[::2] if ":" in p else (p, "1") for p in filter(None, text.split(",")))
    directions = set(named.values())
    if not directions <= {"0", "1"} or len(directions) > 1:
        raise Refused(400, "fields takes names to keep (a,b) or names to drop (a:0), not both.")
    if not named:
        return lambda d: d
    keep = directions == {"1"}
    return lambda d: {k: v for k, v in d.items() if (k in named) == keep}
