"""The shipped model, served: by itself for the tests of a file that compare with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model.core.contract import SHIPPED_WEIGHTS
from tests.support.running import Running, running_service


@pytest.fixture(scope="package")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service with the shipped model: each test starts sessions of its own."""
    state = tmp_path_factory.mktemp("shipped")
    settings = {"TAMVT_MODEL": "tamvt-mobile"}
    with running_service(state=state, weights=SHIPPED_WEIGHTS, settings=settings) as service:
        yield service
