from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stages.incident_products import PRODUCTS, Product, product_named
from tests.stages.incident_runs import Runs


@pytest.fixture(params=PRODUCTS)
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Product:
    """A case-management product that is connected, with the demo's policy and a ledger of this test's own."""
    files = (ROOT / "include/config/policy.yaml", ROOT / "include/config/policy.demo.yaml")
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", ":".join(map(str, files)))
    monkeypatch.setenv("THREAT_RESPONSE_HOME", str(tmp_path))
    return product_named(request.param, monkeypatch, request)


@pytest.fixture
def runs(product: Product) -> Runs:
    """The three stages over that product."""
    return Runs(product.vendor)
