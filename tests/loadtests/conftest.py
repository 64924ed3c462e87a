"""A small video for load tests, drawn once."""

from __future__ import annotations

import pytest

from loadtests.load_video import LoadVideo
from loadtests.videos import sample_video


@pytest.fixture(scope="session")
def video() -> LoadVideo:
    """The built-in sample with two objects, at the toy model's size."""
    return sample_video(objects=2, size=(64, 96))
