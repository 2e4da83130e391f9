"""Writing many rows to a vendor that refuses a whole request for one bad row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from include.soar.vendor.errors import Rejected, VendorError

Row = TypeVar("Row")


def write_in_halves(
    chunks: Iterable[Sequence[Row]], send: Callable[[Sequence[Row]], object], *, name: Callable[[Row], str]
) -> tuple[dict[str, str], VendorError | None]:
    """
    Write chunk by chunk. A refused chunk is halved until the bad row stands alone, so that it costs itself only.

    A row may be sent more than once: as part of a refused chunk, and again in a half of it.

    :param send: raises ``Rejected`` where the vendor refuses what it was given
    :param name: what to call a row in the result
    :return: why each refused row was refused, by name; and the error that stopped the writing, if any. What was
        written before that stays written: read back to know.
    """
    refused: dict[str, str] = {}

    def write(rows: Sequence[Row]) -> None:
        try:
            send(rows)
        except Rejected as error:
            if len(rows) == 1:
                refused[name(rows[0])] = error.reason
                return
            half = len(rows) // 2
            write(rows[:half])
            write(rows[half:])

    try:
        for chunk in chunks:
            write(chunk)
    except VendorError as error:
        return refused, error
    return refused, None
