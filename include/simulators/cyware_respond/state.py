"""What a tenant remembers: incidents, comments, threat intel, actions, their links and the settings' objects."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable
from typing import Any

from fastapi import HTTPException

from include.simulators.cyware_respond.answers import Call, Node, Record, Refused, fixed_id, public, stamp
from include.simulators.cyware_respond.form import (
    DEFAULT_FORM,
    INCIDENT_FIELDS,
    IOC_TYPES,
    REGISTRIES,
    address,
    chosen,
    fits,
    instant,
    is_uuid,
    same_value,
    text,
)
from include.simulators.kit import Simulator, parse_instant


class RespondState(Simulator):
    """One tenant's records, and the rules that a record has to keep."""

    def clear(self) -> None:
        self.incidents: dict[str, Record] = {}
        self.comments: dict[Node, list[Record]] = {}
        self.iocs: dict[str, Record] = {}
        self.actions: dict[str, Record] = {}
        self.links: dict[tuple[Node, Node], int] = {}
        self.registries: dict[str, dict[str, Record]] = {}
        self._made: dict[str, int] = {}
        self._spent: deque[float] = deque()
        self._build_registries()

    def configure(self, changes: dict[str, Any]) -> None:
        if "form" in changes:
            unknown = set(changes["form"]) - set(DEFAULT_FORM) - set(INCIDENT_FIELDS)
            if unknown:
                raise HTTPException(400, f"cyware_respond: the form has no {sorted(unknown)}")
            form = {**copy.deepcopy(DEFAULT_FORM), **changes["form"]}
            form["action"] = {**DEFAULT_FORM["action"], **form["action"]}
            changes = {**changes, "form": form}
        super().configure(changes)
        if "form" in changes:
            self._build_registries()

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"form", "incidents", "iocs"}
        if unknown:
            raise HTTPException(400, f"cyware_respond: a seed has no {sorted(unknown)}")
        if "form" in data:
            self.configure({"form": data["form"]})
        try:
            for record in data.get("iocs", ()):
                self._seed_ioc(record)
            for record in data.get("incidents", ()):
                self._seed_incident(record)
        except Refused as refusal:
            raise HTTPException(400, f"cyware_respond: {refusal.body}") from refusal

    def snapshot(self) -> dict[str, Any]:
        def of(component: str) -> dict[str, list[Record]]:
            return {unique_id: notes for (kind, unique_id), notes in self.comments.items() if kind == component}

        return {
            "incidents": [public(i) for i in self.incidents.values()],
            "comments": of("incident"),
            "iocs": [public(i) for i in self.iocs.values()],
            "ioc_comments": of("ioc"),
            "links": [{"pair": [list(a), list(b)], "posted": n} for (a, b), n in self.links.items()],
            "actions": list(self.actions.values()),
            "labels": [label["title"] for label in self.registries["labels"].values()],
        }

    def _build_registries(self) -> None:
        self.registries = {registry: {} for registry in REGISTRIES}
        for registry in REGISTRIES:
            for name in self.knobs["form"][registry]:
                self._register(registry, {REGISTRIES[registry][1]: name})

    def _register(self, registry: str, values: dict[str, str]) -> Record:
        _, name_key, others = REGISTRIES[registry]
        unique_id = fixed_id(f"{registry}/{values[name_key]}")
        record: Record = {"unique_id": unique_id, **dict.fromkeys(others), **values}
        if registry == "assigned_to":
            record["username"] = values["email"].partition("@")[0]
        self.registries[registry][unique_id] = record
        return record

    def _refer(self, registry: str, value: Any, by_name: bool) -> str:
        """The name of the object that ``value`` refers to."""
        if not isinstance(value, str):
            raise ValueError("Not a valid string.")
        name_key = REGISTRIES[registry][1]
        objects = self.registries[registry]
        if by_name:
            if any(o[name_key] == value for o in objects.values()):
                return value
            raise ValueError(f"Object with {name_key}={value} does not exist.")
        if not is_uuid(value):
            raise ValueError(f"“{value}” is not a valid UUID.")
        if value not in objects:
            raise ValueError(f'Invalid pk "{value}" - object does not exist.')
        return str(objects[value][name_key])

    def _clean(self, kind: Any, value: Any, by_name: bool) -> Any:
        if value is None:
            raise ValueError("This field may not be null.")
        if isinstance(kind, list):
            return chosen(value, kind)
        if kind == "units":
            if by_name:
                return self._clean("many business_units_impacted", value, by_name)
            return [self._refer("business_units_impacted", value, by_name)]
        many, _, registry = kind.partition(" ")
        if registry and many == "one":
            return self._refer(registry, value, by_name)
        if kind == "words" or many == "many":
            if not isinstance(value, list):
                raise ValueError(f'Expected a list of items but got type "{type(value).__name__}".')
            return list(dict.fromkeys(self._refer(registry, v, by_name) if registry else text(v) for v in value))
        if kind == "flag":
            return chosen(value, ["true", "false"])
        return {"text": text, "instant": instant, "address": address}[kind](value)

    def _validated(
        self, body: dict[str, Any], fields: dict[str, str], form: dict[str, Any], by_name: bool, partial: bool
    ) -> Record:
        errors: dict[str, list[str]] = {}
        clean: Record = {}
        custom = form.get("custom_fields", {})
        for key, value in body.items():
            kind = fields.get(key) or custom.get(key)
            if kind is None:
                errors[key] = ["This field is not part of the form."]
                continue
            try:
                clean[key] = self._clean(kind, value, by_name)
                if key in form and key not in REGISTRIES:
                    options = form[key]
                    for option in clean[key] if isinstance(clean[key], list) else [clean[key]]:
                        chosen(option, options)
            except ValueError as problem:
                errors[key] = [str(problem)]
        if not partial:
            errors.update({key: ["This field is required."] for key in form["required"] if key not in body})
        if errors:
            raise Refused(400, errors)
        return clean

    def _new_incident(self, values: Record) -> Record:
        n = self._next("incident")
        now = stamp(self.clock.now())
        incident: Record = {
            "unique_id": fixed_id(f"incident/{n}"),
            "readable_id": f"INC{99 + n}",
            **dict.fromkeys(INCIDENT_FIELDS),
            "status": "open",
            "labels": [],
            "is_paused": False,
            "created": now,
            "modified": now,
            **values,
        }
        self.incidents[incident["unique_id"]] = incident
        return incident

    def _refuse_open_actions(self, incident: Record) -> None:
        nodes = self._neighbours(("incident", incident["unique_id"]))
        if any(kind == "action" and self.actions[uid]["status"] != "closed" for kind, uid in nodes):
            raise Refused(400, {"status": ["Close all linked actions before closing the incident."]})

    def _incident(self, call: Call) -> Record:
        """By the path's id. Only the advanced paths (``any_id``) take a readable id."""
        any_id = call.path.get("any_id")
        for incident in self.incidents.values():
            wanted = (incident["unique_id"], incident["readable_id"]) if any_id else (incident["unique_id"],)
            if (any_id or call.path["unique_id"]) in wanted and self._visible(incident):
                return incident
        raise Refused(404)

    def _writable_incident(self, call: Call) -> Record:
        incident = self._incident(call)
        if incident["status"] == "merged" and self.knobs["merged_read_only"]:
            raise Refused(400, "A merged incident cannot be modified.")
        return incident

    def _add_comment(self, node: Node, description: Any, comment_type: str, mentioned: list[str]) -> Record:
        comment = {
            "unique_id": fixed_id(f"comment/{self._next('comment')}"),
            "description": description,
            "comment_type": comment_type,
            "mentioned_users_usernames": mentioned,
            "created": stamp(self.clock.now()),
        }
        self.comments.setdefault(node, []).append(comment)
        return comment

    def _nodes(self, identifier: str, ids: Any, errors: dict[str, list[str]]) -> list[Node]:
        if not isinstance(ids, list):
            errors[identifier] = [f'Expected a list of items but got type "{type(ids).__name__}".']
            return []
        for unique_id in ids:
            if not isinstance(unique_id, str) or not is_uuid(unique_id):
                errors[identifier] = [f"“{unique_id}” is not a valid UUID."]
            elif self._component((identifier, unique_id)) is None:
                errors[identifier] = [f'Invalid pk "{unique_id}" - object does not exist.']
        return [(identifier, unique_id) for unique_id in ids if isinstance(unique_id, str)]

    def _component(self, node: Node) -> Record | None:
        identifier, unique_id = node
        if identifier in IOC_TYPES:
            record = self.iocs.get(unique_id)
            record = record if record and record["ioc_type"] == identifier else None
        else:
            record = {"incident": self.incidents, "action": self.actions}.get(identifier, {}).get(unique_id)
        return record if record and self._visible(record) else None

    def _connect(self, pairs: Iterable[tuple[Node, Node]]) -> None:
        for a, b in pairs:
            pair = (min(a, b), max(a, b))
            self.links[pair] = self.links.get(pair, 0) + 1

    def _neighbours(self, node: Node) -> list[Node]:
        return [b if a == node else a for a, b in self.links if node in (a, b)]

    def _find_ioc(self, ioc_type: str, value: str) -> Record | None:
        wanted = same_value(ioc_type, value)
        return next(
            (i for i in self.iocs.values() if i["ioc_type"] == ioc_type and same_value(ioc_type, i["value"]) == wanted),
            None,
        )

    def _new_ioc(self, ioc_type: str, value: str, **more: Any) -> Record:
        now = stamp(self.clock.now())
        ioc: Record = {
            "unique_id": fixed_id(f"ioc/{self._next('ioc')}"),
            "ioc_type": ioc_type,
            "value": value,
            "status": "none",
            "tlp": "WHITE",
            "created": now,
            "modified": now,
            **more,
        }
        self.iocs[ioc["unique_id"]] = ioc
        return ioc

    def _next(self, kind: str) -> int:
        self._made[kind] = self._made.get(kind, 0) + 1
        return self._made[kind]

    def _visible(self, record: Record) -> bool:
        at = record.get("_available_at")
        return at is None or parse_instant(at) <= self.clock.now()

    def _newest_first(self, records: dict[str, Record]) -> list[Record]:
        visible = [record for record in reversed(records.values()) if self._visible(record)]
        return sorted(visible, key=lambda record: str(record["created"]), reverse=True)

    def _held(self, records: dict[str, Record], call: Call) -> Record:
        record = records.get(call.path["unique_id"])
        if record is None or not self._visible(record):
            raise Refused(404)
        return record

    def _seed_incident(self, record: Record) -> None:
        own = {"unique_id", "readable_id", "is_paused", "created", "modified", "_available_at"}
        form = self.knobs["form"]
        given = {key: value for key, value in record.items() if key in own}
        body = {k: v for k, v in record.items() if k not in own | {"status", "_iocs", "_comments"}}
        values = self._validated(body, INCIDENT_FIELDS, form, by_name=True, partial=True)
        values["status"] = chosen(record.get("status", "open"), [*form["status"], "merged"])
        if "created" in given:
            given["created"] = stamp(parse_instant(given["created"]))
            given["modified"] = stamp(parse_instant(given.get("modified", given["created"])))
        incident = self._new_incident({**values, **given})
        node = ("incident", incident["unique_id"])
        for ioc_type, iocs in record.get("_iocs", {}).items():
            for value in iocs:
                ioc = self._find_ioc(ioc_type, value) or self._seed_ioc({"ioc_type": ioc_type, "value": value})
                self._connect([(node, (ioc_type, ioc["unique_id"]))])
        for comment in record.get("_comments", ()):
            self._add_comment(node, comment, "note", [])

    def _seed_ioc(self, record: Record) -> Record:
        more = {key: value for key, value in record.items() if key not in ("ioc_type", "value")}
        if set(more) - {"status", "tlp", "_available_at"} or not fits(record["ioc_type"], record["value"]):
            raise Refused(400, f"not a threat intel record: {record}")
        return self._new_ioc(record["ioc_type"], record["value"], **more)
