"""What a person points at in a picture, and the mask that is meant.

`segment_prompt` is the one place where prompts become masks: by a model's prompt graph where there
is one, else by GrabCut (decision 81). Pure and blocking: run it in the thread pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from model.core.encoding import decode_box, decode_polygons
from model.core.masks import MaskError
from service.errors import BadOption, NoObjects
from service.media.grabcut import Mask, Rgb, Trace, cut_inside, edge_contrast, grow, rasterize
from service.media.prompt_views import PromptModel, PromptViewer

MAX_TRACES: Final = 32  # of one prompt: each takes a tenth of a second
TOUCH: Final = 0.012  # a touched spot's width, as a share of the picture's shorter side
TINY: Final = 0.0004  # of the picture: too few pixels for a model to follow
TINY_PIXELS: Final = 40
PIECE: Final = 0.05  # a part smaller than this share of the whole is not counted
UNCLEAR: Final = 0.25  # of edge contrast
GRABCUT: Final = "grabcut"
STROKE_POINTS: Final = 4  # of a stroke that a graph is shown
SHOWN_POINTS: Final = 24  # of all touches together
POLYGON_SLACK: Final = 0.06  # how far off a polygon may be, as a share of its shorter side


@dataclass(frozen=True, slots=True)
class Touch:
    """A click (one point x, y) or a stroke (several); on the object, or on what is not of it."""

    points: Sequence[tuple[float, float]]
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that was pointed at. `previous` (H, W) is the mask so far, which touches change.

    `box` is [x, y, width, height], `polygon` [x0, y0, x1, y1, ...] around the object, roughly.
    """

    touches: Sequence[Touch] = ()
    box: list[float] | None = None
    polygon: list[float] | None = None
    previous: Mask | None = None


@dataclass(frozen=True, slots=True)
class PointedMask:
    """The mask (H, W) that is meant, and what made it: GrabCut or the graph of that name.

    `score`, 0..1, says how clear its edge is, or how well the graph expects it to fit.
    """

    mask: Mask
    score: float
    parts: int
    warnings: tuple[str, ...]
    made_by: str = GRABCUT


def segment_prompt(rgb: Rgb, prompt: Prompt, model: PromptModel | None = None) -> PointedMask:
    """Return the mask of what a prompt means. Equal pictures and prompts give equal masks.

    The touches are taken in their order: one on the object adds what it touches, one on something
    else takes that away. What they say already of the mask so far changes nothing. Where `model`
    finds nothing, GrabCut looks too. A mask that nobody was asked about is judged by its edge.

    Raises:
        BadOption: nothing is pointed at, or it lies outside of the picture.
        NoObjects: nothing stands out there.
        EngineUnavailable: the model's runtime fails.
    """
    _check(prompt, rgb.shape[:2])
    inside = [
        _area(box, polygon, rgb.shape[:2])
        for box, polygon in ((prompt.box, None), (None, prompt.polygon))
        if box is not None or polygon is not None
    ]
    if model is not None:
        mask, score = _ask(model, rgb, prompt, inside)
        if score is not None and mask.any():
            parts, clear = count_parts(mask), model.spec.sure_above
            warnings = warn(mask, parts=parts, unsure=score < clear)
            return PointedMask(mask, score, parts, warnings, model.spec.graph)
    mask = _cut(rgb, prompt, inside)
    if not mask.any():
        raise NoObjects("nothing stands out there; draw a box around it, or paint it")
    score = edge_contrast(rgb, mask)
    parts = count_parts(mask)
    return PointedMask(mask, score, parts, warn(mask, parts=parts, unclear=score < UNCLEAR))


def _ask(
    model: PromptModel, rgb: Rgb, prompt: Prompt, inside: Sequence[Mask]
) -> tuple[Mask, float | None]:
    """Return the mask (H, W) by a model's graph, and its score: None where it was not asked."""
    viewer, size = PromptViewer(model, rgb), rgb.shape[:2]
    mask, score = _mask_so_far(prompt, size), None
    for area in inside:
        found, score = viewer.find_in_box(area, *_points_of(prompt.touches))
        mask |= found & area
    width = _touch_width(size)
    for index, touch in enumerate(prompt.touches):
        if _shows(mask, touch):
            continue
        so_far = prompt.touches[: index + 1]
        mask, score = viewer.find(*_points_of(so_far), mask)
        for each in so_far:  # a click does something, whatever the graph makes of it
            if not _shows(mask, each):
                mask[rasterize([Trace(each.points, width)], size)] = each.wanted
    return mask, score


def _points_of(touches: Sequence[Touch]) -> tuple[list[tuple[float, float]], list[bool]]:
    """Return the points that a graph is shown of touches, the newest ones, and which are wanted."""
    points: list[tuple[float, float]] = []
    wanted: list[bool] = []
    for touch in touches:
        last = len(touch.points) - 1
        chosen = np.linspace(0, last, min(last + 1, STROKE_POINTS)).round().astype(int)
        points += [touch.points[each] for each in chosen]
        wanted += [touch.wanted] * len(chosen)
    return points[-SHOWN_POINTS:], wanted[-SHOWN_POINTS:]


def _cut(rgb: Rgb, prompt: Prompt, inside: Sequence[Mask]) -> Mask:
    """Return the mask (H, W) by GrabCut."""
    size = rgb.shape[:2]
    mask = _mask_so_far(prompt, size)
    for area in inside:
        mask |= cut_inside(rgb, area)
    width = _touch_width(size)
    wanted = [Trace(each.points, width) for each in prompt.touches if each.wanted]
    spared = [Trace(each.points, width) for each in prompt.touches if not each.wanted]
    for touch in prompt.touches:
        if _shows(mask, touch):
            continue
        trace = [Trace(touch.points, width)]
        found = grow(rgb, trace, spared if touch.wanted else wanted)
        mask = mask | found if touch.wanted else mask & ~found
    return mask


def _touch_width(size: tuple[int, ...]) -> float:
    return max(3.0, TOUCH * min(size))


def _mask_so_far(prompt: Prompt, size: tuple[int, ...]) -> Mask:
    return np.zeros(size, np.bool_) if prompt.previous is None else prompt.previous.copy()


def _shows(mask: Mask, touch: Touch) -> bool:
    """Return whether a mask says already what a touch says."""
    height, width = mask.shape
    columns, rows = np.clip(np.array(touch.points).round(), 0, (width - 1, height - 1)).T
    return bool((mask[rows.astype(int), columns.astype(int)] == touch.wanted).all())


def warn(mask: Mask, *, parts: int, unclear: bool = False, unsure: bool = False) -> tuple[str, ...]:
    """Return a sentence for each reason why the mask may be no good, with what to do."""
    said = []
    area = int(mask.sum())
    if area < max(TINY_PIXELS, TINY * mask.size):
        said.append(
            f"The outline is tiny ({area} pixels): it may be lost soon. Zoom in and add what is "
            "missing, or send larger pictures."
        )
    if parts > 1:
        said.append(
            f"The outline is in {parts} pieces. Click the parts between them to join it, or click "
            "with Alt on what does not belong."
        )
    if unclear:
        said.append(
            "The outline follows no clear edge. Draw a box around the object, or paint it with the "
            "brush."
        )
    if unsure:
        said.append(
            "The outline may be wrong. Click what is missing, click with Alt on what does not "
            "belong, or draw a box around the object."
        )
    return tuple(said)


def count_parts(mask: Mask) -> int:
    """Return the number of parts that are a fair share of the mask."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return int((areas >= PIECE * areas.sum()).sum())


def _check(prompt: Prompt, size: tuple[int, ...]) -> None:
    """Raise BadOption unless something in the picture is pointed at."""
    height, width = size
    if not prompt.touches and prompt.box is None and prompt.polygon is None:
        raise BadOption("the form has no prompt: send points, strokes, a box or a polygon")
    if len(prompt.touches) > MAX_TRACES:
        raise BadOption(f"{len(prompt.touches)} points and strokes; at most {MAX_TRACES} are read")
    for touch in prompt.touches:
        for x, y in touch.points:
            if not (-1 <= x <= width and -1 <= y <= height):
                raise BadOption(f"points: {x:g}, {y:g} lies outside of the image")
    if prompt.previous is not None and prompt.previous.shape != size:
        rows, columns = prompt.previous.shape
        raise BadOption(f"previous: it is {columns}x{rows}, the image {width}x{height}")


def _area(box: list[float] | None, polygon: list[float] | None, size: tuple[int, ...]) -> Mask:
    """Return bool (H, W): where the object may be, of a box or a polygon."""
    height, width = size
    try:
        if box is not None:
            inside = decode_box(box, (height, width))
        else:
            inside = decode_polygons([polygon], (height, width))
    except MaskError as error:
        raise BadOption(f"{'box' if polygon is None else 'polygon'}: {error}") from error
    if not inside.any():
        raise BadOption(f"{'box' if polygon is None else 'polygon'}: it lies outside of the image")
    if polygon is None:
        return inside
    across = min(int(inside.any(0).sum()), int(inside.any(1).sum()))
    distance = cv2.distanceTransform((~inside).view(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(distance <= max(2.0, POLYGON_SLACK * across))
