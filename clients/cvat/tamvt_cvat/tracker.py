"""CVAT's tracking function: masks, polygons and boxes, each followed as a mask.

    cvat-cli --server-host ... function create-native "TAM-VT" --function-module tamvt_cvat.tracker
    cvat-cli --server-host ... function run-agent ID --function-module tamvt_cvat.tracker \
        -p url=str:http://127.0.0.1:8000

Shapes that are drawn on one frame are tracked together, in one session. What CVAT keeps between
frames is a reference to it: the memory is the service's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import cvat_sdk.auto_annotation as cvataa
import PIL.Image
from cvat_sdk.masks import decode_mask, encode_mask

from tamvt_client import Client, ObjectMaskOut, ObjectPrompt, SessionOptions, encode_rle
from tamvt_cvat.service import encode_picture, open_client, told_to_cvat

SHAPES = ("mask", "polygon", "rectangle")
# One session follows so many shapes of a frame; the next ones get another.
MOST_TOGETHER = 16


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """A frame of CVAT, encoded once for all of its shapes, and the tracks that begin on it."""

    data: bytes
    size: tuple[int, int]  # (H, W)
    begun: list[Track] = field(default_factory=list)

    @cached_property
    def key(self) -> bytes:
        """What tells it from others: the agent encodes a frame anew each time it asks for it."""
        return sha256(self.data).digest()


@dataclass(eq=False)
class Track:
    """Shapes that began on one frame: a session, once a frame follows, and its newest masks.

    The agent keeps it for hours: no picture stays in it once the session has begun.
    """

    first: EncodedPicture | None
    prompts: list[ObjectPrompt] = field(default_factory=list)
    session_id: str = ""
    next_frame: int = 1
    newest: bytes = b""  # the key of the picture that was sent last
    found: dict[int, ObjectMaskOut] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackedShape:
    """What CVAT keeps of a shape: which object of which track it is."""

    track: Track
    object_id: int


class ShapeTracker:
    """The function that CVAT's agent calls."""

    spec = cvataa.TrackingFunctionSpec(supported_shape_types=set(SHAPES))

    def __init__(self, client: Client, options: SessionOptions) -> None:
        self._client = client
        self._options = options

    def preprocess_image(
        self, context: cvataa.TrackingFunctionContext, image: PIL.Image.Image
    ) -> EncodedPicture:
        """Encode a frame once for all shapes on it."""
        return EncodedPicture(encode_picture(image), (image.height, image.width))

    def init_tracking_state(
        self,
        context: cvataa.TrackingFunctionShapeContext,
        pp_image: EncodedPicture,
        shape: cvataa.TrackableShape,
    ) -> TrackedShape:
        """Remember a shape; all shapes of this frame begin together when the next frame comes."""
        if not pp_image.begun or len(pp_image.begun[-1].prompts) == MOST_TOGETHER:
            pp_image.begun.append(Track(pp_image))
        track = pp_image.begun[-1]
        object_id = len(track.prompts) + 1
        track.prompts.append(prompt_of(shape, object_id, pp_image.size))
        return TrackedShape(track, object_id)

    def track(
        self,
        context: cvataa.TrackingFunctionShapeContext,
        pp_image: EncodedPicture,
        state: TrackedShape,
    ) -> cvataa.TrackableShape | None:
        """Return the shape in this frame, None where it is lost or not to be seen."""
        track = state.track
        if track.newest != pp_image.key:
            with told_to_cvat("the frame was not tracked"):
                self._append(track, pp_image)
        found = track.found.get(state.object_id)
        if found is None or not found.area or found.state == "lost":
            return None
        if context.original_shape_type == "polygon":
            with told_to_cvat("the outline was not read"):
                return self._largest_part(track, state.object_id)
        return shape_of(found, context.original_shape_type, pp_image.size)

    def _append(self, track: Track, picture: EncodedPicture) -> None:
        if track.first is not None:
            session = self._client.start(
                track.first.data, objects=track.prompts, options=self._options
            )
            track.session_id, track.first = session.session_id, None
        answer = self._client.append(track.session_id, [picture.data], first_frame=track.next_frame)
        track.next_frame = answer.next_frame
        track.newest = picture.key
        track.found = {each.object_id: each for each in answer.frames[-1].objects}

    def _largest_part(self, track: Track, object_id: int) -> cvataa.TrackableShape:
        """Return the outline of the largest part: a polygon of CVAT is one."""
        newest = track.next_frame - 1
        (frame,) = self._client.masks(
            track.session_id, first=newest, last=newest, format="polygons"
        )
        (found,) = (each for each in frame.objects if each.object_id == object_id)
        largest = max(found.polygons or (), key=polygon_area)
        return cvataa.TrackableShape(type="polygon", points=list(largest))


def prompt_of(shape: cvataa.TrackableShape, object_id: int, size: tuple[int, int]) -> ObjectPrompt:
    """Return a shape of CVAT as an object of a session."""
    height, width = size
    if shape.type == "rectangle":
        left, top, right, bottom = shape.points
        return ObjectPrompt(object_id=object_id, box=(left, top, right - left, bottom - top))
    if shape.type == "polygon":
        return ObjectPrompt(object_id=object_id, polygons=(tuple(shape.points),))
    mask = decode_mask(shape.points, image_width=width, image_height=height)
    return ObjectPrompt(object_id=object_id, rle=encode_rle(mask))


def shape_of(found: ObjectMaskOut, shape_type: str, size: tuple[int, int]) -> cvataa.TrackableShape:
    """Return an object's mask, or the box around it, as a shape of CVAT."""
    if shape_type == "rectangle":
        x, y, width, height = found.bbox
        return cvataa.TrackableShape(type=shape_type, points=[x, y, x + width, y + height])
    return cvataa.TrackableShape(type=shape_type, points=encode_mask(found.mask(size)))


def polygon_area(points: tuple[float, ...]) -> float:
    """Return the area inside of [x0, y0, x1, y1, ...]."""
    x, y = points[::2], points[1::2]
    following = zip(x[1:] + x[:1], y[1:] + y[:1], strict=True)
    crossed = (a * d - c * b for a, b, (c, d) in zip(x, y, following, strict=True))
    return abs(sum(crossed)) / 2


def create(
    url: str | None = None, model: str | None = None, memory_size: int | None = None
) -> ShapeTracker:
    """Return the function; `cvat-cli` hands over what `-p` names. Clips are of one frame."""
    options = SessionOptions(model=model, clip_length=1, memory_size=memory_size)
    return ShapeTracker(open_client(url), options)
