"""The README's table of connections: is it the one that the code gives?"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from include.ops.__main__ import main
from include.ops.new_vendor import REGISTRY
from include.ops.vendor_table import BEGIN, END, TableError, vendor_table, with_table
from tests.conftest import ROOT
from threat_response.registry import vendors
from threat_response.transport.form import vendor_of


def rows(table: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {match[1]: line for line in lines if (match := re.search(r"`(\w+)`", line[0]))}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    declarations = (ROOT / "plugins/threat_response/vendors").glob("*/vendor.py")
    for file in (REGISTRY, *(path.relative_to(ROOT) for path in declarations)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def test_the_readme_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vendor-table"]) == 0, "python -m include.ops vendor-table --write"
    assert BEGIN + capsys.readouterr().out + END in (ROOT / "README.md").read_text("utf-8")


def test_every_connection_has_a_row_with_the_words_of_its_form() -> None:
    table = rows(vendor_table(ROOT))
    names = {vendor_of(name).conn_id for name in vendors()}
    assert set(table) == names | {"threat_response_ledger"}
    assert {len(row) for row in table.values()} == {6}
    assert table["abuseipdb_default"][1:5] == ["3 enrich", "`api.abuseipdb.com`", "", "API key"]
    assert "`max_age_days`" in table["abuseipdb_default"][5]
    assert "`max_body`" not in table["akamai_sia_default"][5]
    assert [table[f"{vendor}_default"][1] for vendor in ("akamai_sia", "cyware_respond", "akamai_client_lists")] == [
        "1 fetch",
        "4, 5, 9",
        "6 WAF",
    ]
    assert [row[1] for row in table.values()] == [*sorted(row[1] for row in table.values())[1:], "(all)"]


def test_a_vendor_without_a_declaration_of_its_own_is_named(project: Path) -> None:
    registry, splunk = project / REGISTRY, project / "plugins/threat_response/vendors/splunk/vendor.py"
    assert vendor_table(project) == vendor_table(ROOT)
    splunk.write_text(splunk.read_text("utf-8").replace('"splunk"', '"elsewhere"'), "utf-8")
    with pytest.raises(TableError, match=r"splunk/vendor\.py declares 'elsewhere'"):
        vendor_table(project)
    splunk.unlink()
    with pytest.raises(TableError, match=r"names splunk, which has no .*/vendor\.py"):
        vendor_table(project)
    registry.write_text(registry.read_text("utf-8").replace('"watch": ("splunk",)', '"soothe": ("misp",)'), "utf-8")
    assert rows(vendor_table(project))["misp_default"][1] == "soothe"


def test_a_table_goes_between_its_marks() -> None:
    assert with_table(f"Before.\n\n{BEGIN}| old |\n{END}\nAfter.\n", "| new |\n") == (
        f"Before.\n\n{BEGIN}| new |\n{END}\nAfter.\n"
    )
    for readme in ("Nothing.\n", f"{BEGIN}never ends\n", f"{END}{BEGIN}"):
        with pytest.raises(TableError, match="no place"):
            with_table(readme, "")
