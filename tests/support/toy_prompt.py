"""A real, tiny prompt graph: what has about the color of the clicks, or of the box's middle.

The mask so far stays. It is as sure as it is told to be.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper, parser

from model.core.prompt_contract import PROMPT_METADATA_KEY, PromptSpec

GRAPH = """
<ir_version: 9, opset_import: ["" : 18]>
toy_prompt (uint8[B,H,W,3] image, float[B,P,2] points, int32[B,P] point_labels,
            uint8[B,H,W] previous) => (uint8[B,H,W] mask, float[B] score)
<int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[2] turned = {1, 0},
 int32[1] none = {0}, float[1] least = {1.0}, float[1] near = {70.0}, float[1] full = {255.0},
 float[1] nothing = {0.0}, float[1] sure = {SURE}>
{
  wanted = Greater (point_labels, none)
  weight = Cast <to: int = 1> (wanted)
  count = ReduceSum <keepdims: int = 1> (weight, one)
  some = Max (count, least)
  counted = Unsqueeze (count, two)
  weights = Unsqueeze (weight, two)
  weighed = Mul (points, weights)
  total = ReduceSum <keepdims: int = 1> (weighed, one)
  divisor = Unsqueeze (some, two)
  middle = Div (total, divisor)
  place = Gather <axis: int = 2> (middle, turned)
  rounded = Round (place)
  index = Cast <to: int = 7> (rounded)
  pixels = Cast <to: int = 1> (image)
  color = GatherND <batch_dims: int = 1> (pixels, index)
  there = Unsqueeze (color, two)
  apart = Sub (pixels, there)
  distance = Abs (apart)
  farthest = ReduceMax <keepdims: int = 0> (distance, three)
  near_it = Less (farthest, near)
  clicked = Greater (counted, nothing)
  alike = And (near_it, clicked)
  found = Where (alike, full, nothing)
  before = Cast <to: int = 1> (previous)
  both = Max (found, before)
  mask = Cast <to: int = 2> (both)
  zero = ReduceMean <keepdims: int = 0> (weight, one)
  flat = Mul (zero, nothing)
  score = Add (flat, sure)
}
"""


def write_toy_prompt(folder: Path, *, name: str = "toy", score: float = 0.9) -> Path:
    """Write `<name>_prompt.onnx`; return its path."""
    model = parser.parse_model(GRAPH.replace("SURE", str(score)))
    spec = PromptSpec(name, 64, "0" * 64)
    helper.set_model_props(model, {PROMPT_METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model, full_check=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{spec.graph}.onnx"
    path.write_bytes(model.SerializeToString())
    return path
