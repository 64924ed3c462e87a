"""The biases of the closed loop, on soft masks."""

import numpy as np
import pytest

from model.core.loop_bias import LoopBias

EVERY_VALUE = np.arange(256, dtype=np.uint8)


def test_what_is_remembered_is_the_answer_with_the_difference_of_the_biases() -> None:
    remembered = LoopBias(answer=0.2, memory=0.7).remember(EVERY_VALUE) / 255
    inside = slice(1, 255)
    share = EVERY_VALUE[inside] / 255
    wanted = 1 / (1 + np.exp(-(np.log(share / (1 - share)) + 0.5)))
    assert remembered[inside] == pytest.approx(wanted, abs=0.5 / 255 + 1e-9)


@pytest.mark.parametrize("memory", [-4.0, -0.5, 0.5, 4.0])
def test_a_sure_pixel_stays_what_it_is(memory: float) -> None:
    table = LoopBias(memory=memory).table()
    assert (table[0], table[255]) == (0, 255)
    assert (np.diff(table.astype(int)) >= 0).all()


def test_with_equal_biases_the_answer_itself_is_remembered() -> None:
    assert LoopBias(0.5, 0.5).remember(EVERY_VALUE) is EVERY_VALUE


@pytest.mark.parametrize("bias", [4.1, -4.1, float("nan"), float("inf")])
def test_a_bias_that_would_settle_everything_is_refused(bias: float) -> None:
    with pytest.raises(ValueError, match="the memory bias"):
        LoopBias(memory=bias)
