"""The two verbs of a served model, on arrays, by PyTorch: what its graphs are compared with.

Axes as in the model contract: B sessions, L frames of a clip, N entries, O objects.
"""

import torch

from model.core.contract import (
    ModelSpec,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
)
from model.evaluation.runtime import Tensors
from model.export.graphs import Memorize, Segment
from model.networks.base import TrackingNetwork


class TorchRuntime:
    """A network that is prepared for serving (`model.export.serving`), on PyTorch."""

    def __init__(self, served: TrackingNetwork, spec: ModelSpec) -> None:
        self.spec = spec
        self._memorize, self._segment = Memorize(served), Segment(served)

    def memorize(self, inputs: Tensors) -> Tensors:
        """Return one entry of each session."""
        names = [tensor.name for tensor in memorize_inputs(self.spec)]
        with torch.inference_mode():
            outputs = self._memorize(*(torch.from_numpy(inputs[name]) for name in names))
        named = zip(memorize_outputs(self.spec), outputs, strict=True)
        return {tensor.name: output.numpy() for tensor, output in named}

    def segment(self, inputs: Tensors) -> Tensors:
        """Return masks, confidence and the new entry of each session."""
        names = [tensor.name for tensor in segment_inputs(self.spec)]
        with torch.inference_mode():
            outputs = self._segment(*(torch.from_numpy(inputs[name]) for name in names))
        named = zip(segment_outputs(self.spec), outputs, strict=True)
        return {tensor.name: output.numpy() for tensor, output in named}
