"""What is added to the logits of predicted masks, against a loop that shrinks what it feeds on.

A model that remembers its own partial masks finds less and less of an object. A bias makes what is
answered, and what is remembered of it, somewhat larger. Masks that a person gave stay as they are.
It acts before aggregation, so objects still compete (decision 62).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST = 4.0  # a pixel of 2 % becomes one of 50 %


@dataclass(frozen=True, slots=True)
class LoopBias:
    """The biases, as logits: of the masks that are answered, and of those that are remembered.

    Raise ValueError for a number that is none or beyond 4.
    """

    answer: float = 0.0
    memory: float = 0.0

    def __post_init__(self) -> None:
        for name in ("answer", "memory"):
            if not abs(getattr(self, name)) <= LARGEST:
                raise ValueError(f"the {name} bias {getattr(self, name)} is not in -4..4")

    @property
    def together(self) -> bool:
        """Return whether what is answered is remembered as it is."""
        return self.answer == self.memory

    def table(self) -> NDArray[np.uint8]:
        """Return what is remembered of a pixel of each answered value, (256,); 0 and 255 stay."""
        share = np.arange(256) / 255
        odds = np.exp(self.memory - self.answer) * share
        return np.asarray(np.rint(255 * odds / (odds + 1 - share)), np.uint8)

    def remember(self, answered: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return soft masks as they enter the memory, of those that were answered."""
        return answered if self.together else np.asarray(self.table()[answered], np.uint8)


NO_BIAS = LoopBias()
