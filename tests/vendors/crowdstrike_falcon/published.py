"""The OpenAPI file derived from falconpy's endpoint tables and gofalcon's models."""

from __future__ import annotations

from tests.published import Judge, published


def judge() -> Judge:
    return Judge(published("specs/edr/crowdstrike/crowdstrike_ioc.derived.openapi.json"))
