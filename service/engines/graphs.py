"""The two graphs of a model, compared with the contract when they are opened."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import onnxruntime

from model.core.contract import (
    METADATA_KEY,
    ContractError,
    ModelSpec,
    Tensor,
    fixed_axes,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
)
from service.engines.inference import Graph
from service.engines.onnx_runtime import ONNX_RUNTIME, OnnxGraph, open_session
from service.errors import ModelMismatch, ModelMissing

TYPES = {"float32": "float"}  # where ONNX's name differs from numpy's


@dataclass(frozen=True, slots=True)
class Graphs:
    """Both graphs of one model, the spec that both carry, and what runs them."""

    spec: ModelSpec
    memorize: Graph
    segment: Graph
    runtime: str = ONNX_RUNTIME  # and its precision
    any_shape: bool = True  # at no cost; else each shape is compiled

    def on(self, runtime: CompilingRuntime, folder: Path) -> Graphs:
        """Return the same graphs, which lie in `folder`, on another runtime."""
        memorize, segment = (
            runtime.open(
                folder / f"{self.spec.graph(verb)}.onnx", tuple(tensor.name for tensor in outputs)
            )
            for verb, outputs in (
                ("memorize", memorize_outputs(self.spec)),
                ("segment", segment_outputs(self.spec)),
            )
        )
        return replace(
            self, memorize=memorize, segment=segment, runtime=runtime.name, any_shape=False
        )


class CompilingRuntime(Protocol):
    """A runtime that compiles each shape."""

    @property
    def name(self) -> str: ...

    def open(self, path: Path, outputs: Sequence[str]) -> Graph: ...


def open_graphs(folder: Path, name: str, *, threads: int) -> Graphs:
    """Open the graphs `<name>_memorize.onnx` and `<name>_segment.onnx` in a folder.

    Both read `<name>.weights` beside them. Raise ModelMissing if a file is missing, ModelMismatch
    unless they are of one model that keeps the contract.
    """
    paths = {verb: folder / f"{name}_{verb}.onnx" for verb in ("memorize", "segment")}
    weights = folder / f"{name}.weights"
    for path in (*paths.values(), weights):
        if not path.is_file():
            raise ModelMissing(f"no model {name!r}: {path} does not exist")
    memorize, segment = (open_session(path, threads=threads) for path in paths.values())
    spec = _spec(memorize, paths["memorize"])
    if spec != _spec(segment, paths["segment"]) or spec.name != name:
        raise ModelMismatch(f"the two graphs of {name!r} are not of the same model")
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != spec.weights_file_sha256:
            raise ModelMismatch(f"{weights} is not the file that the graphs were exported with")
    _check(memorize, memorize_inputs(spec), memorize_outputs(spec), spec, verb="memorize")
    _check(segment, segment_inputs(spec), segment_outputs(spec), spec, verb="segment")
    return Graphs(
        spec,
        OnnxGraph(memorize, tuple(tensor.name for tensor in memorize_outputs(spec))),
        OnnxGraph(segment, tuple(tensor.name for tensor in segment_outputs(spec))),
    )


def _spec(session: onnxruntime.InferenceSession, path: Path) -> ModelSpec:
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        return ModelSpec.from_json(metadata.get(METADATA_KEY, ""))
    except ContractError as error:
        raise ModelMismatch(f"{path}: {error}") from error


def find_differences(found: Sequence[Any], wanted: Sequence[Tensor]) -> list[str]:
    """Return the names of tensors that are on one side alone, or differ in type or rank."""
    there = {(tensor.name, tensor.type, len(tensor.shape)) for tensor in found}
    expected = {(t.name, f"tensor({TYPES.get(t.dtype, t.dtype)})", len(t.axes)) for t in wanted}
    return sorted({name for name, *_ in there ^ expected})


def _check(
    session: onnxruntime.InferenceSession,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    spec: ModelSpec,
    *,
    verb: str,
) -> None:
    """Raise ModelMismatch unless the graph has exactly these inputs and outputs."""
    graph = spec.graph(verb)
    for found, wanted in ((session.get_inputs(), inputs), (session.get_outputs(), outputs)):
        if names := find_differences(found, wanted):
            raise ModelMismatch(f"graph {graph} breaks the contract at {', '.join(names)}")
        shapes = {tensor.name: tensor.shape for tensor in found}
        for tensor in wanted:
            for axis, size in zip(shapes[tensor.name], fixed_axes(spec, tensor), strict=True):
                if size is not None and isinstance(axis, int) and axis != size:
                    raise ModelMismatch(
                        f"graph {graph} breaks the contract at {tensor.name}: an axis has "
                        f"{axis} places, not {size}"
                    )
