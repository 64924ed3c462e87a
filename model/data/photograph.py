"""A photograph that drifts and turns: real pixels where no data set is at hand."""

import cv2
import numpy as np
from skimage import data

from model.data.static import Pixels

HEIGHT, WIDTH = 360, 480
FACE = (225, 120, 58, 74)  # of scikit-image's `astronaut`: center x, y and half axes, in pixels


def make_moving_photograph(frames: int) -> tuple[Pixels, Pixels]:
    """Return a drifting portrait: frames uint8 (F, 360, 480, 3), masks of 0 and 1 (F, 360, 480)."""
    picture = data.astronaut()[:HEIGHT, :WIDTH]
    x, y, half_width, half_height = FACE
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.ellipse(mask, (x, y), (half_width, half_height), 0, 0, 360, 1, thickness=-1)
    turns = [cv2.getRotationMatrix2D((x, y), 1.5 * i, 1 + 0.01 * i) for i in range(frames)]
    for moment, matrix in enumerate(turns):
        matrix[:, 2] += np.array([3.0, 2.0]) * moment
    size = (WIDTH, HEIGHT)
    border = cv2.BORDER_REFLECT_101
    images = [cv2.warpAffine(picture, matrix, size, borderMode=border) for matrix in turns]
    masks = [cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST) for matrix in turns]
    return np.stack(images).astype(np.uint8), np.stack(masks).astype(np.uint8)
