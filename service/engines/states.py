"""The state that a model carries from clip to clip, and its bytes as they are stored.

Letters: O objects, T tokens, C channels, h and w the model's size.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec

ModelState = Mapping[str, NDArray[Any]]  # (O, T, C) by name; empty for a model that carries none
HEADER_BYTES: Final = 4096  # more than any header takes


async def find_nothing() -> bytes | None:
    """Return None: nothing is stored."""
    return None


@dataclass(frozen=True, slots=True)
class StateSource:
    """What a lost state is made of again, beside the entries' pictures (decision 68)."""

    read: Callable[[], Awaitable[bytes | None]] = find_nothing  # None: it is missing, or damaged
    corrected: bool = False  # the newest frame was corrected since: `memorize` tells the state


NO_STATE: Final = StateSource()
NO_MODEL_STATE: Final[ModelState] = MappingProxyType({})


def make_empty_state(
    spec: ModelSpec, size: tuple[int, int], *, objects: int
) -> dict[str, NDArray[Any]]:
    """Return the state before a session's first frame: zeros."""
    return {
        tensor.name: np.zeros(tensor.slot_shape(size, objects=objects), tensor.dtype)
        for tensor in spec.state
    }


def encode_state(state: ModelState, object_ids: Sequence[int], *, weights_sha256: str) -> bytes:
    """Return the bytes of a state whose rows are these objects'; `decode_state` reads them."""
    header = {
        "weights": weights_sha256,
        "objects": list(object_ids),
        "tensors": [(name, values.dtype.name, values.shape) for name, values in state.items()],
    }
    values = b"".join(np.ascontiguousarray(each).tobytes() for each in state.values())
    return zlib.compress(json.dumps(header, separators=(",", ":")).encode() + b"\n" + values, 1)


def decode_state(
    data: bytes, spec: ModelSpec, size: tuple[int, int], object_ids: Sequence[int]
) -> dict[str, NDArray[Any]] | None:
    """Return the state with a row for each of object_ids; that of a new object is 0.

    None if it is not one of this model's weights and size, or cannot be read.
    """
    most = HEADER_BYTES + spec.state_bytes(size, objects=spec.max_objects)
    unpacker = zlib.decompressobj()
    try:
        head, _, raw = unpacker.decompress(data, most).partition(b"\n")
        header = json.loads(head)
        known = header["objects"]
        stored = make_empty_state(spec, size, objects=len(known))
        expected = [[name, values.dtype.name, [*values.shape]] for name, values in stored.items()]
        if (header["weights"], header["tensors"]) != (spec.weights_sha256, expected):
            return None
        found = make_empty_state(spec, size, objects=len(object_ids))
        for name, blank in stored.items():
            values = np.frombuffer(raw, blank.dtype, blank.size).reshape(blank.shape)
            raw = raw[blank.nbytes :]
            for row, object_id in enumerate(object_ids):
                if object_id in known:
                    found[name][row] = values[known.index(object_id)]
    except (zlib.error, ValueError, LookupError, TypeError):
        return None
    return found if unpacker.eof and not raw else None
