"""The two graphs of a model in ONNX Runtime, compared with the contract when they are opened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states

from model.core.contract import (
    METADATA_KEY,
    ContractError,
    ModelSpec,
    Tensor,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
)
from service.engines.base import check_served
from service.errors import EngineUnavailable, ModelMismatch, ModelMissing

TYPES = {"float32": "float"}  # where ONNX's name differs from numpy's
FAILURES = tuple(
    getattr(states, name)
    for name in (
        "EPFail",
        "EngineError",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
)


class Inference:
    """One inference that can be stopped at its next node."""

    def __init__(self) -> None:
        self._options = onnxruntime.RunOptions()

    def stop(self) -> None:
        self._options.terminate = True

    def __call__(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Return the outputs by name; raise EngineUnavailable if ONNX Runtime fails or stops."""
        try:
            values = graph.session.run(graph.outputs, dict(inputs), self._options)
        except FAILURES as error:
            raise EngineUnavailable(f"the model failed: {_line(error)}") from error
        return dict(zip(graph.outputs, values, strict=True))


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph, ready to run in any thread."""

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graphs:
    """Both graphs of one model, and the spec that both carry."""

    spec: ModelSpec
    memorize: Graph
    segment: Graph


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
    memorize, segment = (_open(path, threads=threads) for path in paths.values())
    spec = _spec(memorize, paths["memorize"])
    if spec != _spec(segment, paths["segment"]) or spec.name != name:
        raise ModelMismatch(f"the two graphs of {name!r} are not of the same model")
    check_served(spec)
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != spec.weights_file_sha256:
            raise ModelMismatch(f"{weights} is not the file that the graphs were exported with")
    _check(memorize, memorize_inputs(spec), memorize_outputs(spec), spec.graph("memorize"))
    _check(segment, segment_inputs(spec), segment_outputs(spec), spec.graph("segment"))
    return Graphs(
        spec,
        Graph(memorize, tuple(tensor.name for tensor in memorize_outputs(spec))),
        Graph(segment, tuple(tensor.name for tensor in segment_outputs(spec))),
    )


def _open(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads starve whatever else runs; without it a lone clip takes 4 % longer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors come to us as exceptions
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except FAILURES as error:
        raise ModelMismatch(f"{path} cannot be opened: {_line(error)}") from error


def _spec(session: onnxruntime.InferenceSession, path: Path) -> ModelSpec:
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        return ModelSpec.from_json(metadata.get(METADATA_KEY, ""))
    except ContractError as error:
        raise ModelMismatch(f"{path}: {error}") from error


def _check(
    session: onnxruntime.InferenceSession,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    graph: str,
) -> None:
    """Raise ModelMismatch unless the graph has exactly these inputs and outputs."""
    for found, wanted in ((session.get_inputs(), inputs), (session.get_outputs(), outputs)):
        there = {(tensor.name, tensor.type, len(tensor.shape)) for tensor in found}
        expected = {(t.name, f"tensor({TYPES.get(t.dtype, t.dtype)})", len(t.axes)) for t in wanted}
        if there != expected:
            names = sorted(name for name, *_ in there ^ expected)
            raise ModelMismatch(f"graph {graph} breaks the contract at {', '.join(names)}")


def _line(error: BaseException) -> str:
    """Return an error of ONNX Runtime as one line."""
    return " ".join(str(error).split())[:300]
