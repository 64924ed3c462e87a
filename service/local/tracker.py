"""The tracker without HTTP and Redis: the model and one video's memory, in this process.

L frames of a clip, O objects, H and W the frame's size, h and w the model's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.core.masks import label_map
from model.core.pixels import ImageLimits
from service.engines.bank import EmbeddedBank
from service.engines.base import EntryPicture
from service.engines.graphs import Graphs, open_graphs
from service.engines.inference import Inference
from service.engines.model_calls import rebuild, remember, segment, tell_state
from service.engines.runtimes import RuntimeName, RuntimeOptions, choose_runtime
from service.sessions.annotations import read_annotation
from service.sessions.clips import clip_pixels, conclude, plan
from service.sessions.frames import Frame, make_frame_of_image, make_frame_of_picture, read_picture
from service.sessions.options import ChosenOptions, choose_session_size, make_session
from tamvt_client.images import ImageInput, MaskInput, encode_image, encode_mask

LIMITS = ImageLimits()
FILES = Path("~/.cache/tamvt")  # as the service keeps what it compiles


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """The masks of one frame."""

    number: int  # the frame of the given mask is 0
    labels: NDArray[np.uint8]  # (H, W) object ids, 0 where there is none
    confidence: Mapping[int, float]  # by object id, 0 to 1
    lost: frozenset[int]  # objects that are not seen for certain


class Tracker:
    """Objects of one video, followed from one frame and its mask for as long as frames come.

    Frames are encoded images, paths, files, Pillow images or uint8 RGB arrays (H, W, 3), all of
    one size; a mask is a PNG, a path, or an array of object ids (H, W). Not for several threads at
    once; trackers of the same model share it.
    """

    def __init__(
        self,
        image: ImageInput,
        mask: MaskInput,
        *,
        model: str = "tamvt-mobile",
        weights: str | Path = SHIPPED_WEIGHTS,
        clip_length: int | None = None,
        memory_size: int | None = None,
        memory_gate: bool | None = None,
        short_side: int | None = None,
        threads: int = 0,
        runtime: RuntimeName = "onnxruntime",
    ) -> None:
        """Begin with a frame and its mask; the other options are a session's, None the model's.

        `weights` is the folder of the model's graphs, `threads` 0 one for each processor, `runtime`
        what TAMVT_RUNTIME is for the service.

        Raises:
            BadImage, BadMask: the frame or the mask cannot be used; the message says why.
            BadOption, TooManyObjects: an option or the objects are more than the model takes.
            ModelMissing, ModelMismatch: there is no such model, or it is not whole.
        """
        self._graphs = load_graphs(Path(weights), model, threads, runtime)
        spec = self._graphs.spec
        encoded = encode_image(image)
        rgb = read_picture(encoded, LIMITS, name="the frame")
        frame_size = (rgb.shape[0], rgb.shape[1])
        options = ChosenOptions(
            clip_length=clip_length,
            memory_size=memory_size,
            memory_gate=memory_gate,
            short_side=short_side,
        )
        given = read_annotation(
            encode_mask(mask),
            frame_size=frame_size,
            model_size=partial(choose_session_size, spec, frame_size, options),
            limits=LIMITS,
            max_objects=spec.max_objects,
        )
        self._session = make_session(spec, frame_size, given, options, tenant="")
        size, memory = self._session.model_size, self._session.memory
        self._bank = EmbeddedBank(spec, size, memory, given.object_ids)
        reference = make_frame_of_picture(encoded, rgb, model_size=size)
        picture = EntryPicture(reference.at(size), given.soft)
        rebuild(self._graphs, Inference(), self._bank, [picture])
        if spec.state:
            tell_state(self._graphs, Inference(), self._bank, [(memory.newest, picture)])

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Return the ids that were read from the mask, ascending."""
        return self._session.object_ids

    @property
    def next_frame(self) -> int:
        """Return the number of the frame that comes next."""
        return self._session.next_frame

    def track(self, images: Iterable[ImageInput]) -> Iterator[TrackedFrame]:
        """Yield the masks of the frames that follow, in order, clip by clip; a call goes on.

        An image alone is a clip of one: masks come at once, as a camera wants it. Raise BadImage
        or WrongFrameSize for a frame that cannot be used; the next call goes on before its clip.
        """
        rest = iter(images)
        while clip := tuple(islice(rest, self._session.clip_length)):
            yield from self._segment(clip)

    def _segment(self, images: Sequence[ImageInput]) -> list[TrackedFrame]:
        session, spec = self._session, self._graphs.spec
        frames = [
            self._read(image, number) for number, image in enumerate(images, session.next_frame)
        ]
        (step,) = plan(session, frames)
        pixels = clip_pixels(step, model_size=session.model_size)
        found, end = segment(self._graphs, Inference(), self._bank, pixels)
        outcome = conclude(step, found, session, session.memory, spec.calibration, spec.retention)
        if outcome.after is not session.memory:
            remember(self._graphs, Inference(), self._bank, end, outcome.after)
        self._session = replace(session, memory=outcome.after, next_frame=step.last + 1)
        return [
            TrackedFrame(
                step.first + index,
                label_map(soft, session.object_ids, session.frame_size, aggregated=spec.aggregated),
                dict(zip(session.object_ids, judged.confidence, strict=True)),
                frozenset(
                    each for each, lost in zip(session.object_ids, judged.lost, strict=True) if lost
                ),
            )
            for index, (soft, judged) in enumerate(
                zip(found.masks, outcome.confidences, strict=True)
            )
        ]

    def _read(self, image: ImageInput, number: int) -> Frame:
        return make_frame_of_image(
            encode_image(image),
            LIMITS,
            name=f"frame {number}",
            frame_size=self._session.frame_size,
            model_size=self._session.model_size,
        )


@lru_cache(maxsize=4)
def load_graphs(folder: Path, name: str, threads: int, runtime: RuntimeName) -> Graphs:
    """Open a model once for all trackers."""
    threads = threads or len(os.sched_getaffinity(0))
    graphs = open_graphs(folder, name, threads=threads)
    return choose_runtime(
        graphs, folder, RuntimeOptions(runtime, FILES.expanduser()), threads=threads
    )
