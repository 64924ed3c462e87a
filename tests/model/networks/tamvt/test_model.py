"""The whole model: objects and sessions do not disturb each other, and every size works.

B sessions, L frames of a clip, N entries, O objects, H and W the input's size.
"""

import copy

import pytest
import torch
from torch import Tensor

from model.networks.tamvt.build import ABLATIONS, BUILDS, TAMVT_MOBILE, TAMVT_R50, build
from model.networks.tamvt.config import ModelConfig
from model.networks.tamvt.model import Bank, TamVT, soft_masks

SIZE = (64, 96)

# The first layer's states are zero, so what its self-attention reads is its bias alone.
UNREAD = "mask_decoder.layers.0.self_attention.in_proj_weight"


def frames_of(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8)


def remember(model: TamVT, count: int, *, objects: int, size: tuple[int, int] = SIZE) -> Bank:
    """A bank (1, N, ...) of random frames and masks."""
    seen = model.look(model.normalize(frames_of(count, size)))
    entries = model.memorize(seen, torch.rand(count, objects, *size))
    return Bank(*(tensor[None] for tensor in entries))


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def of_object(bank: Bank, index: int) -> Bank:
    return bank._replace(
        value_s32=bank.value_s32[:, :, [index]], value_s16=bank.value_s16[:, :, [index]]
    )


def ages(count: int) -> Tensor:
    """The ages (1, N) of a memory in order, the reference first."""
    return torch.arange(count - 1, -1, -1)[None]


@torch.inference_mode()
def segment(model: TamVT, frames: Tensor, bank: Bank, age: Tensor) -> Tensor:
    """Logits (B, L, O, h, w) of frames (B * L, H, W, 3)."""
    seen = model.look(model.normalize(frames))
    return model.segment(seen, bank, model.recency(age))[-1]


def test_two_objects_are_two_runs_of_one(mobile_model: TamVT) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 3, objects=2)
    frames = frames_of(2)
    together = segment(mobile_model, frames, bank, ages(3))
    assert together.shape == (1, 2, 2, 16, 24)
    for index in range(2):
        alone = segment(mobile_model, frames, of_object(bank, index), ages(3))
        assert_near(together[:, :, [index]], alone)
    assert (together[:, :, 0] - together[:, :, 1]).abs().max() > 0.01


def test_objects_are_memorized_one_by_one(mobile_model: TamVT) -> None:
    with torch.inference_mode():
        seen = mobile_model.look(mobile_model.normalize(frames_of(1)))
        masks = torch.rand(1, 2, *SIZE)
        together = mobile_model.memorize(seen, masks)
        alone = mobile_model.memorize(seen, masks[:, 1:])
    assert_near(together.value_s16[:, 1:], alone.value_s16)
    assert_near(together.key_s32, alone.key_s32)


def test_empty_slots_make_no_difference(mobile_model: TamVT) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 3, objects=2)
    frames = frames_of(2)
    order = torch.tensor([0, 2, 1])  # slot 1 was taken again by the newest entry
    noise = Bank(*(torch.randn_like(tensor[:, :2]) for tensor in bank))
    wide = Bank(*(torch.cat((a[:, order], b), dim=1) for a, b in zip(bank, noise, strict=True)))
    age = torch.cat((ages(3)[:, order], torch.tensor([[-1, -1]])), dim=1)
    assert_near(
        segment(mobile_model, frames, wide, age),
        segment(mobile_model, frames, bank, ages(3)),
    )


def test_sessions_in_one_batch_do_not_see_each_other(mobile_model: TamVT) -> None:
    with torch.inference_mode():
        banks = [remember(mobile_model, 3, objects=2) for _ in range(2)]
    frames = frames_of(4)
    age = torch.tensor([[2, 1, 0], [1, 0, -1]])
    both = Bank(*(torch.cat(pair) for pair in zip(*banks, strict=True)))
    together = segment(mobile_model, frames, both, age)
    for index in range(2):
        part = frames[2 * index : 2 * index + 2]
        alone = segment(mobile_model, part, banks[index], age[index : index + 1])
        assert_near(together[index : index + 1], alone)


def test_the_age_of_an_entry_matters(mobile_model: TamVT) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 3, objects=1)
    frames = frames_of(2)
    swapped = torch.tensor([[2, 0, 1]])
    ordered = segment(mobile_model, frames, bank, ages(3))
    apart = ordered - segment(mobile_model, frames, bank, swapped)
    assert apart.abs().max() > 1e-4


def test_a_clip_may_be_shorter(mobile_model: TamVT) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 2, objects=1)
    assert segment(mobile_model, frames_of(1), bank, ages(2)).shape == (1, 1, 1, 16, 24)


@pytest.mark.parametrize("name", ["published_model", "mobile_model"])
def test_any_size_works(name: str, request: pytest.FixtureRequest) -> None:
    model: TamVT = request.getfixturevalue(name)
    size = (90, 150)
    with torch.inference_mode():
        bank = remember(model, 2, objects=2, size=size)
    hidden = model.config.hidden
    assert bank.key_s32.shape == (1, 2, 3 * 5, hidden)
    assert bank.value_s16.shape == (1, 2, 2, 6 * 10, hidden)
    logits = segment(model, frames_of(2, size), bank, ages(2))
    assert logits.shape == (1, 2, 2, 23, 38)
    assert logits.isfinite().all()
    assert soft_masks(logits, size).shape == (1, 2, 2, *size)


def test_soft_masks_are_probabilities() -> None:
    logits = torch.tensor([-100.0, 0.0, 100.0]).repeat_interleave(4).view(1, 1, 3, 2, 2)
    soft = soft_masks(logits, (5, 7))
    assert soft.shape == (1, 1, 3, 5, 7)
    assert_near(soft[0, 0, :, 2, 3], torch.tensor([0.0, 0.5, 1.0]))


def test_the_picture_is_normalized_inside() -> None:
    model = build(TAMVT_MOBILE)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 1, 3)
    images = model.normalize(black_and_white)
    assert images.shape == (2, 3, 1, 1)
    assert images.flatten(1).tolist() == [[-1.0] * 3, [1.0] * 3]


@pytest.mark.parametrize("config", [TAMVT_R50, TAMVT_MOBILE], ids=lambda config: config.name)
def test_every_parameter_that_is_trained_gets_a_gradient(
    config: ModelConfig, request: pytest.FixtureRequest
) -> None:
    """The gradient also flows through what the memory holds."""
    name = {"tamvt-r50": "published_model", "tamvt-mobile": "mobile_model"}[config.name]
    assert unlearned(copy.deepcopy(request.getfixturevalue(name))) == {UNREAD}


@pytest.mark.parametrize("config", ABLATIONS, ids=lambda config: config.name)
def test_every_parameter_of_an_ablation_gets_a_gradient(config: ModelConfig) -> None:
    assert unlearned(build(config)) == {UNREAD}


def unlearned(model: TamVT) -> set[str]:
    """Parameters that are trained and get no gradient from one clip; frozen ones get none."""
    model.train()
    for parameter in model.parameters():  # a bias of zero would hide the weight behind it
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    seen = model.look(model.normalize(frames_of(4)))
    entries = model.memorize(seen.at(slice(0, 2)), torch.rand(2, 1, *SIZE))
    bank = Bank(*(tensor[None] for tensor in entries))
    frames = seen.at(slice(2, 4))
    layers = model.segment(frames, bank, model.recency(ages(2)), every_layer=True)
    torch.stack(layers).square().mean().backward()
    trained = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    learns = {key for key, grad in trained.items() if grad is not None and grad.abs().max() > 0}
    assert all(p.grad is None for key, p in model.named_parameters() if key not in trained)
    return set(trained) - learns


def test_with_one_scale_an_entry_has_no_tokens_at_stride_16() -> None:
    model = build(next(config for config in ABLATIONS if config.scales == 1)).eval()
    with torch.inference_mode():
        bank = remember(model, 2, objects=2)
    assert bank.key_s32.shape == (1, 2, 2 * 3, 128)
    assert bank.key_s16.shape == (1, 2, 0, 128)
    assert bank.value_s16.shape == (1, 2, 2, 0, 128)
    assert segment(model, frames_of(2), bank, ages(2)).shape == (1, 2, 2, 16, 24)


@pytest.mark.parametrize("name", ["tamvt-mobile-without-time", "tamvt-mobile-additive-time"])
def test_a_fresh_time_encoding_changes_nothing(name: str) -> None:
    ours, theirs = build(TAMVT_MOBILE).eval(), build(BUILDS[name]).eval()
    kept = {key: value for key, value in ours.state_dict().items() if key != "time.table"}
    theirs.load_state_dict(kept, strict=False)
    with torch.inference_mode():
        bank = remember(ours, 3, objects=1)
    frames = frames_of(2)
    assert_near(segment(theirs, frames, bank, ages(3)), segment(ours, frames, bank, ages(3)))


def test_what_is_added_for_an_entry_s_age_matters() -> None:
    model = build(BUILDS["tamvt-mobile-additive-time"]).eval()
    with torch.inference_mode():
        bank = remember(model, 3, objects=1)
    frames = frames_of(2)
    before = segment(model, frames, bank, ages(3))
    model.get_parameter("time.table").data.normal_(std=2.0)
    assert (segment(model, frames, bank, ages(3)) - before).abs().max() > 1e-4
