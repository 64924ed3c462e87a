"""Real pictures for the tests of the rules."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from skimage import data

# The machine may be busy with something else: only wrong answers fail, not slow ones.
settings.register_profile("rules", deadline=None, max_examples=60)
settings.load_profile("rules")


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A 640x360 JPEG of at most 100 kB: a DAVIS frame where the data is, else a photograph."""
    found = _data_folder() / "video" / "bear" / "frames" / "00000.jpg"
    if found.is_file():
        return found.read_bytes()
    small = cv2.resize(_photograph()[..., ::-1], (640, 360))
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


@pytest.fixture(scope="session")
def blob() -> NDArray[np.bool_]:
    """A mask of 360x640 with several parts and a hole."""
    mask = np.zeros((360, 640), dtype=np.uint8)
    cv2.ellipse(mask, (250, 180), (140, 90), 30, 0, 360, 1, -1)
    cv2.circle(mask, (260, 170), 25, 0, -1)
    cv2.rectangle(mask, (560, 0), (639, 40), 1, -1)
    return mask.view(np.bool_)


def _photograph() -> NDArray[np.uint8]:
    return np.asarray(data.astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]


def _data_folder() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("TAMVT_DATA") or (beside if beside.is_dir() else "data"))
