"""The border of the model: text that every store can carry.

Airflow keeps XCom in ``JSONB`` and the ledger can lie in Postgres. Neither takes U+0000, and ``JSONB`` and UTF-8 take
no half of a surrogate pair; JSON can spell both, and attackers do. One such character would cost the whole batch.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

REPLACEMENT = "\ufffd"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """
    ``text`` with U+FFFD in the place of each character that Postgres cannot keep. Text that only spells an escape
    (a backslash, ``u0000``) is text like any other.
    """
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub(REPLACEMENT, text)


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


#: The type of every text of the model, keys of mappings too (tests/soar/test_model.py looks for others).
Text = Annotated[str, BeforeValidator(_storable)]


def storable_json(document: Any) -> Any:
    """A loaded JSON document with every text in it storable, keys too. Not recursive: a vendor chooses the depth."""
    root = [document]
    todo: list[Any] = [root]
    while todo:
        container = todo.pop()
        if isinstance(container, dict):
            members = {storable(key): value for key, value in container.items()}
            container.clear()
            container.update(members)
        for place, value in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(value, str):
                container[place] = storable(value)
            elif isinstance(value, (list, dict)):
                todo.append(value)
    return root[0]
