"""MISP: credentials and verbs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from airflow.sdk import Connection

from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Rejected, Unauthorized, Unexpected
from include.soar.vendor.wire import Request, Response
from threat_response.transport.asking import NoAnswer, Provider, Question
from threat_response.transport.hook import VendorHook
from threat_response.vendors.misp import api
from threat_response.vendors.misp.vendor import VENDOR

#: Asked about by *Test connection*: a value of the documentation ranges, which no event should name.
NOBODY = Observable(type=ObservableType.IPV4, value="192.0.2.1")


class MispHook(Provider, VendorHook):
    """
    Ask a MISP instance. Connection: ``host`` (with the path, if MISP is below one), the user's authentication key
    as ``password``, and what counts in the extra: ``published_only``, ``warning_lists``, ``last``.
    """

    declared = VENDOR
    # No quotas: the instance is one's own. One whose role has a limit answers 429, which ends the round.
    types = frozenset(api.TYPES)

    def headers(self, connection: Connection) -> dict[str, str]:
        # Without Accept MISP answers as to a browser: with a redirect to its login.
        return {"Authorization": self.credential("password"), "Accept": "application/json"}

    def accept(self, request: Request, response: Response) -> Response:
        if api.is_unknown_key(response):
            problem = "MISP does not know the key, or the key's user may not use the API"
            raise Unauthorized(self.vendor, request.operation, problem)
        if api.may_not_search(response):
            # MISP says 405; 403 is what everybody else says, and what names the cause to the person who tests.
            problem = "the key's role may not search by the API (its rate limit is 0)"
            raise Unauthorized(self.vendor, request.operation, problem, status=403)
        return super().accept(request, api.with_retry_after(response))

    def search(self, observables: Sequence[Observable]) -> list[Reputation]:
        """
        What MISP says about each of these values; one call for all of them, and one for each further page.

        :raises Rejected: MISP refuses the list; one of its values may be the reason
        :raises Unexpected: also when the pages do not end
        """
        page_size = self.settings.page_size
        read = hashlib.sha256()
        found: dict[str, api.Attribute | api.Unread] = {}
        for number in range(1, api.MOST_PAGES + 1):
            page = self._page(observables, page=number, page_size=page_size)
            read.update(page.body)
            attributes = api.parse_page(page)
            ended = api.is_last_page(page, len(attributes), page_size=page_size)
            if not ended and attributes and found.keys() >= {attribute.uuid for attribute in attributes}:
                raise Unexpected(self.vendor, "restSearch", f"page {number} repeats what came before")
            found |= {attribute.uuid: attribute for attribute in attributes}
            if ended:
                break
        else:
            raise Unexpected(self.vendor, "restSearch", f"more than {api.MOST_PAGES} pages")
        unread = [one for one in found.values() if isinstance(one, api.Unread)]
        if unread:
            self.log.warning("MISP: %d of %d attributes cannot be read: %s", len(unread), len(found), unread[0].problem)
        return api.reputations(
            observables,
            found.values(),
            body_digest=read.hexdigest(),
            page_of=lambda event_id: f"{self.url}/events/view/{event_id}",
            known_at=datetime.now(UTC),
        )

    @property
    def values_a_call(self) -> int:
        return self.settings.values_a_call

    def unaskable(self, observable: Observable) -> NoAnswer | None:
        if api.is_askable(observable):
            return None
        return NoAnswer(Answer.ERROR, "not asked: MISP would read the value as a pattern")

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        return [Question(tuple(observables), MispHook.search, at_once=self.values_a_call)]

    def ping(self) -> str:
        api.parse_page(self._page([NOBODY], page=1, page_size=1))
        version = api.parse_version(self.send(api.version_request()))
        return f"the key may search; MISP {version}"

    def _page(self, observables: Sequence[Observable], *, page: int, page_size: int) -> Response:
        request = api.search_request(
            observables,
            page=page,
            page_size=page_size,
            published_only=self.settings.published_only,
            warning_lists=self.settings.warning_lists,
            last=self.settings.last,
        )
        try:
            return self.send(request)
        except Rejected as error:
            if error.status in api.VALUE_STATUSES:
                raise
            raise Unexpected(
                self.vendor, request.operation, error.reason, status=error.status, request_id=error.request_id
            ) from None
