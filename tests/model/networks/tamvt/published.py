"""Weights and values of the published TAM-VT that anyone can make again from a rule.

The keys are the authors' checkpoint's; the values come from each key's CRC-32, so that a model can
be compared number by number without their checkpoint.
"""

import ast
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
AS_DRAWN = ("transformer.decoder.level_embed.weight", "query_embed.visual.weight")
Numbers = NDArray[np.float32]


def golden_values() -> dict[str, NDArray[Any]]:
    """What the published code computed with these weights, by name."""
    with np.load(GOLDEN / "tamvt_r50_96x160.npz") as values:
        return {name: values[name] for name in values.files}


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the authors' checkpoint."""
    lines = (GOLDEN / "tamvt_r50_keys.txt").read_text().splitlines()
    pairs = (line.split(" ", 1) for line in lines if line)
    return {key: tuple(ast.literal_eval(shape)) for key, shape in pairs}


def published_weights() -> dict[str, Tensor]:
    """A checkpoint in the authors' layout."""
    shapes = published_shapes().items()
    return {key: torch.from_numpy(published_value(key, shape)) for key, shape in shapes}


def published_value(key: str, shape: tuple[int, ...]) -> Numbers:
    """The value of one tensor: the first rule that fits."""
    seed = zlib.crc32(key.replace("pre_ln_k", "pre_ln_q").encode())
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    return scaled(key, drawn.astype(np.float32)).astype(np.float32)


def scaled(key: str, drawn: Numbers) -> NDArray[np.floating]:
    """Normal numbers at the size that suits the tensor's part in the model."""
    if key.endswith("running_var"):
        return 1 + 0.2 * np.abs(drawn)
    if "rel_time_theta" in key:
        return 1 + 0.3 * np.tanh(drawn)
    if key.endswith("bn3.weight"):
        return 0.3 * (1 + 0.2 * drawn)
    if key in AS_DRAWN:
        return drawn
    if drawn.ndim == 4:
        return drawn * np.sqrt(2 / prod(drawn.shape[1:]))
    if drawn.ndim == 2:
        return drawn * np.sqrt(1 / drawn.shape[1])
    if drawn.ndim == 1 and key.endswith("weight"):
        return 1 + 0.2 * drawn
    return 0.1 * drawn
