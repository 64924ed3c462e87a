"""The model contract: what the two graphs of a model say about themselves, and their tensors.

The exporter writes a `ModelSpec` as JSON into both graphs' metadata (key `METADATA_KEY`); the
service reads it back and refuses graphs that do not fit. Axes: B sessions, L frames of a clip,
N entries, O objects, H and W the model's size, T tokens of a stride, C channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.confidence import Calibration
from model.core.loop_bias import NO_BIAS, LoopBias
from model.core.memory import FIRST_IN_FIRST_OUT, Retention

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights"  # the folder of the shipped graphs
METADATA_KEY = "tamvt"
CONTRACTS = (1, 2)  # those that we speak: 2 adds a state, entries by memorize, retention, biases
CAPABILITIES = ("aggregated", "state", "late-objects-approximate")
ENTRY_VERBS = ("segment", "memorize")
EXPERIMENTAL_BELOW = 60.0  # J on `dev`, in percent


class ContractError(ValueError):
    """Metadata that is missing, damaged, or of a contract we do not speak."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a graph: its name, numpy's name of its type, and a letter per axis."""

    name: str
    dtype: str
    axes: str


@dataclass(frozen=True, slots=True)
class BankTensor:
    """One tensor of the bank: a block of (T, C), or (O, T, C) if per object, in each slot."""

    name: str
    dtype: str
    per_object: bool
    stride: int
    channels: int

    def tokens(self, size: tuple[int, int]) -> int:
        """Return T for a model size (h, w); a stride of 0 stands for one token."""
        if not self.stride:
            return 1
        height, width = size
        return -(-height // self.stride) * -(-width // self.stride)

    def slot_shape(self, size: tuple[int, int], *, objects: int) -> tuple[int, ...]:
        """Return the shape of one slot: (T, C), or (O, T, C) if per object."""
        block = (self.tokens(size), self.channels)
        return (objects, *block) if self.per_object else block

    def slot_bytes(self, size: tuple[int, int], *, objects: int) -> int:
        """Return bytes of one slot."""
        shape = self.slot_shape(size, objects=objects)
        return int(np.prod(shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Buckets:
    """The shapes that are served, warmed up and batched: a short list for each axis."""

    sizes: tuple[tuple[int, int], ...]
    clip_lengths: tuple[int, ...]
    memory_sizes: tuple[int, ...]
    objects: tuple[int, ...]
    batch: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a model when it was exported, and since; None: not measured.

    `parity` is the largest difference of a soft mask from PyTorch's, of 255, and `agreement` the
    share of pixels with equal labels. `macs` are the multiply-adds of one frame in use with one
    object and a full memory, at the first size that is served. `dev_j` is J on `dev` in percent.
    """

    parity: int | None = None
    agreement: float | None = None
    parameters: int | None = None
    macs: int | None = None
    dev_j: float | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model says about itself. Both graphs carry the same spec."""

    name: str
    short_side: int
    bank: tuple[BankTensor, ...]
    buckets: Buckets
    weights_sha256: str  # over the values by name: the identity of the weights
    weights_file_sha256: str  # over the file's bytes: notices damage
    contract: int = 1
    max_ratio: float = 2.5
    multiple: int = 32
    clip_length: int = 2
    max_clip_length: int = 4
    memory_size: int = 9
    max_memory_size: int = 16
    max_objects: int = 32
    # Larger short sides, ascending, for sessions with an object less than so many pixels wide.
    fine_short_sides: tuple[int, ...] = ()
    fine_below_px: float = 0.0
    license: str = ""
    capabilities: tuple[str, ...] = ()
    retention: Retention = FIRST_IN_FIRST_OUT
    state: tuple[BankTensor, ...] = ()  # what is carried from clip to clip, for each object
    entry_by: str = "segment"  # or memorize: the caller runs it on what is to be remembered
    calibration: Calibration | None = None  # none: the raw confidence, lost without a pixel
    loop_bias: LoopBias = NO_BIAS
    measured: Measured | None = None

    def to_json(self) -> str:
        """Return compact JSON with sorted keys: equal specs give equal text.

        What only contract 2 has is left out of contract 1, and finer sizes and measurements where
        there are none: such graphs stay as they were.
        """
        fields = asdict(self)
        if self.contract == 1:
            fields |= {"retention": {}}
            del fields["state"], fields["entry_by"], fields["loop_bias"]
        if self.measured is None:
            del fields["measured"]
        if not self.fine_short_sides:
            del fields["fine_short_sides"], fields["fine_below_px"]
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Return the spec in `text`. Fields we do not know are ignored.

        Raise ContractError if it is unfit.
        """
        try:
            raw = json.loads(text)
            return _checked(_spec(raw))
        except ContractError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ContractError(f"unreadable model metadata: {error!r}") from error

    @property
    def memory_gate(self) -> bool:
        """Return whether sessions do not remember lost objects, unless they choose."""
        return self.calibration is not None and self.calibration.memory_gate

    @property
    def lost_below(self) -> float | None:
        """Return the confidence below which an object is lost; None: only without a pixel."""
        return None if self.calibration is None else self.calibration.threshold

    @property
    def aggregated(self) -> bool:
        """Return whether the graphs' masks are aggregated probabilities, not each object's own."""
        return "aggregated" in self.capabilities

    @property
    def experimental(self) -> bool:
        """Return whether the model was measured to follow too badly to be offered to everybody."""
        dev_j = None if self.measured is None else self.measured.dev_j
        return dev_j is not None and dev_j < EXPERIMENTAL_BELOW

    def graph(self, verb: str) -> str:
        """Return the name of one of the two graphs; `verb` is memorize or segment."""
        return f"{self.name}_{verb}"

    def slot_bytes(self, size: tuple[int, int], *, objects: int) -> int:
        """Return bytes of one entry in a bank."""
        return sum(tensor.slot_bytes(size, objects=objects) for tensor in self.bank)

    def state_bytes(self, size: tuple[int, int], *, objects: int) -> int:
        """Return bytes of the state of one session; 0 for a model without one."""
        return sum(tensor.slot_bytes(size, objects=objects) for tensor in self.state)


def memorize_inputs(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the inputs of `<name>_memorize`, in order."""
    return (Tensor("frame", "uint8", "BHW3"), Tensor("masks", "uint8", "BOHW"), *state_inputs(spec))


def memorize_outputs(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the outputs of `<name>_memorize`: one entry, and the state after the frame."""
    return (*entry_tensors(spec), *state_outputs(spec))


def entry_tensors(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the tensors of one entry: the bank's without N."""
    return tuple(Tensor(t.name, t.dtype, "BOTC" if t.per_object else "BTC") for t in spec.bank)


def state_inputs(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the tensors of the state before a clip; a stride of 0 is one token."""
    return tuple(Tensor(t.name, t.dtype, "BOTC") for t in spec.state)


def state_outputs(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the tensors of the state after a clip."""
    return tuple(Tensor(next_output(t.name), t.dtype, "BOTC") for t in spec.state)


def next_output(name: str) -> str:
    """Return the name that both graphs give a tensor of the state after a clip."""
    return f"next_{name}"


def segment_inputs(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the inputs of `<name>_segment`, in order."""
    bank = (Tensor(t.name, t.dtype, "BNOTC" if t.per_object else "BNTC") for t in spec.bank)
    age, valid = Tensor("age", "int32", "BN"), Tensor("entry_valid", "bool", "BON")
    return (Tensor("frames", "uint8", "BLHW3"), *bank, *state_inputs(spec), age, valid)


def entry_output(name: str) -> str:
    """Return the name `<name>_segment` gives an entry's tensor.

    `name` itself is taken by the bank.
    """
    return f"entry_{name}"


def segment_outputs(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the outputs of `<name>_segment`: masks, confidence, the last frame's entry, the state.

    There is no entry where `memorize` makes it.
    """
    entry = (Tensor(entry_output(t.name), t.dtype, t.axes) for t in entry_tensors(spec))
    masks, confidence = Tensor("masks", "uint8", "BLOHW"), Tensor("confidence", "float32", "BLO")
    made = entry if spec.entry_by == "segment" else ()
    return (masks, confidence, *made, *state_outputs(spec))


def find_part(spec: ModelSpec, name: str) -> BankTensor | None:
    """Return the tensor of the bank or the state that an input or output is; None for others."""
    parts = {each: part for part in spec.bank for each in (part.name, entry_output(part.name))}
    parts |= {each: part for part in spec.state for each in (part.name, next_output(part.name))}
    return parts.get(name)


def fixed_axes(spec: ModelSpec, tensor: Tensor) -> tuple[int | None, ...]:
    """Return the size of each axis of an input or output that never changes; None where it may."""
    part = find_part(spec, tensor.name)
    fixed = {"L": 1} if spec.max_clip_length == 1 else {}
    if part is not None:
        fixed |= {"C": part.channels} | ({} if part.stride else {"T": 1})
    return tuple(int(axis) if axis.isdigit() else fixed.get(axis) for axis in tensor.axes)


BATCH_SIZE = Tensor("batch_size", "int32", "B1")


def triton_segment_outputs(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return the outputs of `<name>_segment` on Triton: how many sessions ran together as well."""
    return (*segment_outputs(spec), BATCH_SIZE)


def weights_version(spec: ModelSpec) -> int:
    """Return the number of the weights as Triton's model version: other weights, another number."""
    return int(spec.weights_sha256[:7], 16) + 1


def weights_digest(tensors: Mapping[str, NDArray[Any]]) -> str:  # decision 15
    """Return SHA-256 (hex) over each value, sorted by name: name, type, shape, raw bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}\0{values.dtype.name}\0{tensors[name].shape}\0".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _spec(raw: Mapping[str, Any]) -> ModelSpec:
    known = {key: raw[key] for key in ModelSpec.__dataclass_fields__ if key in raw}
    known["bank"] = tuple(_bank_tensor(tensor) for tensor in raw["bank"])
    known["buckets"] = _buckets(raw["buckets"])
    known["capabilities"] = tuple(raw.get("capabilities", ()))
    known["fine_short_sides"] = tuple(raw.get("fine_short_sides", ()))
    kept = raw.get("retention", {})
    known["retention"] = Retention(**{key: kept[key] for key in ("every", "recent") if key in kept})
    known["state"] = tuple(_bank_tensor(tensor) for tensor in raw.get("state", ()))
    if (fitted := raw.get("calibration")) is not None:
        fields = {key: fitted[key] for key in Calibration.__dataclass_fields__ if key in fitted}
        known["calibration"] = Calibration(**fields)
    known["loop_bias"] = LoopBias(**raw.get("loop_bias", {}))
    if (measured := raw.get("measured")) is not None:
        fields = {key: measured[key] for key in Measured.__dataclass_fields__ if key in measured}
        known["measured"] = Measured(**fields)
    return ModelSpec(**known)


def _bank_tensor(raw: Mapping[str, Any]) -> BankTensor:
    return BankTensor(**{key: raw[key] for key in BankTensor.__dataclass_fields__})


def _buckets(raw: Mapping[str, Sequence[Any]]) -> Buckets:
    height_width = tuple((int(height), int(width)) for height, width in raw["sizes"])
    others = {key: tuple(raw[key]) for key in Buckets.__dataclass_fields__ if key != "sizes"}
    return Buckets(sizes=height_width, **others)


def _checked(spec: ModelSpec) -> ModelSpec:
    """Return the spec itself, or raise ContractError saying what cannot be served."""
    if spec.contract not in CONTRACTS:
        raise ContractError(f"contract {spec.contract} instead of one of {CONTRACTS}")
    extended = bool(spec.state or spec.capabilities) or spec.retention != FIRST_IN_FIRST_OUT
    extended = extended or spec.loop_bias != NO_BIAS
    if spec.contract == 1 and (extended or spec.entry_by != "segment"):
        raise ContractError("contract 1 has no state, capabilities, retention, entry_by, loop_bias")
    tensors = (*spec.bank, *spec.state)
    if not spec.bank or len({tensor.name for tensor in tensors}) < len(tensors):
        raise ContractError("a bank and a state need tensors of different names")
    if not all(tensor.per_object for tensor in spec.state):
        raise ContractError("a state's tensors are of each object")
    if spec.entry_by not in ENTRY_VERBS:
        raise ContractError(f"entries are made by {spec.entry_by!r}, not one of {ENTRY_VERBS}")
    if unknown := sorted(set(spec.capabilities) - set(CAPABILITIES)):
        raise ContractError(f"capabilities {unknown} are not known")
    if ("state" in spec.capabilities) != bool(spec.state):
        raise ContractError("the capability 'state' and tensors of a state go together")
    if not 1 <= spec.clip_length <= spec.max_clip_length <= 4:
        raise ContractError(f"clip lengths {spec.clip_length}, {spec.max_clip_length}")
    if not 1 <= spec.memory_size <= spec.max_memory_size <= 16:
        raise ContractError(f"memory sizes {spec.memory_size}, {spec.max_memory_size}")
    sides = (spec.short_side, *spec.fine_short_sides)
    if list(sides) != sorted(set(sides)) or not spec.fine_below_px >= 0:
        raise ContractError(f"short sides {sides}, below {spec.fine_below_px} pixels")
    for digest in (spec.weights_sha256, spec.weights_file_sha256):
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ContractError(f"{digest!r} is no SHA-256")
    return spec
