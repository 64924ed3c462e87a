"""Label Studio's brush: run lengths of RGBA bytes, packed in bits.

The same as the service writes (`tamvt track --format label-studio`); a test holds them equal.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

CHANNELS: Final = 4
WORD_BITS: Final = 8
LENGTH_BITS: Final = (3, 4, 8, 16)


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a mask (H, W), 255 where the object is."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, *edges.tolist(), flat.size]
    bits = [f"{mask.size * CHANNELS:032b}{WORD_BITS - 1:05b}"]
    bits += [f"{length - 1:04b}" for length in LENGTH_BITS]
    for start, end in pairwise(starts):
        word = f"{255 * int(flat[start]):08b}"
        left = (end - start) * CHANNELS
        while left:
            kind = next((k for k, b in enumerate(LENGTH_BITS) if left <= 1 << b), 3)
            taken = min(left, 1 << LENGTH_BITS[kind])
            bits.append(f"1{kind:02b}{taken - 1:0{LENGTH_BITS[kind]}b}{word}")
            left -= taken
    text = "".join(bits)
    return list(int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8, "big"))
