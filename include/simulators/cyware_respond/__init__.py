"""Cyware Respond (CFTR) Open API, as a tenant: incidents, comments, threat intel (IOCs), actions and their links.

Imitated from the vendor's public API reference (https://cftrapi.cyware.com, requests only: it shows no answer and
no error body), https://techdocs.cyware.com/en/299671-439928-configure-open-api.html and the product pages beside it.
Base path ``/cftrapi/openapi``. Authentication is ``AccessID``, ``Expires`` and ``Signature`` in the query string,
where Signature is base64(HMAC-SHA1(secret, f"{access_id}\\n{expires}")).

Inferred, because no body is documented: **every answer's shape**, the 400/401/404/405/429 bodies (those of Django
REST Framework, which the trailing slashes, ``__gte`` and ``non_field_error`` suggest), newest-first order, pairwise
linking by the flat call, what ``comment_type`` does, paused and merged rules. They stand in the constants below or
are knobs, so that a real tenant's difference is one change here.

Seed (each key optional; a second seed adds)::

    {"form": {...},                      # laid over the tenant form, as the knob is
     "incidents": [{"title": ..., "description": ..., "status": "open", "level": "High", "created": ISO 8601,
                    ...any form field by name, "unique_id", "readable_id", "is_paused": bool,
                    "_iocs": {"ioc_ip": ["203.0.113.10"]},   # created and linked to this incident
                    "_comments": ["<p>..</p>"], "_available_at": ISO 8601 (invisible before)}],
     "iocs": [{"ioc_type": "ioc_ip", "value": ..., "status": "none", "tlp": "WHITE", "_available_at": ...}]}

``snapshot()``: incidents (full, oldest first), comments {incident unique_id: [...], oldest first}, iocs,
ioc_comments, links ([{"pair": [[identifier, unique_id], [identifier, unique_id]], "posted": n}]), actions, labels.

Knobs (``settings`` has the defaults): ``access_id``, ``secret_key``, ``bearer_token`` (None: signature only),
``max_ttl`` seconds that Expires may lie ahead (a client of a live tenant: 30), ``clock_skew_seconds`` of the
server, ``auth_status`` 401 or 403,
``rate_limit`` per ``rate_window_seconds`` with or without ``retry_after_header``, ``error_style`` drf or
orchestrate, ``envelope`` top or link, ``next_link`` False leaves next/previous null, ``past_end`` 404 or "empty" for
a page after the last, ``page_size``, ``max_page_size``, ``unknown_query`` refuse or ignore, ``create_status``,
``form``, ``labels_put`` replace or merge, ``comment_type_makes_note``, ``close_needs_closed_actions``,
``merged_read_only``, ``bulk_create_existing`` accept or refuse, ``bulk_create_answer`` all, new (existing values
are left out) or none (no ids), ``advanced_link_from_incident``, ``ioc_component`` (the name under which an IOC's
connections are read). The form maps a field to its allowed values; also ``required`` (list), ``custom_fields``
{key: "text" | "words" | "instant" | "address" | [allowed values]}, ``action`` {same, for actions}, ``ioc_status``.
Configuring a form rebuilds labels, sources, groups, users, units and locations from it.

POST or PUT without the trailing slash answers 500 with Django's APPEND_SLASH text (production would redirect and
lose the body: failing loudly is the useful imitation); GET is redirected, as Django does.

What it does NOT imitate: users' permissions and protected incidents (the one credential sees everything), linear
workflows and mandatory phase fields, reopening limits, HTML sanitising, merging and pausing (UI functions: seed
them), file upload, recommended users, time tracking, forms, rules, activity and request logs, licence, PUT of
settings objects, modules other than incident, action and IOC (their ids never exist), credential expiry dates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi.responses import JSONResponse, Response

from include.simulators.cyware_respond.answers import INCIDENT_ROW, Call, Node, Record, Refused, fixed_id, public, stamp
from include.simulators.cyware_respond.form import (
    ACTION_FIELDS,
    COMMENT_TYPES,
    DEFAULT_FORM,
    FROZEN_WHILE_PAUSED,
    INCIDENT_FIELDS,
    IOC_TYPES,
    READ_ONLY_REGISTRIES,
    REGISTRIES,
    TLP,
    fits,
    text,
)
from include.simulators.cyware_respond.links import RespondLinks
from include.simulators.cyware_respond.service import ANYWHERE, PAGING
from include.simulators.kit import Clock


class CywareRespondSimulator(RespondLinks):
    """One Respond tenant with one Open API credential."""

    product = "cyware_respond"
    prefixes = ("/cftrapi",)
    settings = {
        "access_id": "sim-access",
        "secret_key": "sim-secret",
        "bearer_token": None,
        "max_ttl": 30,
        "clock_skew_seconds": 0,
        "auth_status": 401,
        "rate_limit": 6000,
        "rate_window_seconds": 900,
        "retry_after_header": True,
        "error_style": "drf",
        "envelope": "top",
        "next_link": True,
        "past_end": 404,
        "page_size": 10,
        "max_page_size": 100,
        "unknown_query": "refuse",
        "create_status": 201,
        "form": DEFAULT_FORM,
        "labels_put": "replace",
        "comment_type_makes_note": True,
        "close_needs_closed_actions": False,
        "merged_read_only": True,
        "bulk_create_existing": "accept",
        "bulk_create_answer": "all",
        "advanced_link_from_incident": True,
        "ioc_component": "ioc",
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        serve = self._serve
        serve("GET", "/test-connectivity/", self._test_connectivity)

        serve("GET", "/v1/incident/", self._list_incidents, PAGING | {"created_date__gte", "created_date__lte"})
        serve("POST", "/v1/incident/", self._create_incident, {"values"})
        serve("GET", "/v1/incident/qb/extended/", self._list_incidents, PAGING)
        serve("GET", "/v1/incident/qb/extended/{any_id}/", self._get_incident)
        serve("GET", "/v1/incident/{unique_id}/", self._get_incident)
        serve("PUT", "/v1/incident/{unique_id}/", self._update_incident, {"values"})
        serve("GET", "/v1/comments/incident/{unique_id}/", self._list_comments, PAGING)
        serve("POST", "/v1/comments/incident/{unique_id}/", self._comment_incident)
        serve("GET", "/v1/comments/qb/extended/incident/{any_id}/", self._list_comments, PAGING)

        serve("POST", "/v1/connect-the-dots/link-components/", self._link)
        serve("POST", "/v1/connect-the-dots/advanced-link-components/", self._link_advanced)
        serve("GET", "/v1/{component}/{unique_id}/connect-the-dots/", self._connected)

        serve("GET", "/v1/ioc-module/ioc/", self._list_iocs, PAGING)
        serve("GET", "/v1/ioc-module/ioc-type/", self._list_ioc_types, PAGING)
        serve("POST", "/v1/ioc-module/ioc/bulk-create/", self._bulk_create_iocs)
        serve("GET", "/v1/ioc-module/ioc/{unique_id}/", self._get_ioc)
        serve("PUT", "/v1/ioc-module/ioc/{unique_id}/", self._update_ioc)
        serve("POST", "/v1/comments/ioc/{unique_id}/", self._comment_ioc)

        serve("GET", "/v1/action/", self._list_actions, PAGING)
        serve("POST", "/v1/action/", self._create_action, {"values"})
        serve("GET", "/v1/action/{unique_id}/", self._get_action)
        serve("PUT", "/v1/action/{unique_id}/", self._update_action, {"values"})
        serve("GET", "/v1/comments/action/{unique_id}/", self._list_action_comments, PAGING)

        serve("POST", "/v1/utils/advanced-search-per-key/{component}/", self._advanced_search, PAGING)
        for registry, (path, _, _) in REGISTRIES.items():
            serve("GET", f"/v1/{path}/", self._lister(registry), PAGING)
            if registry not in READ_ONLY_REGISTRIES:
                serve("POST", f"/v1/{path}/", self._creator(registry))
        self.router.add_api_route(
            ANYWHERE,
            self._elsewhere,
            methods=["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"],
            response_model=None,
        )

    def _test_connectivity(self, call: Call) -> Response:
        return JSONResponse({"message": "Connection successful."})

    def _list_incidents(self, call: Call) -> Response:
        bounds: dict[str, str] = {}
        for key in ("created_date__gte", "created_date__lte"):
            if key in call.query:
                if not re.fullmatch(r"[0-9]{1,11}", call.query[key]):
                    raise Refused(400, {key: ["Enter a number."]})
                bounds[key] = stamp(datetime.fromtimestamp(int(call.query[key]), UTC))
        rows = [
            {key: incident[key] for key in INCIDENT_ROW}
            for incident in self._newest_first(self.incidents)
            if bounds.get("created_date__gte", "") <= incident["created"] <= bounds.get("created_date__lte", "~")
        ]
        return self._page(call, rows)

    def _get_incident(self, call: Call) -> Response:
        return JSONResponse(public(self._incident(call)))

    def _create_incident(self, call: Call) -> Response:
        values = self._validated(call.body, INCIDENT_FIELDS, self.knobs["form"], call.by_name, partial=False)
        return JSONResponse(public(self._new_incident(values)), self.knobs["create_status"])

    def _update_incident(self, call: Call) -> Response:
        incident = self._writable_incident(call)
        body = dict(call.body)
        comment_type = body.pop("comment_type", None)
        note = None
        if comment_type is not None:
            if comment_type not in COMMENT_TYPES:
                raise Refused(400, {"comment_type": [f'"{comment_type}" is not a valid choice.']})
            if "description" not in body:
                raise Refused(400, {"description": ["This field is required."]})
            if self.knobs["comment_type_makes_note"]:
                note = body.pop("description")
                if not isinstance(note, str) or not note.strip():
                    raise Refused(400, {"description": ["This field may not be blank."]})
        changes = self._validated(body, INCIDENT_FIELDS, self.knobs["form"], call.by_name, partial=True)
        if incident["is_paused"]:
            frozen = [key for key in FROZEN_WHILE_PAUSED if key in changes]
            if frozen:
                raise Refused(400, {key: ["The incident is paused."] for key in frozen})
        if changes.get("status") == "closed" and self.knobs["close_needs_closed_actions"]:
            self._refuse_open_actions(incident)
        if "labels" in changes and self.knobs["labels_put"] == "merge":
            changes["labels"] = list(dict.fromkeys([*incident["labels"], *changes["labels"]]))
        if changes:
            changes["is_paused"] = False  # working on the incident resumes it
        incident.update(changes, modified=stamp(self.clock.now()))
        if note is not None:
            self._add_comment(("incident", incident["unique_id"]), note, comment_type, [])
        return JSONResponse(public(incident))

    def _advanced_search(self, call: Call) -> Response:
        if call.path["component"] != "incident":
            raise Refused(404)
        criteria = dict(call.body)
        operator = criteria.pop("operator", "AND")
        how = criteria.pop("operator_search_type", "exact_match")
        if operator not in ("AND", "OR"):
            raise Refused(400, {"operator": [f'"{operator}" is not a valid choice.']})
        if how != "exact_match":
            raise Refused(400, {"operator_search_type": [f'"{how}" is not a valid choice.']})
        if not criteria:
            raise Refused(400, "At least one field is required.")
        known = {**INCIDENT_FIELDS, **self.knobs["form"]["custom_fields"]}
        errors = {key: ["This field is not part of the form."] for key in criteria if key not in known}
        for key, value in criteria.items():
            kind = str(known.get(key))
            registry = "business_units_impacted" if kind == "units" else kind.partition(" ")[2]
            try:
                criteria[key] = self._refer(registry, value, by_name=False) if registry else text(value)
            except ValueError as problem:
                errors.setdefault(key, [str(problem)])
        if errors:
            raise Refused(400, errors)

        def hit(incident: Record) -> bool:
            held = ((incident.get(key), value) for key, value in criteria.items())
            hits = [value in has if isinstance(has, list) else has == value for has, value in held]
            return all(hits) if operator == "AND" else any(hits)

        found = [incident for incident in self._newest_first(self.incidents) if hit(incident)]
        return self._page(call, [{key: incident[key] for key in INCIDENT_ROW} for incident in found])

    def _comment_incident(self, call: Call) -> Response:
        return self._comment(("incident", self._writable_incident(call)["unique_id"]), call)

    def _comment_ioc(self, call: Call) -> Response:
        return self._comment(("ioc", self._held(self.iocs, call)["unique_id"]), call)

    def _comment(self, node: Node, call: Call) -> Response:
        users = {u["username"] for u in self.registries["assigned_to"].values()}
        errors = {key: ["Unknown field."] for key in set(call.body) - {"description", "mentioned_users_usernames"}}
        mentioned = call.body.get("mentioned_users_usernames", [])
        if not isinstance(mentioned, list) or not all(isinstance(m, str) and m in users for m in mentioned):
            errors["mentioned_users_usernames"] = ["Expected a list of existing usernames."]
        description = call.body.get("description")
        if "description" not in call.body:
            errors["description"] = ["This field is required."]
        elif not isinstance(description, str) or not description.strip():
            errors["description"] = ["This field may not be blank."]
        if errors:
            raise Refused(400, errors)
        return JSONResponse(self._add_comment(node, description, "note", mentioned), self.knobs["create_status"])

    def _list_comments(self, call: Call) -> Response:
        return self._page(call, self.comments.get(("incident", self._incident(call)["unique_id"]), [])[::-1])

    def _list_action_comments(self, call: Call) -> Response:
        self._held(self.actions, call)
        return self._page(call, [])  # the reference has no way to write one

    def _list_iocs(self, call: Call) -> Response:
        return self._page(call, [public(ioc) for ioc in self._newest_first(self.iocs)])

    def _list_ioc_types(self, call: Call) -> Response:
        return self._page(call, [{"identifier": key, "title": title} for key, title in IOC_TYPES.items()])

    def _get_ioc(self, call: Call) -> Response:
        return JSONResponse(public(self._held(self.iocs, call)))

    def _bulk_create_iocs(self, call: Call) -> Response:
        errors: dict[str, list[str]] = {}
        for ioc_type, values in call.body.items():
            if ioc_type not in IOC_TYPES:
                errors[ioc_type] = ["Unknown threat intel type."]
            elif not isinstance(values, list):
                errors[ioc_type] = [f'Expected a list of items but got type "{type(values).__name__}".']
            else:
                errors[ioc_type] = [
                    f"“{v}” is not a valid {IOC_TYPES[ioc_type]}." for v in values if not fits(ioc_type, v)
                ]
                if self.knobs["bulk_create_existing"] == "refuse":
                    held = [v for v in values if fits(ioc_type, v) and self._find_ioc(ioc_type, v)]
                    errors[ioc_type] += [f"“{v}” already exists." for v in held]
        errors = {key: problems for key, problems in errors.items() if problems}
        if errors:
            raise Refused(400, errors)
        answer: dict[str, list[Record]] = {}
        for ioc_type, values in call.body.items():
            for value in values:
                found = self._find_ioc(ioc_type, value)
                if found and (self.knobs["bulk_create_answer"] == "new" or found in answer.get(ioc_type, [])):
                    continue
                answer.setdefault(ioc_type, []).append(found or self._new_ioc(ioc_type, value))
        if self.knobs["bulk_create_answer"] == "none":
            return JSONResponse({"message": "Threat intel created successfully."}, self.knobs["create_status"])
        shown = {ioc_type: [public(ioc) for ioc in iocs] for ioc_type, iocs in answer.items()}
        return JSONResponse(shown, self.knobs["create_status"])

    def _update_ioc(self, call: Call) -> Response:
        ioc = self._held(self.iocs, call)
        form = {"required": [], "status": self.knobs["form"]["ioc_status"], "tlp": list(TLP)}
        changes = self._validated(call.body, {"status": "text", "tlp": "text"}, form, call.by_name, partial=True)
        ioc.update(changes, modified=stamp(self.clock.now()))
        return JSONResponse(public(ioc))

    def _list_actions(self, call: Call) -> Response:
        return self._page(call, self._newest_first(self.actions))

    def _get_action(self, call: Call) -> Response:
        return JSONResponse(self._held(self.actions, call))

    def _create_action(self, call: Call) -> Response:
        values = self._validated(call.body, ACTION_FIELDS, self.knobs["form"]["action"], call.by_name, partial=False)
        n = self._next("action")
        now = stamp(self.clock.now())
        action: Record = {
            "unique_id": fixed_id(f"action/{n}"),
            "readable_id": f"ACT{99 + n}",
            **dict.fromkeys(ACTION_FIELDS),
            "status": "open",
            "labels": [],
            "created": now,
            "modified": now,
            **values,
        }
        self.actions[action["unique_id"]] = action
        return JSONResponse(action, self.knobs["create_status"])

    def _update_action(self, call: Call) -> Response:
        action = self._held(self.actions, call)
        changes = self._validated(call.body, ACTION_FIELDS, self.knobs["form"]["action"], call.by_name, partial=True)
        action.update(changes, modified=stamp(self.clock.now()))
        return JSONResponse(action)

    def _lister(self, registry: str) -> Callable[[Call], Response]:
        return lambda call: self._page(call, list(self.registries[registry].values()))

    def _creator(self, registry: str) -> Callable[[Call], Response]:
        _, name_key, others = REGISTRIES[registry]

        def create(call: Call) -> Response:
            fields = dict.fromkeys((name_key, *others), "text")
            values = self._validated(call.body, fields, {"required": [name_key]}, by_name=True, partial=False)
            if any(o[name_key] == values[name_key] for o in self.registries[registry].values()):
                raise Refused(400, {name_key: [f"An object with this {name_key} already exists."]})
            return JSONResponse(self._register(registry, values), self.knobs["create_status"])

        return create
