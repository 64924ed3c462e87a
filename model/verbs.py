"""The two verbs of a served model, on arrays: by its exported graphs, or by PyTorch.

Axes as in the model contract: B sessions, L frames of a clip, N entries, O objects.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from model.graphs import Memorize, Segment
from model.rules.contract import (
    METADATA_KEY,
    ModelCard,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
)
from model.tamvt import TamVT

Tensors = dict[str, NDArray[Any]]


class Verbs(Protocol):
    """Named tensors in, named tensors out (the model contract, `model.rules.contract`)."""

    card: ModelCard

    def memorize(self, inputs: Tensors) -> Tensors: ...

    def segment(self, inputs: Tensors) -> Tensors: ...


class GraphVerbs:
    """The exported graphs in a folder, on ONNX Runtime."""

    def __init__(self, folder: Path, name: str, *, threads: int = 0) -> None:
        self._memorize = open_graph(folder / f"{name}_memorize.onnx", threads=threads)
        self._segment = open_graph(folder / f"{name}_segment.onnx", threads=threads)
        metadata = self._segment.get_modelmeta().custom_metadata_map
        self.card = ModelCard.from_json(metadata[METADATA_KEY])

    def memorize(self, inputs: Tensors) -> Tensors:
        """One entry of each session."""
        return run_graph(self._memorize, inputs)

    def segment(self, inputs: Tensors) -> Tensors:
        """Masks, confidence and the new entry of each session."""
        return run_graph(self._segment, inputs)


class TorchVerbs:
    """A model made ready for serving (`model.export.for_serving`), on PyTorch."""

    def __init__(self, served: TamVT, card: ModelCard) -> None:
        self.card = card
        self._memorize, self._segment = Memorize(served), Segment(served)

    def memorize(self, inputs: Tensors) -> Tensors:
        """One entry of each session."""
        names = [tensor.name for tensor in memorize_inputs(self.card)]
        with torch.inference_mode():
            outputs = self._memorize(*(torch.from_numpy(inputs[name]) for name in names))
        named = zip(memorize_outputs(self.card), outputs, strict=True)
        return {tensor.name: output.numpy() for tensor, output in named}

    def segment(self, inputs: Tensors) -> Tensors:
        """Masks, confidence and the new entry of each session."""
        names = [tensor.name for tensor in segment_inputs(self.card)]
        with torch.inference_mode():
            outputs = self._segment(*(torch.from_numpy(inputs[name]) for name in names))
        named = zip(segment_outputs(self.card), outputs, strict=True)
        return {tensor.name: output.numpy() for tensor, output in named}


def open_graph(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """A graph on ONNX Runtime's CPU provider; `threads` 0 means one a core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graph(session: onnxruntime.InferenceSession, inputs: Tensors) -> Tensors:
    """All outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def stacked(entries: list[Tensors]) -> Tensors:
    """Entries, each (1, ...), as a bank (1, N, ...) whose slots are in their order."""
    return {name: np.stack([entry[name] for entry in entries], axis=1) for name in entries[0]}
