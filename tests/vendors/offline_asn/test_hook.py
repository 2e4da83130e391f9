"""The offline table: where it lies, and what is said when it cannot be read."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from include.soar.vendor.errors import Unauthorized, Unavailable, Unexpected
from threat_response.vendors.offline_asn import api
from threat_response.vendors.offline_asn.hook import OfflineAsnHook

SAMPLE = (Path(__file__).parent / "samples/ip2asn-combined.tsv").read_bytes()


def connected(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> OfflineAsnHook:
    document = json.dumps({"conn_type": "offline_asn", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_OFFLINE_ASN_DEFAULT", document)
    return OfflineAsnHook()


@pytest.mark.parametrize("prefix", ["", "file://"])
@pytest.mark.parametrize("content", [SAMPLE, gzip.compress(SAMPLE)], ids=["plain", "packed"])
def test_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, content: bytes) -> None:
    (tmp_path / "table").write_bytes(content)
    hook = connected(monkeypatch, table=f"{prefix}{tmp_path}/table")
    table, digest = hook.load()
    assert (len(table), digest) == (4, hashlib.sha256(content).hexdigest())
    assert hook.test_connection() == (True, "offline_asn: the table holds 4 ranges")


def test_a_table_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "table"
    with pytest.raises(Unavailable, match="there is no such object"):
        connected(monkeypatch, table=str(file)).load()
    with pytest.raises(Unavailable):
        connected(monkeypatch, table=str(tmp_path)).load()  # a folder
    file.write_bytes(SAMPLE)
    monkeypatch.setattr(api, "LARGEST_FILE", len(SAMPLE) - 1)
    with pytest.raises(Unexpected, match="longer than"):
        connected(monkeypatch, table=str(file)).load()


@pytest.mark.parametrize(
    ("table", "problem"),
    [(None, "no field table"), ("nosuch://bucket/table", "no file system for nosuch://")],
)
def test_a_connection_that_a_person_must_check(
    monkeypatch: pytest.MonkeyPatch, table: str | None, problem: str
) -> None:
    hook = connected(monkeypatch, table=table)
    with pytest.raises(Unauthorized, match=problem):
        hook.load()
    passed, message = hook.test_connection()
    assert not passed
    assert problem in message
