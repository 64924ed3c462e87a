"""The two verbs of a served model, on arrays, by its exported graphs.

Axes as in the model contract: B sessions, L frames of a clip, N entries, O objects.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.core.contract import METADATA_KEY, ModelSpec

Tensors = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """Named tensors in, named tensors out (the model contract, `model.core.contract`)."""

    spec: ModelSpec

    def memorize(self, inputs: Tensors) -> Tensors: ...

    def segment(self, inputs: Tensors) -> Tensors: ...


class GraphRuntime:
    """The exported graphs in a folder, on ONNX Runtime."""

    def __init__(self, folder: Path, name: str, *, threads: int = 0) -> None:
        self._memorize = open_graph(folder / f"{name}_memorize.onnx", threads=threads)
        self._segment = open_graph(folder / f"{name}_segment.onnx", threads=threads)
        metadata = self._segment.get_modelmeta().custom_metadata_map
        self.spec = ModelSpec.from_json(metadata[METADATA_KEY])

    def memorize(self, inputs: Tensors) -> Tensors:
        """Return one entry of each session."""
        return run_graph(self._memorize, inputs)

    def segment(self, inputs: Tensors) -> Tensors:
        """Return masks, confidence and the new entry of each session."""
        return run_graph(self._segment, inputs)


def open_graph(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Return a graph on ONNX Runtime's CPU provider; `threads` 0 means one a core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graph(session: onnxruntime.InferenceSession, inputs: Tensors) -> Tensors:
    """Return all outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def stack_entries(entries: list[Tensors]) -> Tensors:
    """Return entries, each (1, ...), as a bank (1, N, ...) whose slots are in their order."""
    return {name: np.stack([entry[name] for entry in entries], axis=1) for name in entries[0]}
