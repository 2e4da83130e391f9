"""What every class of the model shares: frozen and strict validation, UTC instants, deterministic ids, digests."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

#: Version of the JSON between tasks. A reader refuses another version rather than guessing.
SchemaVersion = Literal[1]


SCHEMA_VERSION: SchemaVersion = 1


#: Ours, for ids of things that STIX does not define (incident markers, comments).
OWN_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/api-threat-response")


def _plain_utc(value: datetime) -> datetime:
    """
    A datetime of the standard library, in UTC. Airflow gives pendulum's, which with ``datetime.UTC`` as its zone
    loses the zone when a timedelta is added (pendulum 3.3).

    :raises ValueError: it lies outside of the calendar once it is in UTC (``9999-12-31T23:59:59-12:00``)
    """
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside of the calendar") from None
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, tzinfo=UTC)


Instant = Annotated[AwareDatetime, AfterValidator(_plain_utc)]


class Frozen(BaseModel):
    # Read with the DAG, which uses none of them: a validator is built where it is first needed.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """As JSON types, for XCom."""
        return self.model_dump(mode="json")


class Section(BaseModel):
    """A section of a configuration file: as strict as the model, but no JSON between tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def own_id(kind: str, *parts: str) -> str:
    """A deterministic UUID for one of our own things."""
    return str(uuid.uuid5(OWN_NAMESPACE, json.dumps([kind, *parts])))


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()
