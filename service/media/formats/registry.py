"""Every format by its name, and what a file of masks is."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from model.core.image_headers import ImageLimits
from model.core.masks import MaskError
from service.errors import BadOption
from service.media.formats import (
    coco,
    coco_video,
    cutouts,
    cvat,
    davis,
    label_studio,
    mots,
    yolo,
    youtube_vos,
)
from service.media.formats.annotated import AnnotatedVideo, File

FormatName = Literal[
    "coco",
    "coco-video",
    "cutouts",
    "cvat",
    "davis",
    "label-studio",
    "mots",
    "yolo",
    "youtube-vos",
]
# A ZIP of one date for all: the same masks give the same file.
JANUARY: Final = (2024, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what writes it, and whether that is a single file."""

    write: Callable[[AnnotatedVideo], Iterator[File]]
    single: bool = False

    def files(self, video: AnnotatedVideo) -> Iterator[File]:
        """Yield the files of a video; raise BadOption where two would have one name."""
        seen: set[str] = set()
        for path, content in self.write(video):
            if path in seen:
                raise BadOption(f"two frames would both be written to {path!r}: rename one image")
            seen.add(path)
            yield path, content


FORMATS: Final[dict[FormatName, Format]] = {
    "coco": Format(coco.write, single=True),
    "coco-video": Format(coco_video.write, single=True),
    "cutouts": Format(cutouts.write),
    "cvat": Format(cvat.write, single=True),
    "davis": Format(davis.write),
    "label-studio": Format(label_studio.write),
    "mots": Format(mots.write, single=True),
    "yolo": Format(yolo.write),
    "youtube-vos": Format(youtube_vos.write),
}
assert tuple(FORMATS) == get_args(FormatName)


def write_folder(folder: Path, files: Iterable[File]) -> None:
    """Write files below a folder."""
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(files: Iterable[File]) -> bytes:
    """Return a ZIP of the files; PNGs are packed already."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files:
            kind = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            packed.writestr(zipfile.ZipInfo(name, JANUARY), content, kind)
    return archive.getvalue()


def read_annotations(path: Path, *, limits: ImageLimits) -> AnnotatedVideo:
    """Return the masks in a file or folder, whichever of the formats that are read it is.

    Read are folders of label maps (DAVIS, YouTube-VOS, what `tamvt track` leaves), COCO and
    COCO-video, CVAT's XML, MOTS, Label Studio's brushes and folders of YOLO's outlines.

    Raises:
        MaskError: it is none of them; the message names it and says what is read.
    """
    if path.is_dir():
        # Pictures may lie beside YOLO's outlines: these are looked for first.
        texts = (*(path / "labels").glob("*.txt"), *path.glob("*.txt"))
        if any(yolo.is_outlines(text) for text in texts):
            return yolo.read(path)
        folder = _find_label_maps(path)
        return youtube_vos.name_objects(davis.read(folder, limits=limits), folder)
    match path.suffix.lower():
        case ".xml":
            return cvat.read(path)
        case ".txt" if yolo.is_outlines(path):
            raise MaskError(f"{path.name} is one frame of YOLO: give the folder that holds it")
        case ".txt":
            return mots.read(path)
        case ".json":
            return _read_json(path)
    raise MaskError(
        f"{path.name} is of no format that is read here: JSON of COCO or Label Studio, XML of "
        "CVAT, text of MOTS, or a folder of PNGs or of YOLO's outlines"
    )


def _find_label_maps(path: Path) -> Path:
    """Return the folder of PNGs that is meant: this one, its `masks`, or the only one below it."""
    found = [folder for folder in (path, path / "masks") if any(folder.glob("*.png"))]
    if found:
        return found[0]
    found = [folder for folder in sorted(path.rglob("*")) if any(folder.glob("*.png"))]
    if not found:
        raise MaskError(f"there are no PNGs in {str(path)!r}, and no outlines of YOLO")
    if len(found) > 1:
        raise MaskError(
            f"{str(path)!r} holds {len(found)} folders of PNGs: give the one that is meant, "
            f"such as {str(found[0])!r}"
        )
    return found[0]


def _read_json(path: Path) -> AnnotatedVideo:
    text = path.read_bytes()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise MaskError(f"{path.name} is no JSON: {error}") from error
    if isinstance(document, list):
        return label_studio.read(path, document)
    if isinstance(document, dict) and "videos" in document:
        return coco_video.read(path, document)
    return coco.read_video(coco.parse(text, name=path.name))
