"""Weights of the published STM and QMVOS that anyone can make again, and what their code computes.

The keys are those of the authors' checkpoints; the values come from each key's CRC-32, so that a
model can be compared number by number without their files, whose licenses forbid shipping them.
"""

import ast
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
IMAGENET_DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)
Golden = dict[str, NDArray[Any]]


def read_golden(name: str) -> Golden:
    """What the published code computed with these weights, by name."""
    with np.load(GOLDEN / f"{name}_96x160.npz") as values:
        return {key: values[key] for key in values.files}


def make_checkpoint(name: str) -> dict[str, Tensor]:
    """A checkpoint in the authors' layout."""
    return {key: torch.from_numpy(make_value(key, shape)) for key, shape in read_shapes(name)}


def read_shapes(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The shape of every tensor in the authors' checkpoint."""
    for line in (GOLDEN / f"{name}_keys.txt").read_text().splitlines():
        key, shape = line.split(" ", 1)
        yield key, tuple(ast.literal_eval(shape))


def make_value(key: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The value of one tensor: the first rule that fits."""
    seed = zlib.crc32(key.encode())
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith(("Encoder_M.mean", "Encoder_Q.mean")):
        return IMAGENET_MEAN.reshape(shape)
    if key.endswith(("Encoder_M.std", "Encoder_Q.std")):
        return IMAGENET_DEVIATION.reshape(shape)
    return np.asarray(scale_value(key, drawn), np.float32)


def scale_value(key: str, drawn: NDArray[np.float32]) -> NDArray[Any]:
    """Normal numbers at the size that suits the tensor's part in the model."""
    if key.endswith("running_var"):
        return 1 + 0.2 * np.abs(drawn)
    if key.endswith("running_mean"):
        return 0.1 * drawn
    if key == "Decoder.pred2.weight":
        return 0.5 * drawn * np.sqrt(2 / prod(drawn.shape[1:]))
    if key == "Decoder.pred2.bias":
        return 0.1 * drawn + np.array((2, -2), np.float32)
    if key == "decoder.QCIM.norm3.weight":
        return 0.01 * (1 + 0.2 * drawn)
    if key == "decoder.QCIM.norm3.bias":
        return 0.001 * drawn
    if key.endswith("bn3.weight"):
        return 0.3 * (1 + 0.2 * drawn)
    if drawn.ndim == 4:
        return drawn * np.sqrt(2 / prod(drawn.shape[1:]))
    if drawn.ndim == 2:
        return drawn * np.sqrt(1 / drawn.shape[1])
    if drawn.ndim == 1 and key.endswith("weight"):
        return 1 + 0.2 * drawn
    return 0.1 * drawn
