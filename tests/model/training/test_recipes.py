"""The named recipes say what the paper and the shipped model need, and fit together."""

from pathlib import Path

import pytest

from model.networks.registry import NETWORKS
from model.training.recipes import ABLATION_ROWS, RECIPES, TrainConfig, ablation

DATA = Path("data")
FAMILY = ("tamvt-mobile-equal", "stm-mobile", "qmvos-mobile", "stma-mobile")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_a_build_that_exists(name: str) -> None:
    assert RECIPES[name](DATA).build in NETWORKS


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_plain_values(name: str) -> None:
    values = RECIPES[name](DATA).settings(processes=1).values()
    assert {type(value) for value in values} <= {str, int, float, bool, type(None)}


def test_settings_do_not_depend_on_where_the_data_is() -> None:
    for recipe in RECIPES.values():
        assert recipe(DATA).settings(processes=1) == recipe(Path("other")).settings(processes=1)


def test_the_published_numbers_are_those_of_the_authors() -> None:
    config = RECIPES["tamvt-r50-vost"](DATA)
    published = (config.rate, config.backbone_rate, config.weight_decay, config.gradient_clip)
    assert published == (1e-4, 2e-5, 1e-4, 0.1)
    assert (config.ema, config.loss.kind, config.loss.change) == (0.9998, "published", "area")
    assert (config.samples.frames, config.drops) == (12, (0.4, 0.8))


def test_the_two_stages_are_pictures_then_videos() -> None:
    first, second = RECIPES["tamvt-r50-static"](DATA), RECIPES["tamvt-r50-vost"](DATA)
    assert (first.samples.synthetic_share, second.samples.synthetic_share) == (1.0, 0.0)
    assert second.fresh_time


def test_the_shipped_recipe_is_the_default() -> None:
    config = RECIPES["tamvt-mobile"](DATA)
    assert config == TrainConfig("tamvt-mobile", config.samples, config.backbone_weights)


def test_an_ablation_differs_from_full_in_what_it_is_named_after() -> None:
    full = ablation(DATA, "full").settings(processes=1)
    changed = {
        row: {
            name
            for name, value in ablation(DATA, row).settings(processes=1).items()
            if value != full[name]
        }
        for row in ABLATION_ROWS
    }
    assert changed == {
        "full": set(),
        "without-time": {"build"},
        "additive-time": {"build"},
        "no-reweighting": {"loss.change"},
        "one-scale": {"build"},
        "backbone-masks": {"build"},
        "tau-half": {"loss.tau"},
        "tau-two": {"loss.tau"},
        "components": {"loss.change"},
        "center": {"loss.change"},
        "on-dice": {"loss.weighted"},
        "on-both": {"loss.weighted"},
        "frames-4": {"clips.frames"},
        "frames-9": {"clips.frames"},
        "frames-12": {"clips.frames"},
    }


def test_all_ablations_take_as_many_steps() -> None:
    assert len({ablation(DATA, row).steps for row in ABLATION_ROWS}) == 1


def test_the_family_is_trained_on_the_same_samples_for_as_long() -> None:
    configs = [RECIPES[name](DATA) for name in FAMILY]
    assert len({config.samples for config in configs}) == 1
    assert {(config.steps, config.samples.crop) for config in configs} == {(1_000, 192)}
    differing = {
        name
        for config in configs
        for name, value in config.settings(processes=1).items()
        if value != configs[0].settings(processes=1)[name]
    }
    assert differing == {"build", "loop.keep_every", "loop.memory_size"}


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1"):
        TrainConfig("tamvt-mobile", RECIPES["smoke"](DATA).samples, None, steps=0)
