"""A tiny data folder laid out as the real one: pictures and videos of drawn shapes."""

from pathlib import Path

import pytest

from model.data.samples import SampleConfig
from tests.model.data.drawings import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set (`write_data`)."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(data: Path) -> SampleConfig:
    """Small clips of the drawn data, half of them synthetic."""
    return SampleConfig(
        data=data,
        seed=5,
        crop=64,
        frames=4,
        batch=3,
        synthetic_share=0.5,
        static_sets=("ecssd", "coco"),
    )
