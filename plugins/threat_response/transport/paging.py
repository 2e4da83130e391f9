"""An end to every list that is read page by page, whatever the vendor says of more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from include.soar.vendor.errors import Unexpected
from include.soar.vendor.wire import Response

#: For all pages of one reading, which a task keeps in its memory: fifty times an SIA page of 5,000 rows.
LARGEST_READING = 512 * 2**20


@dataclass
class Paging:
    """
    Numbers of pages, from 1, until the reader stops; and the bounds of what it reads.

    :param most_pages: one page more, and there is no end in sight
    :param largest_bytes: of all pages together
    """

    vendor: str
    operation: str
    most_pages: int
    largest_bytes: int = LARGEST_READING
    _bytes: int = 0

    def __iter__(self) -> Iterator[int]:
        """:raises Unexpected: behind the last page allowed"""
        yield from range(1, self.most_pages + 1)
        raise Unexpected(self.vendor, self.operation, f"no end after {self.most_pages} pages")

    def take(self, response: Response) -> Response:
        """
        The page, which counts.

        :raises Unexpected: with it the pages are too much to keep
        """
        self._bytes += len(response.body)
        if self._bytes > self.largest_bytes:
            raise Unexpected(self.vendor, self.operation, f"its pages are longer than {self.largest_bytes:,} bytes")
        return response
