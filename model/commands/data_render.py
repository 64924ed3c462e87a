"""The command `tamvt-model data render`: videos of moving things to train on, made from a seed."""

import time
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter
from tqdm import tqdm

from model.commands.options import AT_LEAST_ONE, Data, Output, Size, choose_data_folder
from model.data.rendered.clips import RenderConfig, list_all_stills, render_clips
from model.data.rendered.renderer import Renderer
from model.data.rendered.sampler import SceneSampler


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RenderArguments:
    """The options of `tamvt-model data render`."""

    output: Output
    clips: Annotated[int, AT_LEAST_ONE, Parameter(help="how many there are to be")] = 300
    seed: Annotated[int, Parameter(help="another draw of scenes")] = 1
    frames: Annotated[int, Parameter(help="of a clip")] = 24
    size: Size = (360, 640)
    data: Data = None
    noise_only: Annotated[
        bool, Parameter(help="make everything of noise, although there are pictures in data/static")
    ] = False


def run(
    _what: Annotated[Literal["render"], Parameter(name="WHAT", help="clips of moving things")],
    /,
    *,
    args: RenderArguments,
) -> int:
    """Write the clips that are lacking, and say how fast that went; return the exit status."""
    stills = () if args.noise_only else list_all_stills(choose_data_folder(args.data))
    height, width = args.size
    config = RenderConfig(
        seed=args.seed, frames=args.frames, height=height, width=width, stills=len(stills)
    )
    with Renderer(height=height, width=width) as renderer:
        sampler = SceneSampler(stills)
        wall, spent, made = time.perf_counter(), time.process_time(), 0
        written = render_clips(args.output, renderer, sampler, config, clips=args.clips)
        for clip in tqdm(written, total=args.clips, unit="clip", disable=None):
            made += clip.made
        wall, spent = time.perf_counter() - wall, time.process_time() - spent
    frames = made * args.frames
    print(f"{args.clips} clips in {args.output}, {made} made now with {renderer.name}")
    print(
        f"{frames / wall:.1f} frames/s, {frames / spent:.1f} for each core that is busy with them"
    )
    return 0
