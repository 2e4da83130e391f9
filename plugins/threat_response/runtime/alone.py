"""To be the only one of several runs, tries and commands who does something, for a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from include.soar.vendor.errors import Unavailable
from threat_response.runtime import settings
from threat_response.runtime.run import is_gone

if TYPE_CHECKING:
    from include.soar.ledger import Ledger

#: How long a look at a control, the write that follows and the read-back may take.
LEASE = timedelta(minutes=10)


@contextmanager
def alone(
    ledger: Ledger, name: str, *, by: str, where: str, doing: str, lease: timedelta
) -> Iterator[Callable[[], None]]:
    """
    Hold the ledger's claim on ``name`` inside. Gives what must be called right before each write.

    :param by: this very try (``Run.claimant``)
    :param where: the product, for the error
    :param doing: what another one is doing then, for people
    :param lease: the longest from a look to the end of the write that follows
    :raises Unavailable: another one holds the claim; or, before a write, it is not ours any more
    """

    def hold() -> None:
        if not ledger.claims.renew(name, by=by, now=settings.now(), lease=lease):
            raise Unavailable(where, "claim", f"we took too long, and another run may be {doing}")

    if not ledger.claims.take(name, by=by, now=settings.now(), lease=lease, is_gone=is_gone):
        raise Unavailable(where, "claim", f"another run is {doing} at this moment")
    try:
        yield hold
    finally:
        ledger.claims.release(name, by=by)


def alone_at(ledger: Ledger, control: str, *, by: str) -> AbstractContextManager[Callable[[], None]]:
    """
    To be the only one who changes what is in force at a control: no run beside a command, no try beside its orphan.
    See :func:`alone`.
    """
    doing = f"changing what is in force at {control}"
    return alone(ledger, f"in_force:{control}", by=by, where=control, doing=doing, lease=LEASE)
