"""Losses on frames small enough to work out by hand; the published values are in test_golden."""

import math

import pytest
import torch

from model.training.losses import (
    LossConfig,
    change_weights,
    dice_loss,
    focal_loss,
    hard_cross_entropy,
    measure_center_change,
    measure_component_change,
    paper_loss,
    training_loss,
    tversky_loss,
    upsample_to,
)

ONE_OF_FOUR = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])  # (B, F, H, W)


def squares(*areas: int) -> torch.Tensor:
    """Masks (1, F, 10, 10) of the given areas."""
    pixels = torch.arange(100).view(10, 10)
    return torch.stack([(pixels < area).float() for area in areas])[None]


def test_focal_loss_of_a_coin_toss() -> None:
    # One foreground pixel weighs 0.25, three of the background 0.75; (1 - 1/2)^2 = 1/4 each.
    expected = math.log(2) / 4 * (0.25 + 3 * 0.75) / 4
    assert focal_loss(torch.zeros(1, 1, 2, 2), ONE_OF_FOUR).item() == pytest.approx(expected)


def test_dice_loss_of_a_coin_toss() -> None:
    # 2 * 1/2 + 1 over 4 * 1/2 + 1 + 1
    assert dice_loss(torch.zeros(1, 1, 2, 2), ONE_OF_FOUR).item() == pytest.approx(1 - 2 / 4)


def test_losses_of_a_certain_right_answer_vanish() -> None:
    certain = (ONE_OF_FOUR - 0.5) * 100
    assert focal_loss(certain, ONE_OF_FOUR).item() < 1e-6
    assert dice_loss(certain, ONE_OF_FOUR).item() < 1e-6


def test_hard_cross_entropy_counts_the_worst_pixels_only() -> None:
    logits = torch.tensor([[[[-9.0, -9.0], [-9.0, -9.0]]]])  # wrong at one pixel of four
    hardest = hard_cross_entropy(logits, ONE_OF_FOUR, share=0.25).item()
    assert hardest == pytest.approx(9, rel=1e-3)
    assert hard_cross_entropy(logits, ONE_OF_FOUR, share=1.0).item() == pytest.approx(
        hardest / 4, rel=1e-3
    )


def test_frames_weigh_by_their_change_of_area() -> None:
    weight = change_weights(squares(10, 19, 19))[0]
    changes = torch.tensor([9.0 + 1, 0.0 + 1])
    expected = (changes / changes.mean()).exp()
    expected = expected / expected.mean()
    torch.testing.assert_close(weight, torch.cat((torch.ones(1), expected)))


def test_without_any_change_all_frames_weigh_the_same() -> None:
    assert change_weights(squares(7, 7, 7, 7)).tolist() == [[1.0, 1.0, 1.0, 1.0]]


def test_a_large_tau_evens_the_weights_out() -> None:
    mild = change_weights(squares(10, 90, 90), tau=100.0)[0, 1:]
    torch.testing.assert_close(mild, torch.ones(2), atol=0.02, rtol=0)


def test_logits_meet_the_target_at_its_size() -> None:
    assert upsample_to(torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 18, 30)).shape == (1, 2, 18, 30)


def test_every_layer_counts_alike() -> None:
    target = squares(10, 30)
    layers = [torch.randn(1, 2, 5, 5) for _ in range(3)]
    loss, single = paper_loss(layers, target), [paper_loss([each], target) for each in layers]
    torch.testing.assert_close(loss.focal, torch.cat([each.focal for each in single]))
    torch.testing.assert_close(loss.total, torch.stack([each.total for each in single]).sum())


def test_parts_are_counted_by_their_sides_not_their_corners() -> None:
    target = torch.zeros(1, 4, 6, 6)
    target[0, 0, 1, 1] = 1  # one part
    target[0, 1, 1, 1] = target[0, 1, 2, 2] = 1  # they touch at a corner only: two
    target[0, 2, 1, 1:5] = 1  # one
    assert measure_component_change(target).tolist() == [
        [1 + 1, 1 + 1, 1 + 1]
    ]  # the last frame is empty


def test_the_center_moves_within_the_masks_own_box() -> None:
    target = torch.zeros(1, 3, 8, 8)
    target[0, 0, 1:3, 1:3] = 1
    target[0, 1, 4:6, 5:7] = 1  # moved as one: no change
    target[0, 2, 4:6, 1:7] = 1  # stretched: its center is 2.5 from the left, it was 0.5
    assert measure_center_change(target).tolist() == [[1.0, 2.0 + 1]]


@pytest.mark.parametrize(
    ("weighted", "focal", "dice"), [("focal", 1, 0), ("dice", 0, 1), ("both", 1, 1)]
)
def test_the_weights_act_where_they_should(weighted: str, focal: int, dice: int) -> None:
    target, layers = squares(10, 90, 90), [torch.randn(1, 3, 10, 10)]
    plain = paper_loss(layers, target, config=LossConfig("published", None))
    config = LossConfig("published", "area", weighted=weighted)  # type: ignore[arg-type]
    loss = paper_loss(layers, target, config=config)
    assert (loss.focal != plain.focal).item() == focal
    assert (loss.dice != plain.dice).item() == dice


def test_a_lower_layer_counts_half_in_the_recipe_in_use() -> None:
    target = torch.zeros(1, 1, 4, 4)
    wrong, right = torch.full_like(target, 20.0), torch.full_like(target, -20.0)
    config = LossConfig("hard")
    lower = training_loss([wrong, right], target, config)
    assert lower.item() == pytest.approx(
        0.5 * training_loss([right, wrong], target, config).item(), rel=1e-4
    )


def test_tau_must_be_positive() -> None:
    with pytest.raises(ValueError, match="tau must be positive"):
        LossConfig(tau=0)


def test_tversky_with_equal_weights_is_dice() -> None:
    logits = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]])
    torch.testing.assert_close(
        tversky_loss(logits, ONE_OF_FOUR, missed=0.5), dice_loss(logits, ONE_OF_FOUR)
    )


def test_what_is_missed_counts_more_than_what_is_wrong() -> None:
    missing, wrong = torch.full((2, 1, 1, 2, 2), -9.0)
    wrong[..., 0, :] = 9.0  # one pixel right, one wrong; the other misses the only one
    losses = [
        (
            tversky_loss(missing, ONE_OF_FOUR, missed=share).item(),
            tversky_loss(wrong, ONE_OF_FOUR, missed=share).item(),
        )
        for share in (0.5, 0.7)
    ]
    assert losses[1][0] > losses[0][0]
    assert losses[1][1] < losses[0][1]
    config = LossConfig("hard", missed=0.7)
    layers, target = [missing], ONE_OF_FOUR
    assert training_loss(layers, target, config) > training_loss(layers, target, LossConfig("hard"))
