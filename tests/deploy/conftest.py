"""What the Helm chart renders, once for each set of values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from scripts.deploy.check import CHART
from tests.support.manifests import Manifests, render

Render = Callable[..., Manifests]


@pytest.fixture(scope="session")
def rendered() -> Render:
    """Renders the chart with a values file and `--set` options, each combination once."""
    assert (CHART / "values.schema.json").is_file()
    return cache(render)
