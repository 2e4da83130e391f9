"""Types of fields that a vendor's answer may spell in odd ways without costing the answer.

For what is only repeated, shown or a number in other clothes. A field that decides something (listed or not, how bad,
about which value) has no such type: what of it cannot be read is an error, never a default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ValidationError, WrapValidator

T = TypeVar("T")


def _or_none(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except (ValidationError, ValueError):
        return None


def _texts(value: Any) -> Any:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else _list(value)


def _digits(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _list(value: Any) -> Any:
    return [] if value is None else value


#: What cannot be read is absent.
Cosmetic = Annotated[T | None, WrapValidator(_or_none)]
#: The texts of a list, for which some servers send null; whatever else is in it is left out.
Labels = Annotated[tuple[str, ...], BeforeValidator(_texts)]
#: An identity or a cursor that some servers send as a number: its digits are its text.
Digits = Annotated[str, BeforeValidator(_digits)]
#: A list for which some servers send null.
Rows = Annotated[tuple[T, ...], BeforeValidator(_list)]
#: The rows of a list that can be read. For rows that only add something to an answer.
CosmeticRows = Annotated[tuple[Annotated[T | None, WrapValidator(_or_none)], ...], BeforeValidator(_list)]
