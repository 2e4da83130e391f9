"""This control at its simulator, for tests/stages/controlling/test_control_contract.py."""

from __future__ import annotations

from typing import Any

from tests.stages.controlling.control_contract import IP, Subject
from tests.vendors.splunk.conftest import held as held_by
from tests.vendors.splunk.conftest import point_at, seed


class Splunk(Subject):
    stage, name = "watch", "splunk"
    removal = {"method": "DELETE"}

    def connect(self) -> None:
        point_at(self.monkeypatch, self.sim)
        seed(self.sim)

    def put(self, value: str, **changes: Any) -> None:
        seed(self.sim, {"_key": f"{IP}:{value}", "value": value, "source": "soc"} | changes)

    def change(self, value: str) -> None:
        seed(self.sim, held_by(self.sim)[f"{IP}:{value}"] | {"note": "keep this, says the SOC"})

    def held(self) -> set[str]:
        return {document["value"] for document in held_by(self.sim).values()}

    def refuse_to_remove(self, value: str) -> None:
        self.sim.fault(self.name, "status", status=400, times=-1, path=value, **self.removal)


SUBJECT = Splunk
