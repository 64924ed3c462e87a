"""What a person draws on the page, in real Chromium: strokes, polygons, outlines, colors, ways."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.anyio

RunJs = Callable[..., Awaitable[Any]]


async def test_a_polygon_is_filled_between_its_corners(run_js: RunJs) -> None:
    code = """({ Drawing }) => {
        const drawing = new Drawing([8, 10]);
        drawing.polygon([[1.5, 1.5], [7.5, 1.5], [7.5, 5.5], [1.5, 5.5]], 3);
        return [...drawing.labels];
    }"""
    labels = np.array(await run_js(code, module="drawing.js")).reshape(8, 10)
    expected = np.zeros((8, 10), int)
    expected[2:6, 2:8] = 3
    assert np.array_equal(labels, expected)


async def test_a_stroke_is_round_and_stays_in_the_picture(run_js: RunJs) -> None:
    code = """({ Drawing }) => {
        const drawing = new Drawing([20, 30]);
        drawing.stroke([-5, 10], [40, 10], 3, 1);
        drawing.stroke([15, 10], [15, 10], 2, 0);
        return [...drawing.labels];
    }"""
    labels = np.array(await run_js(code, module="drawing.js")).reshape(20, 30)
    assert labels[7:14, 0].tolist() == [1] * 7
    assert labels[10, 12:19].tolist() == [1, 0, 0, 0, 0, 0, 1]
    assert labels.sum() == 7 * 30 - 13


async def test_only_objects_that_were_changed_are_corrected(run_js: RunJs) -> None:
    code = """({ Drawing }) => {
        const drawing = new Drawing([1, 6], Uint8Array.of(1, 1, 2, 2, 3, 3));
        drawing.mark();
        drawing.labels[1] = 2;
        drawing.erase(3);
        const ids = drawing.changedIds();
        drawing.undo();
        return [ids, drawing.changedIds(), drawing.changed];
    }"""
    assert await run_js(code, module="drawing.js") == [[1, 2], [], False]


async def test_an_outline_surrounds_the_mask_and_keeps_its_hole(run_js: RunJs) -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[5:35, 10:50] = 3
    labels[15:25, 25:35] = 0
    labels[0:4, 0:4] = 7
    code = """({ outlines }, { flat, size }) => {
        const [height, width] = size;
        const paths = outlines(Uint8Array.from(flat), size);
        const context = new OffscreenCanvas(width, height).getContext("2d");
        const ids = Array.from({ length: height * width }, (_, at) => {
            const inside = ([, path]) => context.isPointInPath(
                path, (at % width) + 0.5, Math.floor(at / width) + 0.5, "evenodd");
            return [...paths].find(inside)?.[0] ?? 0;
        });
        return ids;
    }"""
    given = {"flat": labels.ravel().tolist(), "size": list(labels.shape)}
    found = np.array(await run_js(code, given, module="contours.js")).reshape(labels.shape)
    assert (found != labels).sum() <= 16  # the corners are round


async def test_pieces_of_a_mask_are_counted(run_js: RunJs) -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[2:8, 2:8] = labels[10:18, 15:25] = 2
    labels[19, 29] = 2  # a speck
    code = "({ inspect }, { flat, size }) => inspect(Uint8Array.from(flat), size, 2)"
    given = {"flat": labels.ravel().tolist(), "size": list(labels.shape)}
    assert await run_js(code, given, module="contours.js") == {"area": 117, "parts": 2}


async def test_a_locked_object_keeps_its_pixels_and_what_is_undone_is_done_again(
    run_js: RunJs,
) -> None:
    code = """({ Drawing }) => {
        const isLocked = (id) => id === 2;
        const drawing = new Drawing([1, 6], Uint8Array.of(1, 1, 2, 2, 0, 0), { isLocked });
        drawing.mark();
        drawing.stroke([0, 0], [5, 0], 0.5, 1);
        const painted = [...drawing.labels];
        drawing.undo();
        const undone = [...drawing.labels];
        drawing.redo();
        return [painted, undone, [...drawing.labels], drawing.hasUndone];
    }"""
    painted = [1, 1, 2, 2, 1, 1]
    found = await run_js(code, module="drawing.js")
    assert found == [painted, [1, 1, 2, 2, 0, 0], painted, False]


async def test_a_leg_runs_forward_or_backward_along_the_video(run_js: RunJs) -> None:
    code = """({ Leg }) => [1, -1].map((direction) => {
        const leg = new Leg({ session: { state: { next_frame: 4 } }, start: 10, direction });
        return [leg.newest, leg.frameOf(8), leg.has(8), leg.has(12), leg.left({ count: 20 })];
    })"""
    assert await run_js(code, module="legs.js") == [
        [13, -2, False, True, 6],
        [7, 2, True, False, 7],
    ]


async def test_colors_are_bright_and_all_different(run_js: RunJs) -> None:
    code = "({ brightColor }) => Array.from({ length: 40 }, (_, k) => brightColor(k + 1))"
    colors = await run_js(code, module="painter.js")
    assert len(set(colors)) == 40
    assert all(max(bytes.fromhex(color[1:])) > 180 for color in colors)
