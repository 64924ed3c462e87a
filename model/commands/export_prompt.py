"""The command `tamvt-model export prompt`: the graph of clicks and boxes, compared with PyTorch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnx
import torch
from cyclopts import Parameter
from numpy.typing import NDArray

from model.commands.options import Output
from model.core.pixels import model_size, resize_frame
from model.core.prompt_contract import BOX_END, BOX_START, ON_BACKGROUND, ON_OBJECT, PromptSpec
from model.data.photograph import FACE, make_moving_photograph
from model.export.prompt_graph import compare_prompt, export_prompt, write_prompt
from model.networks.prompt.network import build_prompt_network
from model.training import checkpoints
from model.training.checkpoints import load_strictly

LARGEST_DIFFERENCE = 1  # of 255, in a soft mask or a score


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPromptArguments:
    """The options of `tamvt-model export prompt`."""

    weights: Annotated[
        Path | None, Parameter(help="checkpoint of `train prompt` (default: fresh)")
    ] = None
    output: Output
    pictures: Annotated[int, Parameter(help="pictures to compare with PyTorch on")] = 6


def run(
    _what: Annotated[Literal["prompt"], Parameter(name="WHAT", help="from prompts to masks")],
    /,
    *,
    args: ExportPromptArguments,
) -> int:
    """Export, then compare the graph with PyTorch; return 1 where they differ."""
    torch.manual_seed(0)
    network = build_prompt_network()
    if args.weights is not None:
        state = checkpoints.read(args.weights, torch.device("cpu"), needed=("model",))
        load_strictly(network, state["model"], args.weights)
    spec = export_prompt(network, args.output)
    path = args.output / f"{spec.graph}.onnx"
    parity = compare_prompt(network, path, make_inputs(spec, args.pictures))
    write_prompt(onnx.load(str(path)), replace(spec, parity=parity), args.output)
    holds = parity <= LARGEST_DIFFERENCE
    print(
        f"{path}: {path.stat().st_size / 1e6:.2f} MB, weights {spec.weights_sha256[:12]}, "
        f"{'equal to PyTorch' if holds else 'NOT equal to PyTorch'}: "
        f"masks and scores within {parity} of 255 on {args.pictures} pictures"
    )
    return 0 if holds else 1


def make_inputs(spec: PromptSpec, pictures: int) -> list[dict[str, NDArray[np.generic]]]:
    """Return prompts on a moving photograph: clicks, a box, and a mask so far, in turn."""
    images, masks = make_moving_photograph(pictures)
    size = model_size(*images.shape[1:3], short_side=spec.short_side)
    scale = size[0] / images.shape[1]
    x, y, wide, high = (scale * value for value in FACE)
    drawn = [[(x, y, ON_OBJECT), (x + 2 * wide, y, ON_BACKGROUND)]]
    drawn += [[(x - wide, y - high, BOX_START), (x + wide, y + high, BOX_END)]]
    inputs: list[dict[str, NDArray[np.generic]]] = []
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        points = np.array([drawn[number % 2]], np.float32)
        previous = resize_frame(mask * np.uint8(255), size) * np.uint8(number % 3 == 2)
        inputs.append(
            {
                "image": resize_frame(image, size)[None],
                "points": np.ascontiguousarray(points[..., :2]),
                "point_labels": points[..., 2].astype(np.int32),
                "previous": previous[None],
            }
        )
    return inputs
