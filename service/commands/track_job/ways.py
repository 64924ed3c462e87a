"""What makes a tracking job more than one run forward: corrections, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from model.core.image_headers import ImageLimits
from service.commands.track_job.export import read_prompt
from service.errors import BadOption, BadVideo
from service.media.video import Source


def read_corrections(
    folder: Path | None, source: Source, limits: ImageLimits
) -> Mapping[int, bytes]:
    """Return the masks in a folder by the number of their frame in the source.

    A mask has the name that the job's own mask of the frame has: the image's stem, or the frame's
    number in five digits.

    Raises:
        BadOption: there is no such folder, no mask in it, or a file that names no frame.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise BadOption(f"--corrections: there is no folder {str(folder)!r}")
    numbers = {source.stem_of(number): number for number in range(len(source.images))}
    found = {}
    for file in sorted(folder.glob("[!.]*.png")):
        number = numbers.get(file.stem)
        if number is None and not source.images and file.stem.isdecimal():
            number = int(file.stem)
        if number is None:
            raise BadOption(
                f"--corrections: {file.name!r} is named like no frame; name each mask like its "
                f"frame's, such as {source.stem_of(0)}.png"
            )
        found[number] = read_prompt(file, source, number, limits)
    if not found:
        raise BadOption(f"--corrections: there is no PNG in {str(folder)!r}")
    return found


def corrections_digest(corrections: Mapping[int, bytes]) -> str:
    """Return a digest of masks and the frames they are for; empty where there are none."""
    if not corrections:
        return ""
    told = (f"{number}:{sha256(mask).hexdigest()}" for number, mask in sorted(corrections.items()))
    return sha256("\n".join(told).encode()).hexdigest()


def backward_source(source: Source, reference_frame: int, spool: Path) -> Source:
    """Return the frames from the reference down to the first one, as images in this order.

    Those of a video file are written to the folder `spool`: no video is decoded backward.

    Raises:
        BadVideo: the video cannot be read, or ends before the reference frame.
    """
    images = source.images
    if not images:
        spool.mkdir(parents=True, exist_ok=True)
        images = tuple(spool / f"{number:05d}.jpg" for number in range(reference_frame + 1))
        if not images[-1].exists():  # written last
            for frame, file in zip(source.frames(), images, strict=False):
                file.write_bytes(frame.image)
        if not images[-1].exists():
            raise BadVideo(f"the video has no frame {reference_frame}")
    back = tuple(reversed(images[: reference_frame + 1]))
    return replace(source, images=back, count=len(back), left_out="")
