"""The command `tamvt-model compare`: several models on the same videos, one table and one plot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from tqdm import tqdm

from model.commands.machine import processor
from model.commands.options import SEVERAL, SPACED, Data, Positive, allow_only, choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS, Measured, ModelSpec
from model.data.errors import DataError
from model.data.layouts import VideoSet
from model.data.yardstick import SETS, HardClip, make_clips, open_stock
from model.evaluation.results import TrackingResult, today, track_and_score
from model.evaluation.runtime import GraphRuntime
from model.evaluation.side_by_side import (
    TIMED_OBJECTS,
    ComparedModel,
    comparison_table,
    time_frames,
    write_comparison,
)
from model.evaluation.tables import average_measures
from model.evaluation.yardstick import score_clip
from model.export.cost import count_macs
from model.export.graph_export import rewrite_spec
from model.networks.base import count_parameters
from model.networks.registry import NETWORKS, build_network

DEV = "dev"
ALL_SETS = (DEV, *SETS)


@dataclass(frozen=True, slots=True)
class GraphFiles:
    """Where the graphs of a model lie, and the name that it is shown under."""

    shown: str
    folder: Path
    name: str


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class CompareArguments:
    """The options of `tamvt-model compare`."""

    only: Annotated[
        tuple[str, ...], SEVERAL, Parameter(help="names of models (default: all in the folders)")
    ] = ()
    output: Annotated[
        Path | None,
        Parameter(name=("-o", "--output"), help="write compare.md, .svg and .json there"),
    ] = None
    data: Data = None
    sets: Annotated[
        tuple[str, ...],
        SEVERAL,
        SPACED,
        Parameter(validator=allow_only(ALL_SETS), help="`dev`, and sets of the yardstick"),
    ] = ALL_SETS
    rounds: Annotated[Positive, Parameter(help="clips that are timed of each model")] = 15
    threads: Annotated[int, Parameter(help="0: one a core")] = 0
    record: Annotated[
        bool, Parameter(help="write J on `dev` into the graphs, for /v1/models to tell")
    ] = False


BY_DEFAULT = CompareArguments()


def run(
    *folders: Annotated[Path, Parameter(help="folders of graphs (default: the shipped ones)")],
    args: CompareArguments = BY_DEFAULT,
) -> int:
    """Score and time all models, and print the table; the first is what the others gain over."""
    if args.record and DEV not in args.sets:
        raise DataError("--record needs the set dev")
    found = find_graphs(folders or (SHIPPED_WEIGHTS,), args.only)
    runtimes = {
        each.shown: GraphRuntime(each.folder, each.name, threads=args.threads) for each in found
    }
    root = choose_data_folder(args.data)
    on_dev = score_dev(runtimes, root) if DEV in args.sets else {}
    sets = [name for name in args.sets if name != DEV]
    on_clips = score_clips(runtimes, root, sets)
    times = {
        count: time_frames(runtimes, objects=count, rounds=args.rounds) for count in TIMED_OBJECTS
    }
    models = [
        describe(name, runtime.spec, on_dev.get(name), on_clips[name], times)
        for name, runtime in runtimes.items()
    ]
    weights = ", ".join(f"{model.name} {model.weights}" for model in models)
    about = (
        f"A full memory at the first size that is served, ONNX Runtime in fp32, "
        f"{args.threads or 'all'} threads, {processor()}, {today()}. Weights: {weights}."
    )
    print(f"{comparison_table(models)}\n\n{about}")
    if args.output is not None:
        write_comparison(args.output, models, about=about)
    if args.record:
        for each, model in zip(found, models, strict=True):
            record(each, runtimes[each.shown].spec, model)
    return 0


def describe(
    name: str,
    spec: ModelSpec,
    dev: TrackingResult | None,
    on_clips: Mapping[str, Sequence[float]],
    times: Mapping[int, Mapping[str, float]],
) -> ComparedModel:
    """Return what was measured of a model, and what its build says of costs, if there is one."""
    size = spec.buckets.sizes[0]
    own = {} if dev is None else {DEV: [score.scores.j.mean for score in dev.scores]}
    model = ComparedModel(
        name,
        spec.weights_sha256[:12],
        spec.slot_bytes(size, objects=1),
        {**own, **on_clips},
        {} if dev is None else average_measures(dev.scores),
        {count: each[name] for count, each in times.items()},
    )
    if spec.name not in NETWORKS:
        return model
    network = build_network(spec.name).eval()
    macs = {count: count_macs(network, spec, objects=count, size=size) for count in TIMED_OBJECTS}
    return replace(model, macs=macs, parameters=count_parameters(network))


def record(graphs: GraphFiles, spec: ModelSpec, model: ComparedModel) -> None:
    """Write J on `dev` into the graphs, beside what an export has measured."""
    before = spec.measured or Measured(parameters=model.parameters, macs=model.macs.get(1))
    dev_j = round(100 * model.dev["j"], 1)
    rewrite_spec(graphs.folder, graphs.name, measured=replace(before, dev_j=dev_j))


def find_graphs(folders: Sequence[Path], only: Sequence[str]) -> list[GraphFiles]:
    """Return the models in these folders; one whose name is taken is shown with its folder's."""
    found: list[GraphFiles] = []
    for folder in folders:
        names = sorted(
            path.name.removesuffix("_segment.onnx") for path in folder.glob("*_segment.onnx")
        )
        if not names:
            raise DataError(f"there are no graphs in {folder}")
        for name in names:
            taken = any(each.shown == name for each in found)
            shown = f"{folder.resolve().name}/{name}" if taken else name
            found.append(GraphFiles(shown, folder, name))
    if missing := set(only) - {each.name for each in found}:
        raise DataError(f"there are no graphs of {', '.join(sorted(missing))} in the folders")
    return [each for each in found if not only or each.name in only]


def score_dev(runtimes: Mapping[str, GraphRuntime], root: Path) -> dict[str, TrackingResult]:
    """Return what each model scores on the videos of `dev`."""
    videos = VideoSet("shared", root / "video", DEV).open()
    return {name: track_and_score(runtime, videos) for name, runtime in runtimes.items()}


def score_clips(
    runtimes: Mapping[str, GraphRuntime], root: Path, sets: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Return J of each clip by model and set; each clip is made once."""
    scores: dict[str, dict[str, list[float]]] = {
        name: {each: [] for each in sets} for name in runtimes
    }
    stock = open_stock(root) if sets else None
    for each in sets:
        assert stock is not None
        clips: Iterable[HardClip] = make_clips(stock, each)
        for clip in tqdm(clips, desc=each, unit="clip", leave=False):
            for name, runtime in runtimes.items():
                scores[name][each].append(score_clip(runtime, clip).j)
    return scores
