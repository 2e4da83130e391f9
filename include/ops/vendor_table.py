"""The README's table of connections, as the code has them: the registry's stages and the connections' forms."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BEGIN, END = "<!-- vendors:begin (python -m include.ops vendor-table --write) -->\n", "<!-- vendors:end -->\n"

HEADER = ("Connection", "Stage", "Host", "Login", "Password", "Extra")
#: The ledger's connection is no vendor's.
LEDGER = (
    "`threat_response_ledger`",
    "(all)",
    "a Postgres",
    "user",
    "password",
    "optional; without it the ledger is SQLite",
)
#: What of the registry serves which stage; BLOCK is a dictionary of places.
STAGES = {"FETCH": "1 fetch", "ENRICH": "3 enrich", "INCIDENTS": "4, 5, 9", "BLOCK": "", "WATCH": "8 SIEM"}
PLACES = {"waf": "6 WAF", "edr": "7 EDR"}


class TableError(ValueError):
    """The table cannot be made, or has no place; the message says why."""


def vendor_table(root: Path) -> str:
    """
    One row a vendor, by stage. Login and Password are called as in the connection's form.

    :raises TableError: registry and forms do not speak of the same vendors
    """
    # Run, not imported: another copy of the project may be the installed one. It imports nothing but typing.
    info = runpy.run_path(str(root / "plugins/threat_response/provider_info.py"))["get_provider_info"]()
    forms = {form["connection-type"]: form for form in info["connection-types"]}
    stages = dict(sorted(_stages(root / "plugins/threat_response/registry.py"), key=lambda row: row[1]))
    if different := set(forms) ^ set(stages):
        raise TableError(f"not both in the registry and with a connection form: {', '.join(sorted(different))}")
    rows = [HEADER, ("---",) * len(HEADER)]
    for vendor, stage in stages.items():
        rows.append(
            (
                f"[`{vendor}_default`](plugins/threat_response/vendors/{vendor}/README.md)",
                stage,
                *_fields(forms[vendor]),
            )
        )
    return "".join(f"| {' | '.join(row)} |\n".replace("  ", " ") for row in (*rows, LEDGER))


def _stages(registry: Path) -> Iterator[tuple[str, str]]:
    """Vendor and stage, read and not imported: the registry needs Airflow."""
    module = ast.parse(registry.read_text("utf-8"))
    values: dict[str, ast.expr | None] = {}
    for node in module.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            values[target.id if isinstance(target, ast.Name) else ""] = node.value
    for variable, stage in STAGES.items():
        value = values.get(variable)
        if isinstance(value, ast.Tuple):
            for element in value.elts:
                yield str(ast.literal_eval(element)), stage
        elif not isinstance(value, ast.Dict):
            raise TableError(f"the registry has no dictionary {variable}")
        elif variable == "BLOCK":
            for place, controls in zip(_keys(value), value.values, strict=True):
                for vendor in _keys(controls):
                    yield vendor, PLACES[place]
        else:
            for vendor in _keys(value):
                yield vendor, stage


def _keys(node: ast.expr) -> list[str]:
    keys = node.keys if isinstance(node, ast.Dict) else []
    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]


def _fields(form: dict[str, Any]) -> tuple[str, str, str, str]:
    """Host, Login, Password, Extra."""
    behaviour = form["ui-field-behaviour"]
    host = urlsplit(behaviour["placeholders"]["host"])

    def label(name: str) -> str:
        return "" if name in behaviour["hidden-fields"] else str(behaviour["relabeling"].get(name, name))

    extra = ", ".join(f"`{name}`" for name in form["conn-fields"] if name != "verify")
    return f"`{host.netloc}{host.path}`", label("login"), label("password"), extra


def with_table(readme: str, table: str) -> str:
    """:raises TableError: the README has no place for it"""
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise TableError(f"the README has no place for the table: {BEGIN.strip()} … {END.strip()}")
    return readme[: begin + len(BEGIN)] + table + readme[end:]
