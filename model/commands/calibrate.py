"""The command `tamvt-model calibrate`: fits what tells lost objects, and keeps it with the graphs.

It follows objects that leave and return, and training videos of which most are made hard, with the
exported graphs, and fits a logistic regression to whether each mask is good. `dev` is not looked
at.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray
from tqdm import tqdm

from model.commands.options import Graphs, Model
from model.core.confidence import Calibration
from model.core.contract import SHIPPED_WEIGHTS
from model.data.degradation import make_degraded_videos
from model.data.errors import DataError
from model.data.reappearance import (
    SIZE,
    DataHalf,
    ReappearanceSources,
    make_reappearances,
    open_sources,
)
from model.data.static import Pixels
from model.evaluation.confidence_quality import (
    Observation,
    Quality,
    measure_quality,
    observe_object,
)
from model.evaluation.runtime import GraphRuntime
from model.export.graph_export import rewrite_spec

RIDGE = 1.0  # pulls the weights towards 0, the bias not
STEPS = 50
LEAST_OF_EACH = 20  # frames that are good, and that are not
FIT_HALF: DataHalf = 0

Clip = tuple[str, Sequence[bytes], Pixels]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateArguments:
    """The options of `tamvt-model calibrate`."""

    graphs: Annotated[Graphs, Parameter(help="folder of the graphs; it is written")] = (
        SHIPPED_WEIGHTS
    )
    returning: Annotated[int, Parameter(help="clips of leaving and returning")] = 24
    hard: Annotated[int, Parameter(help="clips of training videos")] = 60
    seed: int = 0
    threads: Annotated[int, Parameter(help="0: one a core")] = 0
    threshold: Annotated[float, Parameter(help="confidence below which an object is lost")] = 0.5
    memory_gate: Annotated[
        bool,
        Parameter(
            negative="--no-memory-gate",
            help="whether sessions, unless they choose, do not remember lost objects",
        ),
    ] = False


BY_DEFAULT = CalibrateArguments()


def run(model: Model = "tamvt-mobile", /, *, args: CalibrateArguments = BY_DEFAULT) -> int:
    """Fit, write both graphs' specs anew, and say how well the fit tells what it was fitted to."""
    runtime = open_runtime(args.graphs, model, threads=args.threads)
    videos = make_videos(open_sources(FIT_HALF), args)
    total = args.returning + args.hard
    observations = [
        each
        for _, images, masks in tqdm(videos, total=total, unit="video", leave=False)
        for each in observe_object(runtime, images, masks, gate=False)
    ]
    try:
        calibration = replace(fit(observations, args.threshold), memory_gate=args.memory_gate)
    except ValueError as error:  # the core's, for a threshold that is none
        raise DataError(str(error)) from error
    spec = rewrite_spec(args.graphs, model, calibration=calibration)
    print(describe_fit(calibration, measure_quality(reclassify(observations, calibration))))
    print(f"{args.graphs}: {spec.name} is calibrated")
    return 0


def open_runtime(folder: Path, name: str, *, threads: int) -> GraphRuntime:
    """Open the graphs of a model; raise DataError if they are not there."""
    if not (folder / f"{name}_segment.onnx").is_file():
        raise DataError(f"there are no graphs of {name} in {folder}")
    return GraphRuntime(folder, name, threads=threads or os.cpu_count() or 1)


def make_videos(sources: ReappearanceSources, args: CalibrateArguments) -> Iterator[Clip]:
    """Yield what a calibration is fitted to; none of it is of a dev video."""
    for clip in make_reappearances(sources, seed=args.seed, count=args.returning):
        yield clip.name, clip.images, clip.masks
    if sources.videos:
        yield from make_degraded_videos(sources.videos, seed=args.seed, count=args.hard, size=SIZE)


def fit(observations: Sequence[Observation], threshold: float) -> Calibration:
    """Return the calibration that fits best; raise DataError where there is too little to fit."""
    known = [each for each in observations if each.features is not None]
    good = np.array([each.good for each in known])
    if min(np.count_nonzero(good), np.count_nonzero(~good)) < LEAST_OF_EACH:
        raise DataError(
            f"{np.count_nonzero(good)} good and {np.count_nonzero(~good)} other masks are too few "
            f"to fit a calibration: make more clips"
        )
    weighed = np.array([each.features for each in known])  # (F, 3)
    bias, sureness, wholeness, size = (round(float(w), 4) for w in fit_logistic(weighed, good))
    return Calibration(bias, sureness, wholeness, size, threshold)


def fit_logistic(values: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return bias and weights (1 + K,): a ridge logistic regression on values (F, K), by Newton."""
    inputs = np.hstack([np.ones((len(values), 1)), values])
    ridge = RIDGE * np.eye(inputs.shape[1])
    ridge[0, 0] = 1e-6
    weights = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        said = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (said - good) + ridge @ weights
        curve = (inputs * (said * (1 - said))[:, None]).T @ inputs + ridge
        weights = weights - np.linalg.solve(curve, slope)
    return weights


def reclassify(observations: Sequence[Observation], calibration: Calibration) -> list[Observation]:
    """Return the same frames as this calibration classifies them."""
    reclassified = []
    for each in observations:
        confidence = 0.0 if each.features is None else calibration.weigh_features(each.features)
        lost = each.features is None or confidence < calibration.threshold
        reclassified.append(replace(each, confidence=confidence, lost=lost))
    return reclassified


def describe_fit(calibration: Calibration, found: Quality) -> str:
    """Return a calibration in words, and how well it tells what it was fitted to."""
    return (
        f"bias {calibration.bias}, sureness {calibration.sureness}, "
        f"wholeness {calibration.wholeness}, size {calibration.size}; "
        f"lost below {calibration.threshold}; "
        f"memory gate {'on' if calibration.memory_gate else 'off'}\n"
        f"{found.frames} frames, {found.not_good} without a good mask: calibration error "
        f"{found.raw_error:.3f} raw, {found.error:.3f} calibrated; lost: precision "
        f"{found.precision:.2f}, recall {found.recall:.2f}"
    )
