"""AbuseIPDB: credentials and verbs, and the last good copy of its blacklist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Connection

from include.soar.enrich.quota import QuotaSeen
from include.soar.model import Observable, ObservableType, Reputation
from include.soar.vendor.errors import RateLimited, VendorError
from include.soar.vendor.wire import Request, Response
from threat_response.runtime import settings
from threat_response.transport.asking import Call, Meter, Provider, Question, metered
from threat_response.transport.copies import Copies, Reference, load_copy
from threat_response.transport.hook import VendorHook
from threat_response.vendors.abuseipdb import api
from threat_response.vendors.abuseipdb.vendor import VENDOR

#: The connection's ``blacklist``, where it is not JSON.
PLAINTEXT, OFF = "plaintext", "off"


class AbuseIPDBHook(Provider, VendorHook):
    """Ask AbuseIPDB. Connection: ``host`` (https://api.abuseipdb.com), and the API key as ``password``."""

    declared = VENDOR
    rejected_statuses = api.REJECTED_STATUSES
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})
    quotas = api.QUOTAS
    #: Four times a day, where a free key may download the blacklist five times.
    refresh_every = timedelta(hours=6)

    def headers(self, connection: Connection) -> dict[str, str]:
        # Without Accept a spent quota answers with an HTML page.
        return {"Key": self.credential("password"), "Accept": "application/json"}

    @property
    def check_block_from(self) -> int:
        """So many addresses of one /24 are asked about with one ``check-block``; 0: never."""
        return self.settings.check_block_from

    def check(self, observable: Observable, *, max_age_days: int | None = None) -> Reputation:
        """
        What AbuseIPDB says about one public address. Costs one of the key's daily checks.

        :param max_age_days: 1 to 365; default the connection's ``max_age_days``, else 90
        :raises RateLimited: the day's quota is spent; ``retry_after`` may be hours
        """
        response = self._ask(api.check_request(observable, max_age_days=max_age_days or self.settings.max_age_days))
        return api.parse_check(observable, response, known_at=datetime.now(UTC))

    def check_block(self, block: Observable, members: Sequence[Observable]) -> list[Reputation]:
        """
        What AbuseIPDB says about several addresses of one /24. Costs one of the key's daily ``check-block`` calls.

        :raises Rejected: the plan does not allow such a network, or reports so old (402)
        """
        days = min(self.settings.max_age_days, api.BLOCK_MOST_DAYS)
        response = self._ask(api.block_request(block, max_age_days=days))
        return api.parse_block(block, members, response, max_age_days=days, known_at=datetime.now(UTC))

    def refresh_blacklist(self, meter: Meter, *, not_before: timedelta) -> dict[str, Any] | None:
        """
        The newest copy of the blacklist: asks when it was last asked for, with or without success, longer ago than
        ``not_before``. None where there is no copy. Never fails for the vendor's sake: every address on the list can
        also be asked about.

        :param meter: of the quota ``blacklist``
        :return: ``{uri, generated_at, rows, form, confidence_minimum, limit, asked_at}``
        """
        asked = self._wanted_blacklist()
        if asked is None:
            return None
        now, copies = meter.now(), self._copies(asked)

        def download(references: list[Reference]) -> list[Reference]:
            try:
                with metered(meter):
                    references = [self._download_blacklist(copies, asked)]
            except VendorError as error:
                self.log.warning("No new blacklist: %s. The addresses on it will be asked about one by one", error)
            return [{**reference, **asked, "asked_at": now.isoformat()} for reference in references]

        references = copies.refresh(download, now=now, not_before=not_before, on_outage=lambda error: None)
        return references[0] if references else None

    def _download_blacklist(self, copies: Copies, asked: dict[str, Any]) -> Reference:
        minimum, limit = asked["confidence_minimum"], asked["limit"]
        plaintext = asked["form"] == PLAINTEXT
        response = self._ask(api.blacklist_request(confidence_minimum=minimum, limit=limit, plaintext=plaintext))
        blacklist = api.parse_blacklist(response, confidence_minimum=minimum)
        for remark in api.blacklist_remarks(blacklist, confidence_minimum=minimum, limit=limit):
            self.log.warning("Blacklist: %s", remark)
        return {
            "uri": copies.keep(blacklist.body_digest[:16], response.body),
            "generated_at": blacklist.generated_at.isoformat(),
            "rows": len(blacklist.rows),
        }

    def kept_blacklist(self) -> list[dict[str, Any]]:
        """The reference of the newest copy, if there is one; nobody is asked."""
        asked = self._wanted_blacklist()
        return self._copies(asked).references if asked else []

    def load_blacklist(self, reference: dict[str, Any]) -> api.Blacklist:
        """
        A copy, from the answer as it came.

        :raises Unexpected: it is not there any more, or not whole
        """
        body = load_copy(self.vendor, "blacklist", reference, bytes)
        headers = {"x-generated-at": reference["generated_at"]} if reference["form"] == PLAINTEXT else {}
        return api.parse_blacklist(Response(200, headers, body), confidence_minimum=reference["confidence_minimum"])

    def quota_seen(self, response: Response) -> QuotaSeen | None:
        return api.quota_seen(response)

    def refresh_all(
        self, *, now: datetime, not_before: timedelta, meter: Callable[[str], Meter]
    ) -> list[dict[str, Any]]:
        """
        One reference, or none. The blacklist is a saving and nothing else: without it, the addresses on it are asked
        about like any other. So whatever the vendor answers, nothing is raised.
        """
        reference = self.refresh_blacklist(meter("blacklist"), not_before=not_before)
        if reference is None:
            self.log.info("There is no blacklist: every address is asked about")
            return []
        self.log.info("Blacklist: %(rows)d addresses, generated at %(generated_at)s", reference)
        return [reference]

    def kept_copies(self) -> list[dict[str, Any]]:
        return self.kept_blacklist()

    def answers(
        self, observables: Sequence[Observable], copies: Sequence[Mapping[str, Any]], *, now: datetime
    ) -> list[Reputation]:
        """What the blacklist says. Who is not on it is not clean."""
        found: list[Reputation] = []
        for reference in map(dict, copies):
            try:
                blacklist = self.load_blacklist(reference)
            except VendorError as error:
                self.log.warning("Going on without the blacklist: %s", error)
                continue
            if not blacklist.is_fresh(now):
                self.log.warning("Going on without the blacklist of %s: it is too old", blacklist.generated_at)
                continue
            found += [answer for o in observables if (answer := blacklist.answer(o))]
            self.log.info("%d of %d addresses are on the blacklist", len(found), len(observables))
        return found

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        """Whole /24 networks first, where the connection wants it, then one by one."""
        networks = []
        if self.check_block_from >= 2:
            gate = settings.gate()
            networks = [
                Question(tuple(members), _about_network(block), len(members), "check-block", shortcut=True)
                for block, members in api.crowded_blocks(observables, at_least=self.check_block_from).items()
                if not gate.private(block)  # a part of it is ours, and its name is not sent out
            ]
        return [*networks, Question(tuple(observables), _about_each)]

    def ping(self) -> str:
        # 127.0.0.1 costs one check, but proves the key; there is no free call that does.
        loopback = Observable(type=ObservableType.IPV4, value="127.0.0.1")
        response = self._ask(api.check_request(loopback, max_age_days=1))
        api.parse_check(loopback, response, known_at=datetime.now(UTC))
        limit = response.headers.get("x-ratelimit-limit", "?")
        return f"the key works; {response.headers.get('x-ratelimit-remaining', '?')} of {limit} checks left today"

    def _ask(self, request: Request) -> Response:
        try:
            response = self.send(request)
        except RateLimited as error:
            self.log.warning(
                "AbuseIPDB's daily quota is spent for %s; it returns in %s s", request.operation, error.retry_after
            )
            raise
        left = response.headers.get("x-ratelimit-remaining", "an unknown number")
        self.log.debug("%s of today's %s calls left", left, request.operation)
        return response

    def _wanted_blacklist(self) -> dict[str, Any] | None:
        """What the connection says of it; None: no blacklist."""
        form = self.settings.blacklist
        if form == OFF:
            return None
        return {
            "form": form,
            "confidence_minimum": self.settings.blacklist_minimum,
            "limit": self.settings.blacklist_limit,
        }

    def _copies(self, asked: dict[str, Any]) -> Copies:
        return Copies(settings.archive() / "blacklists" / self.conn_id, asked)


def _about_each(hook: Any, observables: Sequence[Observable]) -> list[Reputation]:
    return [hook.check(observable) for observable in observables]


def _about_network(network: Observable) -> Call:
    return lambda hook, members: hook.check_block(network, members)
