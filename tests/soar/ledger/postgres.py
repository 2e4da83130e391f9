"""A real Postgres for the ledger's tests: a throw-away cluster in a temporary folder, or a reason to skip."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest

from tests.support import free_port

USER = "ledger"
#: With every character that a URL would have to escape.
PASSWORD = "p@ss:w/ö rd?#%"


@dataclass(frozen=True)
class Postgres:
    port: int

    def new_database(self) -> str:
        """The SQLAlchemy URL of an empty database."""
        name = f"ledger_{uuid.uuid4().hex[:12]}"
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname="postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        return f"postgresql+psycopg2://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"


def programs() -> Path | None:
    """The folder of Postgres' own programs: on the path, or where Debian keeps them."""
    places = [Path(found).resolve().parent for name in ("pg_ctl", "postgres") if (found := shutil.which(name))]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if all((p / name).exists() for name in ("initdb", "pg_ctl", "postgres"))), None)


def account() -> dict[str, Any] | None:
    """How to start a program as somebody who is not root: Postgres refuses root. None where there is nobody."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return None


@contextmanager
def serve() -> Iterator[Postgres]:
    place, somebody = programs(), account()
    if place is None:
        pytest.skip("needs Postgres: there is no initdb, pg_ctl and postgres on this machine")
    if somebody is None:
        pytest.skip("needs Postgres: it refuses root, and there is no account postgres or nobody")
    # Not pytest's folder: that one is closed to any other account.
    with tempfile.TemporaryDirectory(prefix="ledger-postgres-") as name:
        folder, port = Path(name), free_port()
        if somebody:
            os.chown(folder, somebody["user"], somebody["group"])
        password = folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        password.chmod(0o644)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -F"

        def run(program: str, *arguments: str) -> None:
            command = [str(place / program), "-D", str(folder / "data"), *arguments]
            with (folder / f"{program}.out").open("ab") as out:
                # Not captured: the server that pg_ctl leaves behind would keep a pipe open.
                done = subprocess.run(command, stdout=out, stderr=out, cwd=folder, timeout=300, **somebody)
            if done.returncode:
                text = (folder / f"{program}.out").read_text("utf-8", "replace")
                pytest.skip(f"needs Postgres: {program} failed here: {text[-300:]}")

        run("initdb", "-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", f"--pwfile={password}")
        run("pg_ctl", "-w", "-o", options, "start")
        try:
            yield Postgres(port)
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
