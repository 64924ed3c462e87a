"""The published model with its golden values, and a small one with random weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.networks.base import TrackingNetwork
from model.networks.registry import build_network
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.builds import TAMVT_R50
from model.networks.tamvt.model import TamVT
from tests.model.data.drawings import write_data
from tests.model.networks.tamvt.published import golden_values, published_weights


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> Iterator[None]:
    """Random numbers that do not depend on which tests ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def golden() -> dict[str, NDArray[Any]]:
    """What the published code computed, by name."""
    return golden_values()


@pytest.fixture(scope="session")
def published_checkpoint() -> dict[str, Tensor]:
    """Weights in the authors' layout; not to be changed."""
    return published_weights()


@pytest.fixture(scope="session")
def published_model(published_checkpoint: dict[str, Tensor]) -> TamVT:
    """`tamvt-r50` with those weights, in evaluation mode; not to be changed."""
    model = build_tamvt(TAMVT_R50).eval()
    model.load_state_dict(model.rename_published(published_checkpoint))
    return model


@pytest.fixture(scope="session")
def mobile_model() -> TrackingNetwork:
    """`tamvt-mobile` with random weights, in evaluation mode; not to be changed.

    The time encoding is random too: as it starts, all ones, a wrong row would not show.
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_network("tamvt-mobile").eval()
        model.get_parameter("time.table").data.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with drawn pictures and videos, laid out as the shared data."""
    return write_data(tmp_path_factory.mktemp("drawn"))
