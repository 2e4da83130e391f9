"""Alembic's entry: run migrations against the URL that ``store.migrate`` gives."""

from __future__ import annotations

import fcntl
import tempfile
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, text

from include.soar.ledger.tables import Table

url: str = context.config.attributes["url"]

with ExitStack() as stack:
    if url.startswith("sqlite"):
        # SQLite's DDL is not one transaction under Alembic: two processes that start at once would collide.
        name = f"threat-response-ledger-{sha256(url.encode()).hexdigest()[:16]}.lock"
        lock = stack.enter_context(open(Path(tempfile.gettempdir()) / name, "w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
    engine = create_engine(url)
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(727200)"))
        context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()
