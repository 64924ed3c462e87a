"""The whole model: objects and sessions do not disturb each other, and every size works.

B sessions, L frames of a clip, N entries, O objects, H and W the input's size.
"""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.networks.base import Bank, TrackingNetwork, soft_masks, take_frames
from model.networks.registry import build_network
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.builds import ABLATIONS, TAMVT_MOBILE, TAMVT_R50
from model.networks.tamvt.config import TamvtConfig

SIZE = (64, 96)

# The first layer's states are zero, so what its self-attention reads is its bias alone.
UNREAD = "mask_decoder.layers.0.self_attention.in_proj_weight"


def frames_of(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8)


def remember(
    model: TrackingNetwork, count: int, *, objects: int, size: tuple[int, int] = SIZE
) -> Bank:
    """A bank (1, N, ...) of random frames and masks, the reference first."""
    seen = model.encode_frames(model.normalize(frames_of(count, size)))
    entries, _ = model.memorize(seen, torch.rand(count, objects, *size))
    return Bank({name: tensor[None] for name, tensor in entries.items()}, ages(count))


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def of_object(bank: Bank, index: int) -> Bank:
    tensors = {
        name: tensor[:, :, [index]] if name.startswith("value") else tensor
        for name, tensor in bank.tensors.items()
    }
    return replace(bank, tensors=tensors)


def ages(count: int) -> Tensor:
    """The ages (1, N) of a memory in order, the reference first."""
    return torch.arange(count - 1, -1, -1)[None]


@torch.inference_mode()
def segment(model: TrackingNetwork, frames: Tensor, bank: Bank, age: Tensor) -> Tensor:
    """Logits (B, L, O, h, w) of frames (B * L, H, W, 3)."""
    features = model.encode_frames(model.normalize(frames))
    present = None if bool((age >= 0).all()) else age >= 0
    return model.segment(features, replace(bank, age=age, present=present)).logits[-1]


def test_two_objects_are_two_runs_of_one(mobile_model: TrackingNetwork) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 3, objects=2)
    frames = frames_of(2)
    together = segment(mobile_model, frames, bank, ages(3))
    assert together.shape == (1, 2, 2, 16, 24)
    for index in range(2):
        alone = segment(mobile_model, frames, of_object(bank, index), ages(3))
        assert_near(together[:, :, [index]], alone)
    assert (together[:, :, 0] - together[:, :, 1]).abs().max() > 0.01


def test_objects_are_memorized_one_by_one(mobile_model: TrackingNetwork) -> None:
    with torch.inference_mode():
        seen = mobile_model.encode_frames(mobile_model.normalize(frames_of(1)))
        masks = torch.rand(1, 2, *SIZE)
        together = mobile_model.memorize(seen, masks).entry
        alone = mobile_model.memorize(seen, masks[:, 1:]).entry
    assert_near(together["value_s16"][:, 1:], alone["value_s16"])
    assert_near(together["key_s32"], alone["key_s32"])


def test_empty_slots_make_no_difference(mobile_model: TrackingNetwork) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 3, objects=2)
    frames = frames_of(2)
    order = torch.tensor([0, 2, 1])  # slot 1 was taken again by the newest entry
    age = torch.cat((ages(3)[:, order], torch.tensor([[-1, -1]])), dim=1)
    tensors = {
        name: torch.cat((tensor[:, order], torch.randn_like(tensor[:, :2])), dim=1)
        for name, tensor in bank.tensors.items()
    }
    wide = Bank(tensors, age)
    assert_near(
        segment(mobile_model, frames, wide, age),
        segment(mobile_model, frames, bank, ages(3)),
    )


def test_sessions_in_one_batch_do_not_see_each_other(mobile_model: TrackingNetwork) -> None:
    with torch.inference_mode():
        banks = [remember(mobile_model, 3, objects=2) for _ in range(2)]
    frames = frames_of(4)
    age = torch.tensor([[2, 1, 0], [1, 0, -1]])
    tensors = {n: torch.cat([bank.tensors[n] for bank in banks]) for n in banks[0].tensors}
    both = Bank(tensors, age)
    together = segment(mobile_model, frames, both, age)
    for index in range(2):
        part = frames[2 * index : 2 * index + 2]
        alone = segment(mobile_model, part, banks[index], age[index : index + 1])
        assert_near(together[index : index + 1], alone)


def test_the_age_of_an_entry_matters(mobile_model: TrackingNetwork) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 3, objects=1)
    frames = frames_of(2)
    swapped = torch.tensor([[2, 0, 1]])
    ordered = segment(mobile_model, frames, bank, ages(3))
    apart = ordered - segment(mobile_model, frames, bank, swapped)
    assert apart.abs().max() > 1e-4


def test_a_clip_may_be_shorter(mobile_model: TrackingNetwork) -> None:
    with torch.inference_mode():
        bank = remember(mobile_model, 2, objects=1)
    assert segment(mobile_model, frames_of(1), bank, ages(2)).shape == (1, 1, 1, 16, 24)


@pytest.mark.parametrize("name", ["published_model", "mobile_model"])
def test_any_size_works(name: str, request: pytest.FixtureRequest) -> None:
    model: TrackingNetwork = request.getfixturevalue(name)
    size = (90, 150)
    with torch.inference_mode():
        bank = remember(model, 2, objects=2, size=size)
    assert bank.tensors["key_s32"].shape == (1, 2, 3 * 5, model.bank_tensors[0].channels)
    assert bank.tensors["value_s16"].shape == (1, 2, 2, 6 * 10, model.bank_tensors[3].channels)
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
    model = build_tamvt(TAMVT_MOBILE)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 1, 3)
    images = model.normalize(black_and_white)
    assert images.shape == (2, 3, 1, 1)
    assert images.flatten(1).tolist() == [[-1.0] * 3, [1.0] * 3]


@pytest.mark.parametrize("config", [TAMVT_R50, TAMVT_MOBILE], ids=lambda config: config.name)
def test_every_parameter_that_is_trained_gets_a_gradient(
    config: TamvtConfig, request: pytest.FixtureRequest
) -> None:
    """The gradient also flows through what the memory holds."""
    name = {"tamvt-r50": "published_model", "tamvt-mobile": "mobile_model"}[config.name]
    assert unlearned(copy.deepcopy(request.getfixturevalue(name))) == {UNREAD}


@pytest.mark.parametrize("config", ABLATIONS, ids=lambda config: config.name)
def test_every_parameter_of_an_ablation_gets_a_gradient(config: TamvtConfig) -> None:
    assert unlearned(build_tamvt(config)) == {UNREAD}


def unlearned(model: TrackingNetwork) -> set[str]:
    """Parameters that are trained and get no gradient from one clip; frozen ones get none."""
    model.train()
    for parameter in model.parameters():  # a bias of zero would hide the weight behind it
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    seen = model.encode_frames(model.normalize(frames_of(4)))
    entries, _ = model.memorize(take_frames(seen, slice(0, 2)), torch.rand(2, 1, *SIZE))
    bank = Bank({name: tensor[None] for name, tensor in entries.items()}, ages(2))
    layers = model.segment(take_frames(seen, slice(2, 4)), bank, every_layer=True).logits
    torch.stack(layers).square().mean().backward()
    trained = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    learns = {key for key, grad in trained.items() if grad is not None and grad.abs().max() > 0}
    assert all(p.grad is None for key, p in model.named_parameters() if key not in trained)
    return set(trained) - learns


def test_with_one_scale_a_bank_has_half_the_tensors() -> None:
    model = build_tamvt(next(config for config in ABLATIONS if config.scales == 1)).eval()
    with torch.inference_mode():
        bank = remember(model, 2, objects=2)
    assert bank.tensors["key_s32"].shape == (1, 2, 2 * 3, 128)
    assert list(bank.tensors) == ["key_s32", "value_s32"]
    assert segment(model, frames_of(2), bank, ages(2)).shape == (1, 2, 2, 16, 24)


@pytest.mark.parametrize("name", ["tamvt-mobile-without-time", "tamvt-mobile-additive-time"])
def test_a_fresh_time_encoding_changes_nothing(name: str) -> None:
    ours, theirs = build_tamvt(TAMVT_MOBILE).eval(), build_network(name).eval()
    kept = {key: value for key, value in ours.state_dict().items() if key != "time.table"}
    theirs.load_state_dict(kept, strict=False)
    with torch.inference_mode():
        bank = remember(ours, 3, objects=1)
    frames = frames_of(2)
    assert_near(segment(theirs, frames, bank, ages(3)), segment(ours, frames, bank, ages(3)))


def test_what_is_added_for_an_entry_s_age_matters() -> None:
    model = build_network("tamvt-mobile-additive-time").eval()
    with torch.inference_mode():
        bank = remember(model, 3, objects=1)
    frames = frames_of(2)
    before = segment(model, frames, bank, ages(3))
    model.get_parameter("time.table").data.normal_(std=2.0)
    assert (segment(model, frames, bank, ages(3)) - before).abs().max() > 1e-4
