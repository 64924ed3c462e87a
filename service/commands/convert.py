"""`tamvt convert`: masks from the format of one tool to that of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from model.core.image_headers import ImageLimits
from service.commands.failures import report_failures
from service.errors import BadOption
from service.media.formats.registry import FORMATS, FormatName, read_annotations, write_folder
from service.settings import read_settings


@report_failures("convert")
def run(
    masks: Annotated[Path, Parameter(help="a file of masks, or a folder of PNGs")],
    /,
    *,
    format: Annotated[FormatName, Parameter(help="what is written")],
    out: Annotated[Path, Parameter(name=("-o", "--out"), help="folder for it")],
) -> None:
    """Read masks of any format that is known by its content, and write them in another one."""
    if not masks.exists():
        raise BadOption(f"there is no file or folder {str(masks)!r}")
    settings = read_settings()
    limits = ImageLimits(
        settings.max_frame_bytes, settings.max_frame_width, settings.max_frame_height
    )
    video = read_annotations(masks, limits=limits)
    write_folder(out, FORMATS[format].files(video))
    print(f"{format} in {out}")
