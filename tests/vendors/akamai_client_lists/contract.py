"""This control at its simulator, for tests/stages/controlling/test_control_contract.py."""

from __future__ import annotations

from typing import Any

from tests.stages.controlling.control_contract import Subject
from tests.vendors.akamai_client_lists.conftest import LIST, point_at, seed
from tests.vendors.akamai_client_lists.conftest import held as held_by


class AkamaiClientLists(Subject):
    stage, name = "block.waf", "akamai_client_lists"
    removal = {"method": "POST", "path": "/items$"}
    addition = removal

    def connect(self) -> None:
        point_at(self.monkeypatch, self.sim)
        seed(self.sim)

    def put(self, value: str, **changes: Any) -> None:
        self._commit({value: {"value": value, "description": "by hand", "tags": ["soc"]} | changes})

    def change(self, value: str) -> None:
        items = self.sim.world.simulators[self.name].lists[LIST].items
        [key] = [key for key, item in items.items() if item["value"] == value]
        items[key] = items[key] | {"tags": [*items[key]["tags"], "keep"]}

    def remove(self, value: str) -> None:
        self._commit({value: None})

    def _commit(self, changes: dict[str, Any]) -> None:
        """A colleague's edit, with its activation: an item by its value, or None to take it off."""
        simulator = self.sim.world.simulators[self.name]
        entry = simulator.lists[LIST]
        kept = {key: item for key, item in entry.items.items() if item["value"] not in changes}
        for key, fields in (simulator._read_item(entry.type, given) for given in changes.values() if given):
            kept[key] = simulator._new_item(entry.type, fields, entry.version + 1)
        simulator._settle()
        simulator._commit(entry, kept)
        entry.live["PRODUCTION"] = entry.version

    def held(self) -> set[str]:
        return set(held_by(self.sim))

    def enforced(self) -> set[str]:
        return set(self.sim.state(self.name)["lists"][LIST]["live"]["PRODUCTION"])

    def refuse_to_remove(self, value: str) -> None:
        self.sim.fault(self.name, "status", status=400, times=-1, body=f'"{value}"', **self.removal)


SUBJECT = AkamaiClientLists
