"""Named builds, and checkpoints that load completely or not at all."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.networks.base import NetworkError, count_parameters
from model.networks.registry import NETWORKS, build_network
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.builds import TAMVT_MOBILE, TAMVT_R50
from model.networks.tamvt.model import TamVT
from model.networks.tamvt.published_keys import rename_key
from model.networks.weights import WeightsError, load_weights

Checkpoint = dict[str, Tensor]


def test_builds_are_known_by_their_names() -> None:
    assert all(name == each.config.name for name, each in NETWORKS.items())
    assert NETWORKS["tamvt-r50"].config == TAMVT_R50
    assert NETWORKS["tamvt-mobile"].config == TAMVT_MOBILE


# Counted from the parts: hidden width 128, so a projection of c channels is 128 c + 128 numbers.
PROJECTION = {channels: 128 * channels + 128 for channels in (96, 320)}
MATCHING = 4 * 128 * 128 + 2 * 2 * 128
STEM = 890_256  # numbers of the stem that encodes masks


@pytest.mark.parametrize(
    ("name", "less"),
    [
        ("tamvt-mobile-without-time", 45),
        ("tamvt-mobile-additive-time", 0),
        ("tamvt-mobile-one-scale", PROJECTION[96] + MATCHING),
        ("tamvt-mobile-backbone-masks", STEM - PROJECTION[96] - PROJECTION[320]),
    ],
)
def test_an_ablation_lacks_what_it_is_named_after(name: str, less: int) -> None:
    whole = count_parameters(build_tamvt(TAMVT_MOBILE))
    assert count_parameters(build_network(name)) == whole - less


def test_the_switches_leave_the_shipped_model_as_it_was() -> None:
    assert count_parameters(build_tamvt(TAMVT_MOBILE)) == 4_322_045


def test_every_key_of_the_authors_has_one_place(
    published_model: TamVT, published_checkpoint: Checkpoint
) -> None:
    names = [rename_key(key) for key in published_checkpoint]
    used = [name for name in names if name is not None]
    assert set(used) == set(published_model.state_dict())
    twins = {name for name in used if used.count(name) == 2}
    assert twins == {f"matching_s{s}.norm.{part}" for s in (32, 16) for part in ("weight", "bias")}


def test_what_the_authors_never_use_is_left_out() -> None:
    for key in ("query_embed.text.weight", "bbox_embed.layers.0.weight"):
        assert rename_key(key) is None


@pytest.mark.parametrize(
    "key",
    [
        "transformer.encoder.matching.2.fc_q.weight",
        "transformer.encoder.matching.0.fc_x.weight",
        "transformer.pixel_decoder.adapter_5.weight",
        "transformer.pixel_decoder.bridge_1.weight",
        "transformer.decoder.layers.0.norm2.weight",
        "transformer.decoder.layers.0.norm1",
        "transformer.decoder.layers",
        "text_encoder.weight",
    ],
)
def test_an_unknown_key_is_named(
    published_model: TamVT, published_checkpoint: Checkpoint, key: str
) -> None:
    with pytest.raises(NetworkError, match=re.escape(key)):
        published_model.rename_published(published_checkpoint | {key: torch.zeros(1)})


def test_a_key_without_a_place_is_named(
    published_model: TamVT, published_checkpoint: Checkpoint
) -> None:
    extra = {"backbone.0.body.fc.weight": torch.zeros(1)}
    with pytest.raises(NetworkError, match=r"'backbone\.fc\.weight' has no place in tamvt-r50"):
        published_model.rename_published(published_checkpoint | extra)


def test_a_missing_key_is_named(published_model: TamVT, published_checkpoint: Checkpoint) -> None:
    kept = {k: v for k, v in published_checkpoint.items() if k != "input_proj.res4.bias"}
    with pytest.raises(NetworkError, match=r"no key for 'project_s16\.bias'"):
        published_model.rename_published(kept)


def test_a_time_table_of_another_size_is_refused(
    published_model: TamVT, published_checkpoint: Checkpoint
) -> None:
    table = {"transformer.encoder.rel_time_theta.weight": torch.ones(28, 1)}
    with pytest.raises(NetworkError, match=r"'time\.table': checkpoint has shape \(28,\)"):
        published_model.rename_published(published_checkpoint | table)


def test_twins_that_differ_are_refused(
    published_model: TamVT, published_checkpoint: Checkpoint
) -> None:
    twin = "transformer.encoder.matching.1.pre_ln_k.weight"
    with pytest.raises(NetworkError, match=re.escape(twin)):
        published_model.rename_published(published_checkpoint | {twin: torch.zeros(256)})


def test_a_refused_checkpoint_changes_nothing(
    published_model: TamVT, published_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    before = published_model.get_parameter("project_s16.weight").clone()
    other = {"input_proj.res4.weight": torch.zeros(256, 1024, 1, 1), "surplus": torch.zeros(1)}
    torch.save({"model": published_checkpoint | other}, tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match="surplus"):
        load_weights(published_model, tmp_path / "theirs.pth")
    assert torch.equal(published_model.get_parameter("project_s16.weight"), before)


def test_our_own_weights_come_back(mobile_model: TamVT, tmp_path: Path) -> None:
    for name, content in (
        ("weights.pt", mobile_model.state_dict()),
        ("checkpoint.pt", {"model": mobile_model.state_dict(), "step": 3}),
    ):
        torch.save(content, tmp_path / name)
        model = build_tamvt(TAMVT_MOBILE)
        load_weights(model, tmp_path / name)
        assert all(
            torch.equal(ours, theirs)
            for ours, theirs in zip(
                model.state_dict().values(), mobile_model.state_dict().values(), strict=True
            )
        )


def test_weights_of_another_build_are_refused(mobile_model: TamVT, tmp_path: Path) -> None:
    state = mobile_model.state_dict()
    del state["time.table"]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"weights\.pt does not fit tamvt-mobile: .*time\.table"):
        load_weights(build_tamvt(TAMVT_MOBILE), tmp_path / "weights.pt")


def test_the_time_encoding_starts_neutral() -> None:
    assert set(build_tamvt(TAMVT_MOBILE).get_parameter("time.table").tolist()) == {1.0}
    assert set(
        build_network("tamvt-mobile-additive-time").get_parameter("time.table").tolist()
    ) == {0.0}


def test_only_the_paper_s_stem_is_frozen(published_model: TamVT) -> None:
    frozen = [name for name, p in published_model.named_parameters() if not p.requires_grad]
    assert {name.split(".")[1] for name in frozen} == {"conv1", "layer1"}
    assert all(name.startswith("backbone.") for name in frozen)
    assert TAMVT_R50.dropout == 0.1
