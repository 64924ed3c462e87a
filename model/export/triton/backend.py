"""One graph behind Triton's Python backend, on ONNX Runtime. Copied into repositories as model.py.

Triton runs it in a process of its own, which need not have this project installed: it imports
nothing of it. Letters: B sessions.

Tensors are handed over with DLPack. The stub in the wheel `nvidia-pytriton` 0.7.0 is built for
NumPy 1: with NumPy 2 `as_numpy()` gives arrays with wrong strides and `Tensor(name, array)` sends
empty outputs, both without an error. Outputs are `OrtValue`s, whose capsules stay silent when they
are taken over (NumPy's own print an error for each).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton calls: `initialize` once, `execute` with each batch that it has put together."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph that lies beside this file."""
        config = json.loads(args["model_config"])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        threads = config["parameters"]["threads"]["string_value"]
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = open_graph(path, threads=int(threads))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request, in their order; they run together, along B."""
        wanted = [request for request in requests if not request.is_cancelled()]
        answers = dict(zip(map(id, wanted), self._run_requests(wanted), strict=True))
        return [answers.get(id(request)) or _cancelled() for request in requests]

    def _run_requests(self, requests: Sequence[Any]) -> list[Any]:
        if not requests:
            return []
        try:
            inputs = {name: self._joined(requests, name) for name in self._inputs}
            outputs = self._session.run(self._outputs, inputs)
        except Exception as error:  # whatever it was, each request gets its answer
            failure = triton.TritonError(" ".join(str(error).split())[:300])
            return [triton.InferenceResponse(error=failure) for _ in requests]
        return [self._response(rows, outputs) for rows in self._rows(requests)]

    def _joined(self, requests: Sequence[Any], name: str) -> Any:
        tensors = [np.from_dlpack(triton.get_input_tensor_by_name(r, name)) for r in requests]
        return tensors[0] if len(tensors) == 1 else np.concatenate(tensors)

    def _rows(self, requests: Sequence[Any]) -> list[slice]:
        """Which rows of B each request has."""
        first = self._inputs[0]
        sizes = [triton.get_input_tensor_by_name(r, first).shape()[0] for r in requests]
        ends = np.cumsum(sizes)
        return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]

    def _response(self, rows: slice, outputs: Sequence[Any]) -> Any:
        tensors = [
            triton.Tensor.from_dlpack(name, _shared(values[rows]))
            for name, values in zip(self._outputs, outputs, strict=True)
        ]
        return triton.InferenceResponse(output_tensors=tensors)


def open_graph(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """The graph, with the options of the embedded engine: so that both give the same bits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _shared(values: Any) -> Any:
    """The array as an object that gives its memory away; numpy's own complains when it is taken."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values))


def _cancelled() -> Any:
    error = triton.TritonError("nobody waits for this clip any more", triton.TritonError.CANCELLED)
    return triton.InferenceResponse(error=error)
