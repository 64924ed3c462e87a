"""A model's optional third graph, which turns clicks and a box into a mask: `<name>_prompt.onnx`.

It runs in this process whatever runs the model, on one core, in the thread that calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ContractError
from model.core.prompt_contract import (
    PROMPT_INPUTS,
    PROMPT_METADATA_KEY,
    PROMPT_OUTPUTS,
    PromptSpec,
)
from service.engines.graphs import find_differences
from service.engines.inference import Inference
from service.engines.onnx_runtime import OnnxGraph, open_session
from service.errors import ModelMismatch


@dataclass(frozen=True, slots=True)
class PromptGraph:
    """The graph and what it says about itself."""

    spec: PromptSpec
    graph: OnnxGraph

    def __call__(
        self,
        image: NDArray[np.uint8],
        points: NDArray[np.float32],
        labels: NDArray[np.int32],
        previous: NDArray[np.uint8],
    ) -> tuple[NDArray[np.uint8], float]:
        """Return the soft mask (h, w) of an image (h, w, 3) and how sure of it the graph is, 0..1.

        `points` are (P, 2), `labels` (P,), `previous` (h, w) is soft. Raise EngineUnavailable if
        the runtime fails.
        """
        inputs: dict[str, NDArray[Any]] = {
            "image": image[None],
            "points": points[None],
            "point_labels": labels[None],
            "previous": previous[None],
        }
        found = Inference()(self.graph, inputs)
        return found["mask"][0], float(found["score"][0])


def find_prompt_graph(folder: Path, names: Sequence[str]) -> PromptGraph | None:
    """Return the prompt graph of the first of the models that has one in `folder`, or None.

    Raise ModelMismatch unless it keeps the contract.
    """
    for name in names:
        path = folder / f"{name}_prompt.onnx"
        if path.is_file():
            return open_prompt_graph(path, name)
    return None


def open_prompt_graph(path: Path, name: str) -> PromptGraph:
    """Open a model's prompt graph; raise ModelMismatch unless it keeps the contract."""
    session = open_session(path, threads=1)
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        spec = PromptSpec.from_json(metadata.get(PROMPT_METADATA_KEY, ""))
    except ContractError as error:
        raise ModelMismatch(f"{path}: {error}") from error
    if spec.name != name:
        raise ModelMismatch(f"{path} is of the model {spec.name!r}, not of {name!r}")
    for found, wanted in (
        (session.get_inputs(), PROMPT_INPUTS),
        (session.get_outputs(), PROMPT_OUTPUTS),
    ):
        if names := find_differences(found, wanted):
            raise ModelMismatch(f"{path} breaks the contract at {', '.join(names)}")
    return PromptGraph(spec, OnnxGraph(session, tuple(each.name for each in PROMPT_OUTPUTS)))
