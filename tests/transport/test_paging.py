"""4c: a list ends, whatever the vendor says of more."""

from __future__ import annotations

import pytest

from include.soar.vendor.errors import Unexpected
from include.soar.vendor.wire import Response
from threat_response.transport.paging import Paging


def page(number: int) -> Response:
    return Response(200, {}, f"page {number}".encode())


def test_a_list_that_never_ends() -> None:
    numbers = iter(Paging("v", "list", 3))
    assert [next(numbers) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(Unexpected, match="no end after 3 pages"):
        next(numbers)


def test_pages_that_are_too_much_together() -> None:
    paging = Paging("v", "list", 3, largest_bytes=12)
    paging.take(page(1))
    paging.take(page(2))
    with pytest.raises(Unexpected, match="longer than 12 bytes"):
        paging.take(page(3))
