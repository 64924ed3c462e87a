"""The command `tamvt-model calibrate loop`: fits how the closed loop runs, and keeps it.

It tracks clips of the yardstick with several biases (`model.core.loop_bias`) and memory sizes, and
writes the best into the checkpoint, where it is better than no bias beyond chance. What is exported
from the checkpoint then carries it. The confidence is calibrated afterwards, on those graphs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from cyclopts import Parameter, Token
from tqdm import tqdm

from model.commands.machine import describe_machine
from model.commands.options import (
    SEVERAL,
    SPACED,
    Data,
    Numbers,
    allow_only,
    choose_data_folder,
    split_words,
)
from model.core.loop_bias import LARGEST, NO_BIAS, LoopBias
from model.core.memory import MAX_CAPACITY
from model.data.yardstick import SETS, HardClip, make_clips, make_extra_clips, open_stock
from model.evaluation.yardstick import paired_interval, score_clip
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import TrackingNetwork
from model.networks.registry import build_network
from model.training import checkpoints
from model.training.checkpoints import load_strictly
from model.training.errors import SettingsError

EXTRA = "extra"
FITTED_SETS = tuple(name for name in SETS if name != "long")

Clips = Mapping[str, Sequence[HardClip]]  # of each set


def split_biases(_type: object, tokens: Sequence[Token]) -> tuple[float, ...]:
    """Return `0,0.5` as a tuple; raise ValueError for what is no bias."""
    biases = tuple(float(word) for word in split_words(_type, tokens))
    if not all(abs(bias) <= LARGEST for bias in biases):
        raise ValueError(f"a bias is at most {LARGEST}")
    return biases


Biases = Annotated[
    tuple[float, ...],
    Parameter(
        n_tokens=1,
        converter=split_biases,
        show_default=lambda values: ",".join(f"{value:g}" for value in values),
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class LoopArguments:
    """The options of `tamvt-model calibrate loop`."""

    sets: Annotated[
        tuple[str, ...],
        SEVERAL,
        SPACED,
        Parameter(
            validator=allow_only((*SETS, EXTRA)),
            help="whose clips are tracked: the yardstick's, and the `extra` videos",
        ),
    ] = FITTED_SETS
    clips: Annotated[int | None, Parameter(help="of each set at most so many (all)")] = None
    memory_biases: Annotated[Biases, Parameter(help="added to what is remembered")] = (0.0, 0.5)
    answer_biases: Annotated[Biases, Parameter(help="added to what is answered")] = (0.0, 0.5)
    together: Annotated[
        bool, Parameter(help="only try equal biases: what is answered is what is remembered")
    ] = False
    memory_sizes: Annotated[Numbers, Parameter(help="N; the build's own is always tried")] = (3, 5)
    data: Data = None
    threads: Annotated[int | None, Parameter(help="of PyTorch (default: one a core)")] = None


BY_DEFAULT = LoopArguments()


class LoopSetting(NamedTuple):
    """One way to run the loop."""

    bias: LoopBias
    memory_size: int

    def __str__(self) -> str:
        """Return it in words."""
        return f"memory {self.bias.memory:+g}, answer {self.bias.answer:+g}, N = {self.memory_size}"


def run(
    _what: Annotated[Literal["loop"], Parameter(name="WHAT", help="how the closed loop runs")],
    checkpoint: Annotated[Path, Parameter(help="checkpoint of a training; it is written")],
    /,
    *,
    args: LoopArguments = BY_DEFAULT,
) -> int:
    """Score every setting, print the table, and write the best into the checkpoint; return 0."""
    torch.set_num_threads(args.threads or os.cpu_count() or 1)
    with checkpoints.locked(checkpoint.parent):
        state = checkpoints.read(checkpoint, torch.device("cpu"), needed=("build", "model"))
        network = build_network(state["build"])
        load_strictly(network, state["model"], checkpoint)
        clips = open_clips(choose_data_folder(args.data), args.sets, count=args.clips)
        as_it_is = LoopSetting(NO_BIAS, network.config.memory_size)
        settings = list_settings(args, as_it_is)
        scores = score_settings(network, clips, settings)
        best = choose_setting(scores, as_it_is)
        print(settings_table(scores, as_it_is, clips))
        print(f"\n{describe_machine('cpu', threads=torch.get_num_threads())}\n{checkpoint}: {best}")
        loop = {**asdict(best.bias), "memory_size": best.memory_size}
        checkpoints.write({**state, "loop": loop}, checkpoint)
    return 0


def open_clips(data: Path, sets: Sequence[str], *, count: int | None) -> Clips:
    """Make the clips of each set, at most `count`; raise DataError where data are missing."""
    stock = open_stock(data)
    made = {
        name: make_extra_clips(data) if name == EXTRA else make_clips(stock, name) for name in sets
    }
    return {name: list(islice(clips, count)) for name, clips in made.items()}


def list_settings(args: LoopArguments, as_it_is: LoopSetting) -> list[LoopSetting]:
    """Return what is to be tried, the loop as it is first; raise SettingsError for no loop's N."""
    if not all(1 <= size <= MAX_CAPACITY for size in args.memory_sizes):
        raise SettingsError(f"memory sizes {args.memory_sizes} are not in 1..{MAX_CAPACITY}")
    sizes = dict.fromkeys((*args.memory_sizes, as_it_is.memory_size))
    biases = [
        LoopBias(answer, memory)
        for memory, answer in product(args.memory_biases, args.answer_biases)
        if memory == answer or not args.together
    ]
    tried = (LoopSetting(bias, size) for size, bias in product(sizes, biases))
    return list(dict.fromkeys((as_it_is, *tried)))


def score_settings(
    network: TrackingNetwork, clips: Clips, settings: Sequence[LoopSetting]
) -> dict[LoopSetting, list[float]]:
    """Return J of every clip, set by set, with each setting of the loop."""
    served = prepare_serving(network)
    flat = [clip for group in clips.values() for clip in group]
    scores = {}
    for setting in tqdm(settings, unit="setting", leave=False):
        served.config = replace(served.config, loop_bias=setting.bias)
        runtime = TorchRuntime(served, describe(served, "0" * 64))
        scores[setting] = [
            score_clip(runtime, clip, memory_size=setting.memory_size).j for clip in flat
        ]
    return scores


def choose_setting(
    scores: Mapping[LoopSetting, Sequence[float]], as_it_is: LoopSetting
) -> LoopSetting:
    """Return the setting with the highest mean J, or `as_it_is` where that is no more than chance.

    It is more where the whole interval of a paired bootstrap over the clips lies above 0.
    """
    best = max(scores, key=lambda setting: float(np.mean(scores[setting])))
    _, low, _ = paired_interval(scores[as_it_is], scores[best])
    return best if low > 0 else as_it_is


def settings_table(
    scores: Mapping[LoopSetting, Sequence[float]], as_it_is: LoopSetting, clips: Clips
) -> str:
    """Return J of every setting in percent, in all and by set, with the gain over `as_it_is`."""
    ends = np.cumsum([len(group) for group in clips.values()])[:-1]
    lines = [
        f"| loop | J | gain (95 %) | {' | '.join(clips)} |",
        "|---|" + "---:|" * (len(clips) + 2),
    ]
    for setting, found in scores.items():
        mean, low, high = (100 * end for end in paired_interval(scores[as_it_is], found))
        gain = "" if setting == as_it_is else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
        means = [np.mean(found), *(np.mean(part) for part in np.split(np.array(found), ends))]
        whole, *parts = (f"{100 * float(value):.1f}" for value in means)
        lines.append(f"| {' | '.join((str(setting), whole, gain, *parts))} |")
    return "\n".join(lines)
