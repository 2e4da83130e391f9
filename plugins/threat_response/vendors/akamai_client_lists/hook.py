"""Akamai Client Lists: credentials and verbs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

from include.soar.vendor.errors import Ours, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from include.soar.vendor.wire import Request, Response
from threat_response.transport.batches import write_in_halves
from threat_response.transport.edgegrid import EdgeGridHook
from threat_response.vendors.akamai_client_lists import api
from threat_response.vendors.akamai_client_lists.vendor import VENDOR

#: For connecting, and for every wait for bytes. A list of 10,000 items is some megabytes.
TIMEOUT_SECONDS = 60.0


class AkamaiClientListsHook(EdgeGridHook):
    """
    Read, extend and activate one client list.

    Connection: ``host`` (https://akab-….luna.akamaiapis.net), client token as ``login``, client secret as
    ``password``, and in the extra ``access_token`` and ``list_id``; optional ``network`` (PRODUCTION or STAGING),
    ``api_version`` of activations (v1 or v2), ``account_switch_key``, ``notification_emails``.
    """

    declared = VENDOR

    @property
    def list_id(self) -> str:
        return self.settings.list_id

    @property
    def network(self) -> str:
        return self.settings.network

    def exchange(self, request: Request) -> Response:
        request = replace(request, timeout_seconds=TIMEOUT_SECONDS)
        if key := self.settings.account_switch_key:
            request = replace(request, params=(*request.params, ("accountSwitchKey", key)))
        response = super().exchange(request)
        if problem := api.authentication_problem(request.operation, response):
            raise problem
        return response

    def read_list(self) -> api.ClientList:
        """
        The list with all its items.

        :raises Unauthorized: it is not a list of addresses, or may not be changed
        :raises Unexpected: items are missing
        """
        found = api.parse_list(self.send(api.list_request(self.list_id, items=True)), items=True)
        api.usable(found)
        return found

    def state(self, client_list: api.ClientList | None = None) -> api.State:
        """
        How far the connection's network is with the list.

        :param client_list: as just read, to save a call
        """
        if client_list is None:
            client_list = api.parse_list(self.send(api.list_request(self.list_id, items=False)), items=False)
        environment = api.parse_environment(self.send(api.environment_request(self.list_id, self.network)))
        return api.state_of(client_list, environment, self.network)

    def write_items(
        self, *, append: Sequence[dict[str, Any]] = (), update: Sequence[dict[str, Any]] = ()
    ) -> tuple[dict[str, str], VendorError | None]:
        """
        Append and update in chunks. The vendor refuses a chunk whole for one bad item: see ``write_in_halves``.

        :return: why each refused value was refused, and what stopped the writing, if anything. What was written
            before stays written: read the list to know.
        """
        refused: dict[str, str] = {}
        for kind, entries in (("append", append), ("update", update)):
            more, stopped = write_in_halves(api.chunks(entries), partial(self._write, kind), name=itemgetter("value"))
            refused |= more
            if stopped is not None:
                return refused, stopped
        return refused, None

    def delete_items(self, values: Sequence[str]) -> tuple[dict[str, str], VendorError | None]:
        """As :meth:`write_items`: removes items, in chunks, and a bad one costs only itself."""
        entries = [{"value": value} for value in values]
        return write_in_halves(api.chunks(entries), partial(self._write, "delete"), name=itemgetter("value"))

    def snapshot(self, version: int | None) -> api.Holdings:
        """
        The items of one version of the list, as a network has it that the list is ahead of; none of no version.

        :raises Unexpected: items are missing
        """
        items: list[api.Item] = []
        total = 0 if version is None else 1
        for page in range(-(-api.MAXIMUM_ITEMS // api.SNAPSHOT_PAGE)):
            if version is None or len(items) >= total:
                break
            found = api.parse_snapshot(self.send(api.snapshot_request(self.list_id, version, page)))
            items += found.content
            total = found.totalElements
            if not found.content:
                break
        if len(items) < total:
            raise Unexpected(self.vendor, "snapshot", f"{len(items)} of {total} items came")
        return api.Holdings(items)

    def activate(self, comments: str) -> api.Activation | None:
        """
        Ask the network to take over the list's latest version. None when it refuses because another activation is
        still pending.

        :raises Rejected: the vendor refuses, and nothing is pending that would explain it
        :raises Unavailable: it refuses, or the activation failed, and asking again may help
        """
        request = api.activation_request(
            self.list_id,
            self.network,
            api_version=self.settings.api_version,
            comments=comments,
            recipients=self.settings.notification_emails,
        )
        try:
            activation = api.parse_activation(self.send(request), self.network)
        except Rejected as error:
            if error.status not in api.MAY_BE_PENDING:
                raise
            refusal = error
        else:
            if activation.activationStatus == api.FAILED:
                raise Unavailable(self.vendor, "activate", f"the activation of version {activation.version} failed")
            return activation
        if api.parse_list(self.send(api.list_request(self.list_id, items=False)), items=False).is_pending:
            return None
        if refusal.status != 409:
            raise refusal
        # A conflict passes: what was in the way may have ended between the two calls.
        reason = f"refused ({refusal.reason}), though nothing is pending"
        raise Unavailable(self.vendor, "activate", reason, status=409, request_id=refusal.request_id)

    def ping(self) -> str:
        response = self.exchange(api.list_request(self.list_id, items=False))
        if response.status == 404 and _is_problem(response.body):
            problem = Ours(f"the account has no client list {self.list_id!r}")
            raise Unauthorized(self.vendor, "list", problem, status=404)
        found = api.parse_list(self.send(api.list_request(self.list_id, items=False)), items=False)
        api.usable(found)
        state = self.state(found)
        return (
            f"client list {found.name!r} ({found.listId}) has {found.itemsCount} items at version {found.version}; "
            f"{state.network} is {state.status} with version {state.active}. Writing was not tried"
        )

    def _write(self, kind: str, chunk: Sequence[dict[str, Any]]) -> None:
        self.send(api.items_request(self.list_id, **{kind: list(chunk)}))


def _is_problem(body: bytes) -> bool:
    """An answer of Akamai's own, not of whatever stands at a wrong address."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "title" in document
