"""Block lists in the workflow: a task that refreshes our copies, and an enrichment stage that asks them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context

from include.soar.model import Observable, ObservableType, Reputation
from vendors import house
from vendors.contracts import EnrichOperator
from vendors.list_feed import api
from vendors.list_feed.api import ListIndex, Source
from vendors.list_feed.hook import ListFeedHook


class ListFeedRefreshOperator(BaseOperator):
    """
    Bring the copies of all lists up to date. Gives a reference per list.

    A list that cannot be read now is replaced by its last good copy, with a warning; with no copy at all the
    task fails, and the enrichment says that it was not checked.

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
        house.skip_if_absent(self.conn_id, "list feed")
        hook = ListFeedHook(self.conn_id)
        references = [hook.refresh(s, now=house.now(), not_before=self.not_before) for s in hook.sources()]
        for reference in references:
            self.log.info("List %(name)s: %(entries)d entries, fetched at %(fetched_at)s", reference)
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
        }
    )
    hook_class = ListFeedHook
    stores_answers = False

    #: The refresh task's references (templated).
    template_fields: Sequence[str] = ("case", "lists", "conn_id")

    def __init__(self, *, lists: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lists = lists

    def ask(self, hook: ListFeedHook, observables: Sequence[Observable]) -> list[Reputation]:
        index = ListIndex((Source(r["name"], r["format"], r["location"], r["score"]), hook.load(r)) for r in self.lists)
        now = house.now()
        return [index.reputation(observable, known_at=now) for observable in observables]
