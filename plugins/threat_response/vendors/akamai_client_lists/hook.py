"""Akamai Client Lists: credentials and verbs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from include.soar.vendor.errors import Ours, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from include.soar.vendor.wire import Request, Response
from threat_response.transport.batches import write_in_halves
from threat_response.transport.edgegrid import EdgeGridHook
from threat_response.vendors.akamai_client_lists import api, items
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
        found = self._list(with_items=True)
        api.usable(found)
        return found

    def _list(self, *, with_items: bool) -> api.ClientList:
        """:raises Unauthorized: there is no such client list, with what to do where it is a network list"""
        request = api.list_request(self.list_id, items=with_items)
        response = self.exchange(request)
        if response.status == 404 and _is_problem(response.body):
            problem = f"the account has no client list {self.list_id!r}"
            if self.exchange(api.network_list_request(self.list_id)).status == 200:
                problem = f"{self.list_id} {api.NETWORK_LIST}"
            raise Unauthorized(self.vendor, "list", Ours(problem), status=404)
        return api.parse_list(self.accept(request, response), items=with_items)

    def state(self, client_list: api.ClientList | None = None) -> api.State:
        """
        How far the connection's network is with the list.

        :param client_list: as just read, to save a call
        """
        if client_list is None:
            client_list = self._list(with_items=False)
        environment = api.parse_environment(self.send(api.environment_request(self.list_id, self.network)))
        return api.state_of(client_list, environment, self.network)

    def write_items(self, rows: Sequence[items.Row]) -> tuple[dict[str, str], VendorError | None]:
        """
        Append, update and delete, as few calls as possible. The vendor refuses a chunk whole for one bad item: see
        ``write_in_halves``.

        :return: why each refused value was refused, and what stopped the writing, if anything. What was written
            before stays written: read the list to know.
        """
        return write_in_halves(items.chunks(rows), self._write, name=lambda row: str(row[1]["value"]))

    def snapshot(self, version: int | None) -> items.Holdings:
        """
        The items of one version of the list, as a network has it that the list is ahead of; none of no version.

        :raises Unexpected: items are missing
        """
        found: list[api.Item] = []
        total = 0 if version is None else 1
        for number in range(-(-api.MAXIMUM_ITEMS // api.SNAPSHOT_PAGE)):
            if version is None or len(found) >= total:
                break
            page = api.parse_snapshot(self.send(api.snapshot_request(self.list_id, version, number)))
            found += page.content
            total = page.totalElements
            if not page.content:
                break
        if len(found) < total:
            raise Unexpected(self.vendor, "snapshot", f"{len(found)} of {total} items came")
        return items.Holdings(found)

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
        if self._list(with_items=False).is_pending:
            return None
        if refusal.status != 409:
            raise refusal
        # A conflict passes: what was in the way may have ended between the two calls.
        reason = f"refused ({refusal.reason}), though nothing is pending"
        raise Unavailable(self.vendor, "activate", reason, status=409, request_id=refusal.request_id)

    def ping(self) -> str:
        found = self._list(with_items=False)
        api.usable(found)
        state = self.state(found)
        return (
            f"client list {found.name!r} ({found.listId}) has {found.itemsCount} items at version {found.version}; "
            f"{state.network} is {state.status} with version {state.active}. Writing was not tried"
        )

    def _write(self, chunk: Sequence[items.Row]) -> None:
        parts: dict[str, list[dict[str, Any]]] = {}
        for kind, entry in chunk:
            parts.setdefault(kind, []).append(entry)
        self.send(api.items_request(self.list_id, **parts))


def _is_problem(body: bytes) -> bool:
    """An answer of Akamai's own, not of whatever stands at a wrong address."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "title" in document
