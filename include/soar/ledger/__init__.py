"""
Our memory: windows read, findings seen, reputations, verdicts and their policies, incident references, actions.

It is a memory, not the truth: the vendors' systems are asked before every write, so a lost ledger costs calls and no
correctness. SQLite by default; Postgres through the connection ``threat_response_ledger``. Every method of its parts
is one transaction, and every write an upsert, so that a retried task may repeat it.
"""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from include.soar.ledger.actions import Actions
from include.soar.ledger.allows import Allows
from include.soar.ledger.answers import Answers
from include.soar.ledger.claims import Claims
from include.soar.ledger.database import Database
from include.soar.ledger.incidents import Incidents
from include.soar.ledger.quotas import Quotas
from include.soar.ledger.unfinished import UnfinishedFindings
from include.soar.ledger.verdicts import Verdicts
from include.soar.ledger.windows import Windows


class Ledger:
    """
    The ledger's parts over one database, one for each subject.

    :param url: SQLAlchemy URL. A SQLite file with its folder is created if there is none, and the schema is brought
        up to date when the ledger is opened.
    """

    def __init__(self, url: str) -> None:
        database = Database(url)
        self.database = database
        self.windows = Windows(database)
        self.answers = Answers(database)
        self.quotas = Quotas(database)
        self.unfinished = UnfinishedFindings(database)
        self.incidents = Incidents(database)
        self.claims = Claims(database)
        self.actions = Actions(database)
        self.allows = Allows(database)
        self.verdicts = Verdicts(database)

    def close(self) -> None:
        self.database.close()


__all__ = ["Ledger", "SQLAlchemyError"]
