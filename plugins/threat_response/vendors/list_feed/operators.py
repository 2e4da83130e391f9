"""Block lists in the workflow: a task that refreshes our copies, and an enrichment stage that asks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context

from include.soar.model import Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unauthorized, VendorError
from threat_response.runtime import settings
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.list_feed import api
from threat_response.vendors.list_feed.api import Copy, ListIndex, Source
from threat_response.vendors.list_feed.hook import ListFeedHook


class ListFeedRefreshOperator(BaseOperator):
    """
    Bring the copies of all lists up to date. Gives a reference per list.

    A list that cannot be read now is replaced by its last good copy, with a warning. One without a copy costs itself
    only: its reference has no ``uri``, and what no other list names was then not checked. Without any list the task
    fails.

    :param not_before: a younger copy is used as it is; Spamhaus asks for no more than one pull an hour
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(
        self,
        *,
        conn_id: str = ListFeedHook.default_conn_name,
        not_before: timedelta = timedelta(hours=1),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.not_before = not_before

    def execute(self, context: Context) -> list[dict[str, Any]]:
        settings.skip_if_absent(self.conn_id, "list feed")
        hook = ListFeedHook(self.conn_id)
        references, failures = [], []
        for source in hook.sources():
            try:
                reference = hook.refresh(source, now=settings.now(), not_before=self.not_before)
            except Unauthorized:  # a person must act, and all lists are of this connection
                raise
            except VendorError as error:
                self.log.error("List %s is left out: %s", source.name, error)
                failures.append(error)
                reference = {**asdict(source), "uri": None, "problem": error.reason}
            else:
                self.log.info("List %(name)s: %(entries)d entries, fetched at %(fetched_at)s", reference)
            references.append(reference)
        if len(failures) == len(references):
            raise failures[0]
        return references


class ListFeedEnrichOperator(EnrichOperator):
    """Look every observable up in our copies of the lists. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    types = frozenset(
        {
            ObservableType.IPV4,
            ObservableType.IPV6,
            ObservableType.DOMAIN,
            ObservableType.URL,
            ObservableType.FILE,
            ObservableType.ASN,
        }
    )
    hook_class = ListFeedHook
    is_remote = False

    #: The refresh task's references (templated).
    template_fields: Sequence[str] = ("case", "lists", "conn_id")

    def __init__(self, *, lists: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lists = lists

    def ask(self, hook: ListFeedHook, observables: Sequence[Observable]) -> list[Reputation]:
        now, lists, copies = settings.now(), [], {}
        for reference in self.lists:
            name, doubt = reference["name"], api.doubt(reference, now=now, stale_after=hook.stale_after)
            entries: list[str] = []
            if reference["uri"] is not None:
                try:
                    entries = hook.load(reference)
                except VendorError as error:
                    doubt = f"could not be read: {error.reason}"
            if doubt:
                self.log.error("List %s %s", name, doubt)
            read_at = datetime.fromisoformat(reference["fetched_at"]) if entries else now
            copies[name] = Copy(read_at, reference.get("body_digest", ""), doubt)
            lists.append((Source(name, reference["format"], reference["location"], reference["score"]), entries))
        index = ListIndex(lists, copies)
        return [index.reputation(observable, known_at=now) for observable in observables]


#: What the registry takes.
ENRICH = ListFeedEnrichOperator
REFRESH = ListFeedRefreshOperator
