"""TAXII in the workflow: a task that brings our copies up to date, and an enrichment stage that looks in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context

from include.soar.model import Observable, ObservableType, Reputation, digest
from include.soar.vendor.errors import VendorError, one_line
from threat_response.runtime import settings
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.taxii import api
from threat_response.vendors.taxii.hook import TaxiiHook


class TaxiiRefreshOperator(BaseOperator):
    """
    Bring the copies of all collections up to date. Gives a reference per collection.

    See :meth:`TaxiiHook.refresh` for what is done about a collection that cannot be read.

    :param not_before: a server that was asked more recently is not asked
    :param full_after: so often a collection is read anew, not only what was added, so that deletions are seen
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(
        self,
        *,
        conn_id: str = TaxiiHook.default_conn_name,
        not_before: timedelta = timedelta(hours=1),
        full_after: timedelta = timedelta(days=7),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.not_before = not_before
        self.full_after = full_after

    def execute(self, context: Context) -> list[dict[str, Any]]:
        settings.skip_if_absent(self.conn_id, "TAXII")
        hook = TaxiiHook(self.conn_id)
        references = hook.refresh(now=settings.now(), not_before=self.not_before, full_after=self.full_after)
        for reference in references:
            if reference["uri"]:
                unreadable = ", ".join(f"{number} {problem}" for problem, number in reference["unreadable"].items())
                self.log.info(
                    "Collection %s: %d indicators, %d can be looked up, fetched at %s; not readable: %s",
                    reference["title"],
                    reference["indicators"],
                    reference["readable"],
                    reference["fetched_at"],
                    one_line(unreadable) or "none",
                )
        return references


class TaxiiEnrichOperator(EnrichOperator):
    """Look every observable up in our copies of the collections. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    types = frozenset(
        {
            ObservableType.IPV4,
            ObservableType.IPV6,
            ObservableType.CIDR,
            ObservableType.DOMAIN,
            ObservableType.URL,
            ObservableType.EMAIL,
            ObservableType.FILE,
        }
    )
    hook_class = TaxiiHook
    is_remote = False

    #: The refresh task's references (templated).
    template_fields: Sequence[str] = ("case", "lists", "conn_id")

    def __init__(self, *, lists: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lists = lists

    def ask(self, hook: TaxiiHook, observables: Sequence[Observable]) -> list[Reputation]:
        now, states, doubts = settings.now(), [], []
        for reference in self.lists:
            doubt = api.doubt(reference, now=now, stale_after=hook.stale_after)
            if reference["uri"] is not None:
                try:
                    states.append(hook.load(reference))
                except VendorError as error:
                    doubt = f"{reference['title']} could not be read: {error.reason}"
            if doubt:
                self.log.error("Collection %s", doubt)
                doubts.append(doubt)
        index = api.Index(states)
        copies = digest([reference.get("digest") for reference in self.lists])
        return [index.reputation(o, body_digest=copies, doubts=doubts, known_at=now) for o in observables]


#: What the registry takes.
ENRICH = TaxiiEnrichOperator
REFRESH = TaxiiRefreshOperator
