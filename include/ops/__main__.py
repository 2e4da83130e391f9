"""
``python -m include.ops new-vendor NAME``       a new enrichment provider's files (``make new-vendor NAME=…``)
``python -m include.ops vendor-table``          the README's table of connections

A developer's commands: they read and write the files of a checkout, and need neither a configured Airflow nor a ledger.
The operator's are ``airflow threat-response …``.

Exit codes: 0; 1 vendor-table: the README's is another one; 2 nothing was written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from include.ops.new_vendor import ROOT, scaffold
from include.ops.text import shown
from include.ops.vendor_table import vendor_table, with_table


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m include.ops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    vendor = commands.add_parser("new-vendor", help="write a new enrichment provider that runs at once")
    vendor.add_argument("name", metavar="NAME", help="its folder, connection type and task, e.g. acme_intel")
    vendor.add_argument("--to", type=Path, metavar="FOLDER", default=ROOT, help="another copy of this project")
    table = commands.add_parser("vendor-table", help="the README's table of connections; says whether it is current")
    table.add_argument("--write", action="store_true", help="put it into the README")
    return parser.parse_args(given)


def new_vendor(options: argparse.Namespace) -> int:
    for path in scaffold(options.name, options.to):
        print(path.relative_to(options.to))
    print("docs/add-a-vendor.md goes on from here: `CHANGE:` marks what is the vendor's.")
    return 0


def show_vendor_table(options: argparse.Namespace) -> int:
    readme, table = ROOT / "README.md", vendor_table(ROOT)
    text = readme.read_text("utf-8")
    current = with_table(text, table)
    if options.write:
        readme.write_text(current, "utf-8")
        return 0
    print(table, end="")
    return 0 if current == text else 1


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    commands = {"new-vendor": new_vendor, "vendor-table": show_vendor_table}
    try:
        return commands[options.command](options)
    except (OSError, ValueError) as error:
        print(shown(str(error)), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
