"""Splunk: credentials and verbs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from urllib.parse import urlsplit

from include.soar.vendor.errors import Rejected, VendorError
from include.soar.vendor.wire import Request, Response
from threat_response.transport.batches import write_in_halves
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import hide
from threat_response.vendors.splunk import api
from threat_response.vendors.splunk.vendor import VENDOR

#: For connecting, and for every wait for bytes.
TIMEOUT_SECONDS = 60.0


class SplunkHook(VendorHook):
    """
    Keep a watchlist in a KV-store collection.

    Connection: ``host`` and ``port`` of the management port (https://splunk.example, 8089); a token as ``password``,
    or a user as ``login`` with the ``password``; optional extras ``app`` (search), ``owner`` (nobody),
    ``collection`` (threat_watchlist).
    """

    declared = VENDOR

    @cached_property
    def authorization(self) -> str:
        """A token as it is, or a session key for login and password."""
        if self.connection.login:
            key = api.parse_login(self.send(api.login_request(self.credential("login"), self.credential("password"))))
            hide(key)
            return f"Splunk {key}"
        return f"Bearer {self.credential('password')}"

    def exchange(self, request: Request) -> Response:
        request = replace(request, timeout_seconds=TIMEOUT_SECONDS)
        if request.operation != api.LOGIN:
            request = replace(request, headers={**request.headers, "Authorization": self.authorization})
        return super().exchange(request)

    @cached_property
    def place(self) -> api.Place:
        return api.Place(owner=self.settings.owner, app=self.settings.app, collection=self.settings.collection)

    def has_collection(self) -> bool:
        try:
            api.check_collection(self.send(self.place.exists_request()))
        except Rejected as error:
            if error.status == 404:
                return False
            raise
        return True

    def create_collection(self) -> None:
        try:
            self.send(self.place.create_request())
        except Rejected as error:
            if error.status != api.EXISTS_ALREADY:
                raise
        else:
            self.log.info("Created the collection %s", self.place.collection)

    def lookup(self) -> api.Lookup | None:
        """The lookup definition of the collection's name, whoever made it; None: there is none."""
        try:
            return api.parse_lookup(self.send(self.place.lookup_request()))
        except Rejected as error:
            if error.status == 404:
                return None
            raise

    def ensure_lookup(self) -> None:
        """Make the definition by which searches see the collection. One that is there is left as it is."""
        if self.lookup() is not None:
            return
        try:
            self.send(self.place.create_lookup_request())
        except Rejected as error:
            if error.status != api.EXISTS_ALREADY:
                raise
        else:
            self.log.info("Created the lookup definition %s", self.place.collection)

    def ours(self) -> dict[str, api.Document]:
        """Every document that carries our mark, by key."""
        found: dict[str, api.Document] = {}
        skip = 0
        while True:
            page = api.parse_query(self.send(self.place.ours_request(skip)))
            found |= page
            skip += len(page)
            if len(page) < api.PAGE:
                return found

    def read(self, keys: Iterable[str]) -> dict[str, api.Document]:
        """Those that exist, by key."""
        found: dict[str, api.Document] = {}
        for chunk in api.query_chunks(keys):
            found |= api.parse_query(self.send(self.place.query_request(chunk)))
        return found

    def save(self, documents: Sequence[api.Document]) -> tuple[dict[str, str], VendorError | None]:
        """
        Insert or replace, in chunks. The vendor stops at the first bad document: see ``write_in_halves``. Those that
        are saved twice on the way are the same.

        :return: why each refused key was refused, and what stopped the writing, if anything. What was written
            before stays written: read to know.
        """
        return write_in_halves(api.write_chunks(documents), self._save, name=itemgetter("_key"))

    def delete(self, keys: Sequence[str]) -> tuple[dict[str, str], VendorError | None]:
        """
        Delete documents, one call each: the vendor deletes many by a query only, and that could match more.

        :return: why each refused key was refused, and what stopped the deleting, if anything. One that is not there any
            more counts as deleted.
        """
        return write_in_halves([[key] for key in keys], self._delete, name=str)

    def ping(self) -> str:
        where = f"app {self.place.app} of {urlsplit(self.url).hostname}"
        if not self.has_collection():
            return f"{where} answers; the collection {self.place.collection} is not there yet and will be created"
        lookup = self.lookup()
        if lookup is None:
            seen = "The lookup definition is not there yet and will be created"
        elif problem := lookup.problem(self.place.collection):
            seen = f"But the lookup definition {self.place.collection} does not show all of it to a search: {problem}"
        else:
            seen = "Searches see it by the lookup definition of the same name"
        return f"the collection {self.place.collection} is in {where}. {seen}. Writing was not tried"

    def _save(self, chunk: Sequence[api.Document]) -> None:
        api.check_saved(self.send(self.place.save_request(list(chunk))))

    def _delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                self.send(self.place.delete_request(key))
            except Rejected as error:
                if error.status != 404:
                    raise
