"""Connect the dots: which incident, action and threat intel are linked with each other."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from fastapi.responses import JSONResponse, Response

from include.simulators.cyware_respond.answers import Call, Node, Record, Refused
from include.simulators.cyware_respond.form import ADVANCED_LINK_KEYS, IOC_TYPES, LINK_KEYS
from include.simulators.cyware_respond.service import RespondService


class RespondLinks(RespondService):
    """The two calls that link, and the one that tells what is linked."""

    def _link(self, call: Call) -> Response:
        nodes: list[Node] = []
        errors: dict[str, list[str]] = {}
        for identifier, ids in call.body.items():
            if identifier not in LINK_KEYS:
                errors[identifier] = ["Unknown component identifier."]
                continue
            nodes += self._nodes(identifier, ids, errors)
        if errors:
            raise Refused(400, errors)
        nodes = list(dict.fromkeys(nodes))
        if len(nodes) < 2:
            raise Refused(400, "At least two components are required.")
        self._connect(combinations(nodes, 2))
        return JSONResponse({"message": "Components connected successfully."})

    def _link_advanced(self, call: Call) -> Response:
        if set(call.body) != {"append"} or not isinstance(call.body["append"], list) or not call.body["append"]:
            raise Refused(400, {"append": ["Expected a list of link_from and link_to, and nothing else."]})
        pairs: list[tuple[Node, Node]] = []
        for entry in call.body["append"]:
            if not isinstance(entry, dict) or set(entry) != {"link_from", "link_to"}:
                raise Refused(400, {"append": ["Each item needs link_from and link_to, and nothing else."]})
            pairs += self._advanced_pairs(entry["link_from"], entry["link_to"])
        self._connect(pairs)
        return JSONResponse({"message": "Components connected successfully."})

    def _advanced_pairs(self, start: Any, ends: Any) -> list[tuple[Node, Node]]:
        allowed_from = ADVANCED_LINK_KEYS | {"threat-actor"}
        if not self.knobs["advanced_link_from_incident"]:
            allowed_from -= {"incident"}
        if not isinstance(start, dict) or len(start) != 1 or not set(start) <= allowed_from:
            raise Refused(400, {"link_from": ["Expected exactly one supported component."]})
        if not isinstance(ends, dict) or not ends or not set(ends) <= ADVANCED_LINK_KEYS:
            raise Refused(400, {"link_to": ["Expected supported components."]})
        errors: dict[str, list[str]] = {}
        [(identifier, unique_id)] = start.items()
        sources = self._nodes(identifier, [unique_id], errors)
        targets = [node for key, ids in ends.items() for node in self._nodes(key, ids, errors)]
        if not errors and (not targets or sources[0] in targets):
            errors["link_to"] = ["Expected at least one component other than link_from."]
        if errors:
            raise Refused(400, errors)
        return [(sources[0], target) for target in targets]

    def _connected(self, call: Call) -> Response:
        component, unique_id = call.path["component"], call.path["unique_id"]
        if component == self.knobs["ioc_component"]:
            component = self._held(self.iocs, call)["ioc_type"]
        elif component not in ("incident", "action"):
            raise Refused(404)
        if self._component((component, unique_id)) is None:
            raise Refused(404)
        answer: dict[str, list[Record]] = {}
        for node in self._neighbours((component, unique_id)):
            record = self._component(node)
            if record is not None:
                shown = ("unique_id", "value") if node[0] in IOC_TYPES else ("unique_id", "readable_id", "title")
                answer.setdefault(node[0], []).append({key: record[key] for key in shown})
        return JSONResponse(answer)
