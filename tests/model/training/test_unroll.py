"""A sample in the loop: which entries are kept, what has a gradient, what is remembered."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from model.core.masks import aggregate
from model.core.memory import Retention
from model.networks.base import Bank, TrackingNetwork, aggregate_logits, raise_logits
from model.networks.registry import build_network
from model.training.losses import LossConfig
from model.training.unroll import LoopConfig, SampleLoss, remember_truth, unroll

FRAMES, SIZE = 9, 32


@pytest.fixture
def model() -> TrackingNetwork:
    torch.manual_seed(0)
    return build_network("tamvt-mobile").eval()


def sample(objects: int = 1) -> tuple[Tensor, Tensor]:
    """Frames (2, F, H, W, 3) of noise and masks (2, O, H, W) of squares."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, FRAMES, SIZE, SIZE, 3), generator=generator)
    masks = torch.zeros(2, objects, SIZE, SIZE)
    for index in range(objects):
        masks[:, index, 4 : 16 + index, 4 : 16 + 2 * index] = 1
    return frames.to(torch.uint8), masks


def counting(model: TrackingNetwork) -> list[int]:
    """The number of entries of each clip that the model segments from now on."""
    entries: list[int] = []
    segment: Callable[..., Any] = model.segment

    def counted(features: Any, bank: Bank, **kwargs: Any) -> Any:
        entries.append(bank.age.shape[1])
        return segment(features, bank, **kwargs)

    model.segment = counted  # type: ignore[method-assign]
    return entries


def test_a_memory_keeps_as_many_entries_as_are_served(model: TrackingNetwork) -> None:
    entries = counting(model)
    unroll(model, *sample(), memory_size=3)
    assert entries == [1, 2, 3, 3]


def test_silent_clips_change_no_mask_that_counts(model: TrackingNetwork) -> None:
    whole = unroll(model, *sample())[-1]
    silent = unroll(model, *sample(), silent=2)[-1]
    assert silent.shape == (2, 1, FRAMES - 1 - 4, SIZE // 4, SIZE // 4)
    assert torch.allclose(silent, whole[:, :, 4:], atol=1e-3)


def test_silent_clips_have_no_gradient_of_their_own(model: TrackingNetwork) -> None:
    looks: list[bool] = []
    encode = model.encode_frames

    def watched(images: Tensor) -> Any:
        looks.append(torch.is_grad_enabled())
        return encode(images)

    model.encode_frames = watched  # type: ignore[method-assign]
    unroll(model, *sample(), silent=2)
    assert looks == [True, False, False]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_clip_may_have_another_length(model: TrackingNetwork, length: int) -> None:
    entries = counting(model)
    logits = unroll(model, *sample(), clip_length=length)
    assert logits[-1].shape[2] == FRAMES - 1
    assert len(entries) == -(-(FRAMES - 1) // length)


def test_the_reference_is_not_damaged_but_what_is_remembered(model: TrackingNetwork) -> None:
    clips: list[int] = []

    def emptied(masks: Tensor, clip: int) -> Tensor:
        clips.append(clip)
        return torch.zeros_like(masks)

    plain = unroll(model, *sample())[-1]
    damaged = unroll(model, *sample(), remember=emptied)[-1]
    assert clips == [0, 1, 2]
    assert torch.allclose(damaged[:, :, :2], plain[:, :, :2])
    assert not torch.allclose(damaged[:, :, 2:], plain[:, :, 2:])


def test_a_step_of_the_loop_counts_the_frames_behind_the_silent_clips(
    model: TrackingNetwork,
) -> None:
    loop = LoopConfig(memory_size=3, silent_clips=2, single_share=0.5, damage_share=1.0)
    frames, masks = sample()
    labels = masks[:, :1].repeat(1, FRAMES, 1, 1).to(torch.uint8)
    counted = set()
    for seed in range(12):
        torch.manual_seed(seed)
        loss, logits = SampleLoss(model.train(), LossConfig("hard"), loop=loop)(
            frames, labels, 1.0, False
        )
        assert loss.isfinite()
        counted.add(logits.shape[1])
    assert {4, 6, 8} <= counted


def test_frames_between_those_that_are_kept_update_the_state_alone() -> None:
    """Of eight frames behind the reference the third and the sixth are memorized, and no other."""
    network = build_network("qmvos-mobile").train()
    shown: list[int] = []
    memorize: Callable[..., Any] = network.memorize

    def counted(*inputs: Any) -> Any:
        shown.append(len(shown))
        return memorize(*inputs)

    network.memorize = counted  # type: ignore[assignment, method-assign]
    entries = counting(network)
    logits = unroll(network, *sample(), retention=Retention(every=3))
    assert entries == [1, 1, 1, 2, 2, 2, 3, 3]
    assert len(shown) == 3
    logits[-1].sum().backward()
    light = dict(network.decoder.named_parameters())  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in light.values())


def test_the_previous_frame_is_read_beside_those_that_are_kept() -> None:
    network = build_network("stm-mobile").eval()
    entries = counting(network)
    unroll(network, *sample(), retention=Retention(every=3, recent=1))
    assert entries == [1, 2, 2, 2, 3, 3, 3, 4]


def test_a_step_draws_how_many_frames_are_kept() -> None:
    network = build_network("stm-mobile")
    loop = LoopConfig(keep_every=(2, 5))
    assert {loop.draw_retention(network) for _ in range(40)} == {
        Retention(every, 1) for every in (2, 3, 4, 5)
    }


def test_what_competes_is_remembered_as_it_is_served() -> None:
    network = build_network("stm-mobile").eval()
    remembered: list[Tensor] = []
    frames, masks = sample(objects=2)

    def kept(soft: Tensor, clip: int) -> Tensor:
        remembered.append(soft)
        return soft

    logits = unroll(network, frames[:, :3], masks, remember=kept)[-1].transpose(1, 2)
    exists = torch.ones(2, 2, dtype=torch.bool)
    served = network.soften(raise_logits(logits[:, :1].detach(), (SIZE, SIZE)), exists)
    assert torch.equal(remembered[0], served[:, 0])


def test_an_object_is_trained_in_every_slot() -> None:
    """A slot has weights of its own; objects of a sample are numbered 1, 2, ..."""
    network = build_network("stma-mobile").train()
    loss_of = SampleLoss(network, LossConfig("hard"))
    frames, masks = sample()
    labels = masks[:, :1].repeat(1, FRAMES, 1, 1).to(torch.uint8)
    drawn: set[int] = set()
    memorize: Callable[..., Any] = network.memorize

    def watched(features: Any, given: Tensor, *more: Any) -> Any:
        drawn.update(given.flatten(2).any(dim=2)[0].nonzero()[:, 0].tolist())
        return memorize(features, given, *more)

    network.memorize = watched  # type: ignore[assignment, method-assign]
    for seed in range(4):
        torch.manual_seed(seed)
        loss, logits = loss_of(frames[:, :2], labels[:, :2], 1.0, False)
        assert loss.isfinite()
        assert logits.shape == (2, 1, SIZE // 4, SIZE // 4)
    assert len(drawn) > 1


@pytest.mark.parametrize("build", ["tamvt-mobile", "stma-mobile"])
def test_at_first_the_truth_is_remembered(build: str) -> None:
    """What each clip remembers is the true mask of its last frame, in the object's own slot."""
    network = build_network(build).train()
    frames, _ = sample()
    labels = torch.zeros(2, FRAMES, SIZE, SIZE, dtype=torch.uint8)
    for number in range(FRAMES):
        labels[:, number, 4:16, number : number + 12] = 1
    remembered: list[Tensor] = []
    memorize: Callable[..., Any] = network.memorize

    def watched(features: Any, given: Tensor, *more: Any) -> Any:
        remembered.append(given.amax(dim=1))
        return memorize(features, given, *more)

    network.memorize = watched  # type: ignore[assignment, method-assign]
    loss_of = SampleLoss(network, LossConfig("hard"), loop=LoopConfig(memory_size=3))
    loss, _ = loss_of(frames, labels, 1.0, False, truth_share=1.0)
    assert loss.isfinite()
    step = network.config.clip_length
    for number, masks in enumerate(remembered):
        assert torch.equal(masks, labels[:, number * step].float())
    assert len(remembered) == (FRAMES - 2) // step + 1


def test_a_sample_that_is_not_told_remembers_its_own_masks() -> None:
    truth, soft = torch.ones(2, 1, 3, 4, 4), torch.full((2, 1, 4, 4), 0.25)
    remember = remember_truth(
        truth, torch.tensor([True, False]), otherwise=lambda soft, clip: soft / 2
    )
    assert remember(soft, 1)[:, 0, 0, 0].tolist() == [1.0, 0.125]


def test_slots_compete_as_their_softmax_says() -> None:
    network = build_network("stma-mobile")
    logits = torch.randn(1, 3, 1, 8, 8)
    exists = torch.tensor([[True, True, False]])
    competing = network.compete(logits, exists)[:, :2].sigmoid()
    served = network.soften(logits.transpose(1, 2), exists).transpose(1, 2)[:, :2]
    torch.testing.assert_close(competing, served)


def test_aggregation_is_that_of_the_label_map() -> None:
    """Where the aggregated logit is above 0 lies the object, as the service draws it."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 3, 1, 16, 16, generator=generator)
    competing = aggregate_logits(logits, torch.ones(1, 3, dtype=torch.bool))[0, :, 0]
    soft = (255 * logits[0, :, 0].sigmoid()).round().to(torch.uint8)
    labels = aggregate(soft.numpy(), (1, 2, 3))
    # One logit above 0 is enough, since odds are divided by the sum of all others.
    sure = (competing > 0).any(0).numpy()
    assert sure.mean() > 0.4
    assert ((competing.argmax(0).numpy() + 1)[sure] == labels[sure]).all()


def test_an_object_alone_competes_with_nothing() -> None:
    logits = torch.linspace(-8, 8, 32).view(1, 1, 1, 4, 8).repeat(1, 2, 1, 1, 1)
    present = torch.tensor([[True, False]])
    competing = aggregate_logits(logits, present)
    torch.testing.assert_close(competing[:, 0], logits[:, 0], atol=1e-3, rtol=0)


def test_twins_compete_for_their_pixels() -> None:
    """Both claim the same pixels: each one's gradient pushes the other away."""
    logits = torch.full((1, 2, 1, 2, 2), 2.0, requires_grad=True)
    competing = aggregate_logits(logits, torch.ones(1, 2, dtype=torch.bool))
    competing[0, 0].sum().backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] > 0).all()
    assert (logits.grad[0, 1] < 0).all()


@pytest.mark.parametrize("extreme", [-60.0, 60.0])
def test_sure_logits_aggregate_to_finite_ones(extreme: float) -> None:
    logits = torch.full((1, 2, 1, 2, 2), extreme, requires_grad=True)
    competing = aggregate_logits(logits, torch.ones(1, 2, dtype=torch.bool))
    competing.sum().backward()
    assert competing.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_objects_that_a_sample_does_not_have_do_not_count(model: TrackingNetwork) -> None:
    """The loss of two samples is that of their objects, not of the padding beside them."""
    frames, _ = sample()
    labels = torch.zeros(2, FRAMES, SIZE, SIZE, dtype=torch.uint8)
    labels[:, :, 4:12, 4:12] = 1
    alone, _ = SampleLoss(model, LossConfig("hard"))(frames[:1], labels[:1], 1.0, False)
    labels[1, :, 20:28, 20:28] = 2
    loss = SampleLoss(model, LossConfig("hard"))
    both, logits = loss(frames, labels, 1.0, False, objects=2)
    assert both.isfinite()
    assert logits.shape == (2, FRAMES - 1, SIZE // 4, SIZE // 4)
    again, _ = loss(frames[:1], labels[:1], 1.0, False, objects=2)
    # One object of two: judged alone, and by half once more in a competition with nothing.
    assert alone.item() < again.item() < 1.5 * alone.item() + 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        {"damage_share": 1.5},
        {"single_share": -0.1},
        {"silent_clips": -1},
        {"truth_steps": -1},
        {"memory_size": 0},
        {"keep_every": (3, 2)},
    ],
)
def test_an_impossible_loop_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoopConfig(**wrong)
