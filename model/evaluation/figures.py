"""Figures of scores as SVG, for the report's page.

They are drawn on `Figure` objects of their own, without pyplot: no window, nothing kept.
"""

import io
from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.core.palette import davis_palette
from model.evaluation.scoring import ObjectScore

WIDTH = 7.2  # inches; 72 points each
BAR = 0.24  # height of a bar with the space around it
GRAY = "#5b6670"  # of what explains


def draw_bars(values: Mapping[str, float]) -> str:
    """Return horizontal bars of values from 0 to 1, the first on top, each with its percentage."""
    figure = Figure(figsize=(WIDTH, BAR * len(values) + 0.6), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.barh(list(values), [100 * value for value in values.values()], color="#4878a8")
    axes.bar_label(drawn, fmt="%.1f", padding=4)
    axes.set(xlim=(0, 108), xticks=[], ylim=(len(values) - 0.4, -0.6))
    axes.set_xlabel("J&F, percent", color=GRAY)
    hide_frame(axes)
    return render_svg(figure, name="bars")


def draw_curves(name: str, scores: Sequence[ObjectScore]) -> str:
    """Return J over a video's frames, one line for each object in its color of the masks."""
    figure = Figure(figsize=(WIDTH, 1.8), layout="constrained")
    axes = figure.add_subplot()
    for score in scores:
        color = davis_palette()[score.object_id] / 255
        label = f"object {score.object_id}"
        axes.plot(score.scores.j_frames, color=color, linewidth=1.5, label=label)
    axes.set(ylim=(-0.02, 1.02), yticks=(0, 0.5, 1))
    axes.set_xlabel("scored frame", color=GRAY)
    axes.set_ylabel("J", rotation=0, color=GRAY)
    if len(scores) > 1:
        axes.legend(loc="lower left", fontsize=8, frameon=False, ncols=len(scores))
    axes.margins(x=0)
    axes.grid(axis="y", color="#dde2e7")
    hide_frame(axes)
    return render_svg(figure, name=f"curves {name}")


def hide_frame(axes: Axes) -> None:
    """Remove the box around the drawing and the marks at its labels."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=GRAY)


def render_svg(figure: Figure, *, name: str) -> str:
    """Return a figure as an <svg> element with its words as text, the same at every call.

    The ids in it follow from `name`, so that two figures of one page do not share any.
    """
    buffer = io.StringIO()
    with rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": name, "svg.id": name.replace(" ", "-")}
    ):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
