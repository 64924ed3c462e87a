"""Rounds of clicks: what a prompt network is shown, and how its answers lead to the next clicks.

Each row of a batch holds one view for some rounds. In the first it is pointed at; after each the
next click goes where the network's own mask is most wrong, and that mask becomes the previous one.
So every forward pass is trained on, and the clicks are those that the network itself calls for.

B views, P points, S a view's side.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.core.prompt_contract import BOX_END, BOX_START, PADDING
from model.data.clicks import Click, jitter_box, place_click, roughen_mask
from model.data.prompt_samples import PromptView, PromptViews
from model.data.static import Pixels

MOST_POINTS = 10  # P
ROUNDS = (0.22, 0.24, 0.2, 0.14, 0.12, 0.08)  # shares of views that stay for 1, 2, ... rounds
SEVERAL = 0.25  # of views with a click have several at once
CLICK, BOX, BOTH, ROUGH = 0.46, 0.32, 0.08, 0.14  # shares of what a view begins with


class PromptBatch(NamedTuple):
    """What a step is made of; the arrays that the graph takes, and the target."""

    image: Pixels  # (B, S, S, 3)
    points: NDArray[np.float32]  # (B, P, 2)
    labels: NDArray[np.int32]  # (B, P)
    previous: Pixels  # (B, S, S), soft
    target: Pixels  # (B, S, S) {0, 1}


@dataclass(slots=True)
class PointedView:
    """One view and what was pointed at in it so far."""

    still: PromptView
    rounds: int
    previous: Pixels
    clicks: list[Click] = field(default_factory=list)
    box: NDArray[np.float64] | None = None

    def list_points(self) -> list[Click]:
        """Return the box's corners and the newest clicks, at most MOST_POINTS."""
        corners = []
        if self.box is not None:
            left, top, right, bottom = self.box
            corners = [Click(left, top, BOX_START), Click(right, bottom, BOX_END)]
        return corners + self.clicks[len(corners) - MOST_POINTS :]


class PromptRounds:
    """A batch of views, filled again as their rounds are over."""

    def __init__(self, views: PromptViews, rng: np.random.Generator, *, batch: int) -> None:
        self._views, self._rng = views, rng
        self.shown = [self.begin() for _ in range(batch)]

    def begin(self) -> PointedView:
        """Return a new view that is pointed at for the first time."""
        rng, still = self._rng, self._views.draw(self._rng)
        empty = np.zeros_like(still.target)
        view = PointedView(still, 1 + int(rng.choice(len(ROUNDS), p=ROUNDS)), empty)
        kind = rng.choice(4, p=(CLICK, BOX, BOTH, ROUGH))
        if kind in (1, 2):
            view.box = jitter_box(still.target, rng, amount=rng.uniform(0, 0.15))
        rough = roughen_mask(still.target, rng) if kind == 3 else empty
        view.previous = rough * np.uint8(255)
        if kind != 1 and (click := place_click(rough, still.target, self.doubt())) is not None:
            view.clicks.append(click)
            if kind != 3 and rng.random() < SEVERAL:  # as of a stroke
                for _ in range(int(rng.integers(1, 4))):
                    if more := place_click(empty, still.target, rng, inside=0.2):
                        view.clicks.append(more)
        return view

    def doubt(self) -> np.random.Generator | None:
        """Return what a click's place is drawn by; None: it is the best one."""
        return self._rng if self._rng.random() < 0.7 else None

    def make_batch(self) -> PromptBatch:
        """Return what the network is shown next."""
        listed = [view.list_points() for view in self.shown]
        points = np.zeros((len(listed), MOST_POINTS, 2), np.float32)
        labels = np.full(points.shape[:2], PADDING, np.int32)
        for index, each in enumerate(listed):
            for number, (x, y, label) in enumerate(each):
                points[index, number], labels[index, number] = (x, y), label
        return PromptBatch(
            np.stack([view.still.image for view in self.shown]),
            points,
            labels,
            np.stack([view.previous for view in self.shown]),
            np.stack([view.still.target for view in self.shown]),
        )

    def advance(self, masks: Pixels) -> None:
        """Take the network's soft masks (B, S, S): click where they are wrong, or begin anew."""
        for index, (view, mask) in enumerate(zip(self.shown, masks, strict=True)):
            view.rounds -= 1
            wrong = (mask > 127).view(np.uint8)
            click = place_click(wrong, view.still.target, self.doubt()) if view.rounds else None
            if click is None:
                self.shown[index] = self.begin()
                continue
            # A caller may send all clicks and no mask.
            view.previous = mask if self._rng.random() < 0.85 else np.zeros_like(mask)
            if view.previous.any() and self._rng.random() < 0.25:  # or the newest and the mask
                view.clicks.clear()
            if self._rng.random() < 0.4:
                view.box = None
            view.clicks.append(click)
