"""The README's table of connections, as the code has them: the registry's stages and the vendors' declarations."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from threat_response.transport.form import Vendor

BEGIN, END = "<!-- vendors:begin (python -m include.ops vendor-table --write) -->\n", "<!-- vendors:end -->\n"

HEADER = ("Connection", "Stage", "Host", "Login", "Password", "Extra, besides `verify`, `ca_bundle`, `proxy`")
#: The ledger's connection is no vendor's.
LEDGER = (
    "`threat_response_ledger`",
    "(all)",
    "a Postgres",
    "user",
    "password",
    "optional; without it the ledger is SQLite",
)
#: What the table calls a stage of the registry; any other by its own name.
STAGES = {
    "fetch": "1 fetch",
    "enrich": "3 enrich",
    "incidents": "4, 5, 9",
    "block.waf": "6 WAF",
    "block.edr": "7 EDR",
    "watch": "8 SIEM",
}
#: The fields of every vendor that is talked to.
EVERYWHERE = ("verify", "ca_bundle", "proxy")
PROJECT = "plugins/threat_response"


class TableError(ValueError):
    """The table cannot be made, or has no place; the message says why."""


def vendor_table(root: Path) -> str:
    """
    One row a vendor, by stage. Login and Password are called as in the connection's form.

    :raises TableError: the registry names a vendor that has no declaration
    """
    # Run, not imported: another copy of the project may be the installed one.
    serves: dict[str, tuple[str, ...]] = runpy.run_path(str(root / PROJECT / "registry.py"))["SERVES"]
    rows = [HEADER, ("---",) * len(HEADER)]
    for stage, vendors in serves.items():
        for vendor in vendors:
            link = f"[`{vendor}_default`]({PROJECT}/vendors/{vendor}/README.md)"
            rows.append((link, STAGES.get(stage, stage), *_fields(_declaration(root, vendor))))
    return "".join(f"| {' | '.join(row)} |\n".replace("  ", " ") for row in (*rows, LEDGER))


def _declaration(root: Path, vendor: str) -> Vendor:
    path = root / PROJECT / "vendors" / vendor / "vendor.py"
    if not path.is_file():
        raise TableError(f"the registry names {vendor}, which has no {path.relative_to(root)}")
    found: Any = runpy.run_path(str(path))["VENDOR"]
    if found.name != vendor:
        raise TableError(f"{path.relative_to(root)} declares {found.name!r}")
    declared: Vendor = found
    return declared


def _fields(vendor: Vendor) -> tuple[str, str, str, str]:
    """Host, Login, Password, Extra."""
    host = urlsplit(vendor.host)
    extra = ", ".join(f"`{field.name}`" for field in vendor.fields if field.shown and field.name not in EVERYWHERE)
    return f"`{host.netloc}{host.path}`", vendor.login or "", vendor.password or "", extra


def with_table(readme: str, table: str) -> str:
    """:raises TableError: the README has no place for it"""
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise TableError(f"the README has no place for the table: {BEGIN.strip()} … {END.strip()}")
    return readme[: begin + len(BEGIN)] + table + readme[end:]
