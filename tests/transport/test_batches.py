"""Writing in halves: does one bad row cost itself only, and is nothing forgotten when the writing stops?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from include.soar.vendor.errors import Rejected, Unavailable
from threat_response.transport.batches import write_in_halves


class Vendor:
    """It takes a chunk whole or not at all, and goes away after ``most`` calls."""

    def __init__(self, bad: set[int], most: int = 1000) -> None:
        self.bad = bad
        self.most = most
        self.held: list[int] = []
        self.calls = 0

    def send(self, rows: Sequence[int]) -> None:
        self.calls += 1
        if self.calls > self.most:
            raise Unavailable("vendor", "write", "gone")
        if found := sorted(self.bad & set(rows)):
            raise Rejected("vendor", "write", f"row {found[0]} is bad")
        self.held += rows


@pytest.mark.parametrize("bad", [set(), {0}, {7}, {3, 4}, set(range(8))], ids=str)
def test_the_bad_rows_are_refused_and_the_others_written(bad: set[int]) -> None:
    vendor = Vendor(bad)
    refused, stopped = write_in_halves([range(4), range(4, 8)], vendor.send, name=str)
    assert refused == {str(row): f"row {row} is bad" for row in bad}
    assert stopped is None
    assert sorted(vendor.held) == sorted(set(range(8)) - bad)


def test_a_good_chunk_is_one_call() -> None:
    vendor = Vendor(set())
    assert write_in_halves([[1, 2, 3], [4]], vendor.send, name=str) == ({}, None)
    assert vendor.calls == 2


def test_no_chunk_is_no_call() -> None:
    vendor = Vendor(set())
    assert write_in_halves([], vendor.send, name=str) == ({}, None)
    assert vendor.calls == 0


def test_what_was_refused_before_the_writing_stopped_is_told() -> None:
    vendor = Vendor({0}, most=3)  # [0, 1] refused, [0] refused, [1] written; then it is gone
    refused, stopped = write_in_halves([[0, 1], [2], [3]], vendor.send, name=str)
    assert refused == {"0": "row 0 is bad"}
    assert isinstance(stopped, Unavailable)
    assert vendor.held == [1]
    assert vendor.calls == 4, "the writing went on after an error that is not about a row"
