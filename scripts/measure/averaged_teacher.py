"""How much better than the served model its own average is: the most that distillation could teach.

    python -m scripts.measure.averaged_teacher [--graphs FOLDER] [--sets dev twins ...]

The same graphs at a clip length of 1, on every frame as it is and mirrored, at two sizes. The four
answers are averaged, and their average is remembered by all four. Prints J of `dev` and sets of the
yardstick beside the model as it is served (paired bootstrap over clips).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.commands.machine import processor
from model.core.contract import SHIPPED_WEIGHTS
from model.core.pixels import model_size, resize_frame, resize_masks
from model.data.yardstick import SETS
from model.evaluation.results import today
from model.evaluation.runtime import GraphRuntime, Tensors
from model.evaluation.yardstick import paired_interval, score_clip
from scripts.measure.memory_policies import DEV, yield_clips

SHORT_SIDES = (256, 320)


@dataclass(frozen=True, slots=True)
class TeacherView:
    """One way to look at a frame."""

    short_side: int
    mirrored: bool

    def see(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a frame (h, w, 3) or masks (O, h, w) as this view has them."""
        is_frame = picture.shape[-1] == 3
        height, width = picture.shape[:2] if is_frame else picture.shape[1:]
        size = model_size(height, width, short_side=self.short_side)
        seen = resize_frame(picture, size) if is_frame else resize_masks(picture, size)
        return np.ascontiguousarray(self.mirror(seen, axis=1 if is_frame else 2))

    def mirror(self, picture: NDArray[np.uint8], *, axis: int) -> NDArray[np.uint8]:
        """Return the picture, left and right exchanged if this view does so."""
        return np.flip(picture, axis) if self.mirrored else picture


VIEWS = tuple(TeacherView(side, mirrored) for side in SHORT_SIDES for mirrored in (False, True))


class AveragedRuntime:
    """The verbs of the largest view; an entry is those of all views, their tokens in a row."""

    def __init__(self, inner: GraphRuntime) -> None:
        self._inner = inner
        side = max(SHORT_SIDES)
        self.spec = replace(inner.spec, short_side=side, fine_short_sides=(), entry_by="memorize")

    def memorize(self, inputs: Tensors) -> Tensors:
        """Return one entry of all views, (1, ..., sum of T, C)."""
        entries = [
            self._inner.memorize(
                {
                    "frame": view.see(inputs["frame"][0])[None],
                    "masks": view.see(inputs["masks"][0])[None],
                }
            )
            for view in VIEWS
        ]
        return {
            tensor.name: np.concatenate([entry[tensor.name] for entry in entries], axis=-2)
            for tensor in self.spec.bank
        }

    def segment(self, inputs: Tensors) -> Tensors:
        """Return the mean masks (1, 1, O, h, w) of one frame, and the mean confidence."""
        frame = inputs["frames"][0, 0]
        size, masks, sure = frame.shape[:2], [], []
        begins = {tensor.name: 0 for tensor in self.spec.bank}
        for view in VIEWS:
            seen = view.see(frame)
            own = {"frames": seen[None, None]}
            own |= {name: inputs[name] for name in ("age", "entry_valid")}
            for tensor in self.spec.bank:
                begin = begins[tensor.name]
                end = begin + (seen.shape[0] // tensor.stride) * (seen.shape[1] // tensor.stride)
                own[tensor.name] = inputs[tensor.name][..., begin:end, :]
                begins[tensor.name] = end
            outputs = self._inner.segment(own)
            masks.append(resize_masks(view.mirror(outputs["masks"][0, 0], axis=2).copy(), size))
            sure.append(outputs["confidence"])
        mean = np.rint(np.mean(masks, axis=0)).astype(np.uint8)
        return {"masks": mean[None, None], "confidence": np.mean(sure, axis=0)}


def main() -> None:
    parser = argparse.ArgumentParser(description="the model beside its own average")
    parser.add_argument("--graphs", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--model", default="tamvt-mobile")
    parser.add_argument("--sets", nargs="+", choices=(DEV, *SETS), default=[DEV, "many", "tiny"])
    args = parser.parse_args()
    served = GraphRuntime(args.graphs, args.model, threads=1)
    teacher = AveragedRuntime(served)
    print("| set | clips | J as served | J of the average | gain (95 %) |")
    print("|---|---:|---:|---:|---|")
    for name in args.sets:
        clips = list(yield_clips(name))
        one = [score_clip(served, clip).j for clip in clips]
        other = [score_clip(teacher, clip, clip_length=1).j for clip in clips]
        gain, low, high = (100 * value for value in paired_interval(one, other))
        means = f"{100 * np.mean(one):.1f} | {100 * np.mean(other):.1f}"
        gained = f"{gain:+.1f} ({low:+.1f} to {high:+.1f})"
        print(f"| {name} | {len(clips)} | {means} | {gained} |", flush=True)
    print(f"\n{args.model}, weights {served.spec.weights_sha256[:12]}, {processor()}, {today()}")


if __name__ == "__main__":
    main()
