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
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
import onnxruntime


class TritonPythonModel:
    """What Triton calls: `initialize` once, `execute` with each batch that it has put together."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph that lies beside this file."""
        config = json.loads(args["model_config"])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        threads = int(config["parameters"]["threads"]["string_value"])
        # 0 is a thread for each processor of the machine, which a container need not have.
        threads = threads or int(os.environ.get("TAMVT_ENGINE_THREADS", "0"))
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = open_graph(path, threads=threads)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return a response to each request, in their order. They run together, along B."""
        wanted = [request for request in requests if not request.is_cancelled()]
        found = dict(zip(map(id, wanted), self._run_requests(wanted), strict=True))
        message = "nobody waits for this clip any more"
        cancelled = triton.TritonError(message, triton.TritonError.CANCELLED)
        return [
            found.get(id(request)) or triton.InferenceResponse(error=cancelled)
            for request in requests
        ]

    def _run_requests(self, requests: Sequence[Any]) -> list[Any]:
        if not requests:
            return []
        try:
            inputs = {name: self._joined(requests, name) for name in self._inputs}
            outputs = self._session.run(self._outputs, inputs)
        except Exception as error:  # whatever it was, each request gets its answer
            failure = triton.TritonError(" ".join(str(error).split())[:300])
            return [triton.InferenceResponse(error=failure) for _ in requests]
        return self._split(requests, outputs)

    def _joined(self, requests: Sequence[Any], name: str) -> Any:
        tensors = [np.from_dlpack(triton.get_input_tensor_by_name(r, name)) for r in requests]
        return tensors[0] if len(tensors) == 1 else np.concatenate(tensors)

    def _split(self, requests: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """Return the response to each request: its rows of B."""
        first, end, responses = self._inputs[0], 0, []
        for request in requests:
            begin, end = end, end + triton.get_input_tensor_by_name(request, first).shape()[0]
            # An object that gives its memory away; numpy's own complains when it is taken.
            parts = (np.ascontiguousarray(values[begin:end]) for values in outputs)
            shared = map(onnxruntime.OrtValue.ortvalue_from_numpy, parts)
            tensors = map(triton.Tensor.from_dlpack, self._outputs, shared)
            responses.append(triton.InferenceResponse(output_tensors=list(tensors)))
        return responses


def open_graph(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Open the graph with the options of the embedded engine, so that both give the same bits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
