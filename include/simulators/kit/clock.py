"""The simulated vendors' clock, and how an instant is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """The simulated vendor's clock: real time until a test says otherwise. Always UTC."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def timestamp(self) -> float:
        return self.now().timestamp()

    def set(self, instant: datetime) -> None:
        self._offset = instant.astimezone(UTC) - datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)

    def reset(self) -> None:
        self._offset = timedelta(0)


def parse_instant(text: str) -> datetime:
    """ISO 8601 with offset or ``Z``, as UTC."""
    instant = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
