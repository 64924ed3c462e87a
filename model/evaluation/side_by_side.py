"""Several models side by side: what they score, what a frame costs, and whether one is better.

All are scored on the same videos and clips, and timed in turns in one run.

L frames of a clip, N entries, O objects, H and W the size.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from model.evaluation.figures import WIDTH, hide_frame, render_svg
from model.evaluation.runtime import Runtime, Tensors, stack_entries
from model.evaluation.tracker import begin_state
from model.evaluation.yardstick import paired_interval

WARM_UPS = 2
TIMED_OBJECTS = (1, 3)
COLORS = ("#0b63ce", "#c2410c", "#15803d", "#7e22ce", "#0e7490", "#a16207")


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """What was measured of one model.

    `scores` are J of each object of `dev` and of each clip of the yardstick's sets, by set; `dev`
    are the means of j, f and j_tr. `frame_ms` and `macs` go by the number of objects; without a
    build of that name nothing is counted.
    """

    name: str
    weights: str
    entry_bytes: int  # of one object
    scores: Mapping[str, Sequence[float]]
    dev: Mapping[str, float]
    frame_ms: Mapping[int, float]
    macs: Mapping[int, int] = field(default_factory=dict)
    parameters: int | None = None

    @property
    def all_scores(self) -> list[float]:
        """Return every J, set by set."""
        return [j for found in self.scores.values() for j in found]


def time_frames(runtimes: Mapping[str, Runtime], *, objects: int, rounds: int) -> dict[str, float]:
    """Return milliseconds of one frame of each model, with a full memory: medians of `rounds`.

    They are timed in turns, so that a disturbance meets all. A clip of the usual length is shared
    out among its frames, with its entry; where `memorize` makes entries, a frame pays its share.
    """
    steps = {name: make_steps(runtime, objects=objects) for name, runtime in runtimes.items()}
    taken: dict[str, list[list[float]]] = {name: [[] for _ in each] for name, each in steps.items()}
    for number in range(WARM_UPS + rounds):
        for name, parts in steps.items():
            for (run, share), times in zip(parts, taken[name], strict=True):
                start = time.perf_counter()
                run()
                if number >= WARM_UPS:
                    times.append(1000 * share * (time.perf_counter() - start))
    return {name: sum(map(statistics.median, times)) for name, times in taken.items()}


def make_steps(runtime: Runtime, *, objects: int) -> list[tuple[Callable[[], Tensors], float]]:
    """Return what a session runs, each with its share in one frame."""
    spec = runtime.spec
    size, length, slots = spec.buckets.sizes[0], spec.clip_length, spec.memory_size
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (1, length, *size, 3), dtype=np.uint8)
    masks = random.integers(0, 256, (1, objects, *size), dtype=np.uint8)
    state = begin_state(spec, size, objects=objects)
    remembered = {"frame": frames[:, 0], "masks": masks, **state}
    made = runtime.memorize(remembered)
    entry = {tensor.name: made[tensor.name] for tensor in spec.bank}
    inputs = {
        "frames": frames,
        **stack_entries([entry] * slots),
        **state,
        "age": np.arange(slots, dtype=np.int32)[None],
        "entry_valid": np.ones((1, objects, slots), np.bool_),
    }
    steps = [(lambda: runtime.segment(inputs), 1 / length)]
    if spec.entry_by == "memorize":
        steps.append((lambda: runtime.memorize(remembered), 1 / spec.retention.every))
    return steps


def comparison_table(models: Sequence[ComparedModel]) -> str:
    """Return one row for each model as a Markdown table; J, F and J_tr in percent.

    The gain is over the first model, with the interval of a paired bootstrap over all objects and
    clips: one that holds 0 is none.
    """
    titles = [
        *("model", "J", "F", "J_tr", "J of hard clips", "gain of J (95 %)"),
        *("frames/s, 1 object", "3 objects", "GMAC, 1 object", "3 objects"),
        *("entry, kB", "parameters, M"),
    ]
    lines = [f"| {' | '.join(titles)} |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for model in models:
        hard = [j for name, found in model.scores.items() if name != "dev" for j in found]
        gain = ""
        if model is not models[0]:
            mean, low, high = paired_interval(models[0].all_scores, model.all_scores)
            gain = f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        counted = "" if model.parameters is None else f"{model.parameters / 1e6:.1f}"
        cells = [
            model.name,
            *(f"{100 * model.dev[name]:.1f}" if model.dev else "" for name in ("j", "f", "j_tr")),
            f"{100 * statistics.fmean(hard):.1f}" if hard else "",
            gain,
            *(f"{1000 / model.frame_ms[count]:.0f}" for count in TIMED_OBJECTS),
            *(f"{model.macs[count] / 1e9:.1f}" if model.macs else "" for count in TIMED_OBJECTS),
            f"{model.entry_bytes / 1000:.0f}",
            counted,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_comparison(models: Sequence[ComparedModel]) -> str:
    """Return quality against milliseconds of a frame as SVG.

    Each model is a line from one object to three, at J of all that was scored, in percent.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    best_first = sorted(models, key=lambda model: -statistics.fmean(model.all_scores))
    for number, model in enumerate(best_first):
        quality, color = 100 * statistics.fmean(model.all_scores), COLORS[number % len(COLORS)]
        times = [model.frame_ms[count] for count in TIMED_OBJECTS]
        axes.plot(times, [quality] * len(times), color=color, linewidth=1.5)
        for milliseconds, count in zip(times, TIMED_OBJECTS, strict=True):
            filled = color if count == TIMED_OBJECTS[0] else "white"
            axes.plot(milliseconds, quality, "o", color=color, markerfacecolor=filled)
        above = number % 2 == 0  # so that names of equals do not lie on each other
        axes.annotate(
            model.name,
            (times[0], quality),
            (0, 7 if above else -7),
            textcoords="offset points",
            verticalalignment="bottom" if above else "top",
            color=color,
        )
    axes.set(xlabel="milliseconds a frame: filled 1 object, open 3 objects", ylabel="J, percent")
    axes.set_xlim(left=0)
    axes.margins(y=0.25)
    axes.grid(color="#dde2e7")
    hide_frame(axes)
    return render_svg(figure, name="comparison")


def write_comparison(folder: Path, models: Sequence[ComparedModel], *, about: str) -> None:
    """Write `compare.md`, `compare.svg` and `compare.json` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.md").write_text(f"{comparison_table(models)}\n\n{about}\n", encoding="utf-8")
    (folder / "compare.svg").write_text(draw_comparison(models) + "\n", encoding="utf-8")
    kept = {"about": about, "models": [asdict(model) for model in models]}
    (folder / "compare.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
