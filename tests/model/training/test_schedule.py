"""Rates rise, stay, drop and cool down when they should."""

import pytest

from model.training.schedule import (
    averaging,
    schedule_hard_share,
    schedule_rate,
    schedule_truth_share,
)


def test_rates_warm_up_from_the_first_step() -> None:
    assert schedule_rate(0, steps=1_000, warm_up=10) == pytest.approx(0.1)
    assert schedule_rate(9, steps=1_000, warm_up=10) == 1.0


def test_rates_cool_down_to_zero() -> None:
    assert schedule_rate(700, steps=1_000, warm_up=1, cool_down=0.3) == 1.0
    assert schedule_rate(850, steps=1_000, warm_up=1, cool_down=0.3) == pytest.approx(0.5)
    assert schedule_rate(999, steps=1_000, warm_up=1, cool_down=0.3) == pytest.approx(1 / 300)


def test_rates_drop_at_the_published_steps() -> None:
    factors = [schedule_rate(s, steps=150, warm_up=1, drops=(0.4, 0.8)) for s in (59, 60, 119, 120)]
    assert factors == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_the_average_forgets_quickly_at_first() -> None:
    assert averaging(0, longest=0.998) == pytest.approx(0.1)
    assert averaging(100_000, longest=0.998) == 0.998


def test_more_and_more_pixels_are_left_out() -> None:
    shares = [schedule_hard_share(step, until=1_000) for step in (0, 500, 1_000, 9_000)]
    assert shares == [1.0, 0.625, 0.25, 0.25]


def test_a_training_that_goes_on_begins_with_the_hardest_pixels() -> None:
    assert schedule_hard_share(0, until=0) == 0.25


def test_true_masks_are_remembered_ever_less_often() -> None:
    shares = [schedule_truth_share(step, until=400) for step in (0, 100, 400, 900)]
    assert shares == [1.0, 0.75, 0.0, 0.0]
    assert schedule_truth_share(0, until=0) == 0.0
