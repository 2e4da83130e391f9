"""This control at its simulator, for tests/stages/controlling/test_control_contract.py."""

from __future__ import annotations

from typing import Any

from include.simulators import crowdstrike_falcon as simulator
from tests.stages.controlling.control_contract import Subject
from tests.vendors.crowdstrike_falcon.conftest import point_at, seed


class CrowdStrikeFalcon(Subject):
    stage, name = "block.edr", "crowdstrike_falcon"
    removal = {"method": "DELETE"}
    addition = {"method": "POST", "path": "/iocs"}

    def connect(self) -> None:
        point_at(self.monkeypatch, self.sim)

    def put(self, value: str, **changes: Any) -> None:
        given = {"type": "ipv4", "value": value, "action": "detect", "severity": "low", "platforms": ["windows"]}
        seed(self.sim, given | {"applied_globally": True, "source": "soc", "description": "by hand"} | changes)

    def change(self, value: str) -> None:
        self._found(value)["description"] = "keep this, says the SOC"

    def remove(self, value: str) -> None:
        self._found(value)["deleted"] = True

    def held(self) -> set[str]:
        return {i["value"] for i in self.sim.state(self.name)["indicators"] if not i["deleted"]}

    def refuse_to_remove(self, value: str) -> None:
        bad, ids = self._found(value)["id"], simulator.ids_of

        def refusing(request: Any) -> list[str]:
            if request.method == "DELETE" and bad in ids(request):
                raise simulator.Refused(400, "Bad request")
            return ids(request)

        self.monkeypatch.setattr(simulator, "ids_of", refusing)

    def _found(self, value: str) -> Any:
        indicators = self.sim.world.simulators[self.name].indicators.values()
        return next(i for i in indicators if i["value"] == value and not i["deleted"])


SUBJECT = CrowdStrikeFalcon
