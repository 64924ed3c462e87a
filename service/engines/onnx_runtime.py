"""ONNX Runtime, in fp32: takes every shape as it comes, and is what others are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states

from service.engines.inference import Inference
from service.errors import EngineUnavailable, ModelMismatch

ONNX_RUNTIME: Final = "onnxruntime/fp32"
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


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """One graph in ONNX Runtime."""

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]

    def run(self, inputs: Mapping[str, NDArray[Any]], inference: Inference) -> dict[str, Any]:
        """See `inference.Graph.run`."""
        options = onnxruntime.RunOptions()
        try:
            with inference.stoppable(lambda: setattr(options, "terminate", True)):
                values = self.session.run(self.outputs, dict(inputs), options)
        except FAILURES as error:
            raise EngineUnavailable(f"the model failed: {join_lines(error)}") from error
        return dict(zip(self.outputs, values, strict=True))


def open_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph; raise ModelMismatch if ONNX Runtime cannot."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads starve whatever else runs; without it a clip alone on the machine takes
    # 12 % longer (docs/performance.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors come to us as exceptions
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except FAILURES as error:
        raise ModelMismatch(f"{path} cannot be opened: {join_lines(error)}") from error


def join_lines(error: BaseException) -> str:
    """Return a runtime's error as one line."""
    return " ".join(str(error).split())[:300]
