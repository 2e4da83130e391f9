"""The layers of the gate in their order of precedence, and what it answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SPECIAL, OWN, PARTNER, ALLOW, WELL_KNOWN, LISTED = LAYERS = (
    "special-purpose",
    "own",
    "partner",
    "allow",
    "well-known",
    "warning-list",
)
RANK = {layer: rank for rank, layer in enumerate(LAYERS)}
#: Layers whose values are never sent to a provider.
PRIVATE = (SPECIAL, OWN, PARTNER)


class Hit(BaseModel):
    """
    Why something is protected, in words.

    :param layer: which layer of the gate
    :param list_name: which list of that layer: ``iana``, ``policy.yaml never_block.own.networks``, ``misp:akamai``
    :param entry: which entry of it
    """

    model_config = ConfigDict(frozen=True)
    layer: str
    entry: str
    reason: str
    list_name: str = ""

    @property
    def is_private(self) -> bool:
        """Whether the value is never sent to a provider either."""
        return self.layer in PRIVATE
