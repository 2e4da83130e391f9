"""This control at its simulator, for tests/stages/controlling/test_control_contract.py."""

from __future__ import annotations

from typing import Any

from tests.stages.controlling.control_contract import IP, Subject
from tests.vendors.splunk.conftest import COLLECTION, point_at, seed
from tests.vendors.splunk.conftest import held as held_by


class Splunk(Subject):
    stage, name = "watch", "splunk"
    removal = {"method": "DELETE"}
    addition = {"method": "POST", "path": "batch_save$"}

    def connect(self) -> None:
        point_at(self.monkeypatch, self.sim)
        seed(self.sim)

    def put(self, value: str, **changes: Any) -> None:
        seed(self.sim, {"_key": f"{IP}:{value}", "value": value, "source": "soc"} | changes)

    def change(self, value: str) -> None:
        seed(self.sim, held_by(self.sim)[f"{IP}:{value}"] | {"note": "keep this, says the SOC"})

    def remove(self, value: str) -> None:
        del self.sim.world.simulators[self.name].collections["search", COLLECTION].documents[f"{IP}:{value}"]

    def held(self) -> set[str]:
        return {document["value"] for document in held_by(self.sim).values()}

    def refuse_to_remove(self, value: str) -> None:
        self.sim.fault(self.name, "status", status=400, times=-1, path=value, **self.removal)


SUBJECT = Splunk
