"""Data sets in the layouts that their authors publish: DAVIS, YouTube-VOS, VOST, VISOR.

Each becomes a tuple of `Video`; a file that is missing or broken is a DataError that names it.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from model.data.errors import DataError
from model.data.pictures import (
    LabeledStill,
    coco_stills,
    list_ecssd_stills,
    list_voc_stills,
    msra10k_stills,
)
from model.data.video import Video, open_video, read_frames, read_names

T = TypeVar("T")
VideoLayout = Literal[
    "shared", "extra", "rendered", "davis2016", "davis2017", "youtube-vos", "vost", "visor"
]
StillLayout = Literal["ecssd", "msra10k", "coco", "voc"]

HELD_OUT = ("davis2017-snowboard", "ucsd-cyclists")  # of the `extra` videos: never trained on
_MOTION_ONLY = ("ucsd", 0.4)  # a set in which only what moves is labeled, and its weight
INSTANCES = "davis2017_instances"  # masks alone; their frames are those of `video`
DAVIS_RATE, YOUTUBE_RATE, VOST_RATE = 24.0, 6.0, 5.0  # labeled frames a second


@dataclass(frozen=True, slots=True)
class VideoSet:
    """A set of videos: its layout, its folder, which split, and how often it is drawn."""

    layout: VideoLayout
    root: Path
    split: str = "train"
    weight: float = 1.0

    def open(self) -> tuple[Video, ...]:
        """Return its videos in the order of its list; raise DataError for none."""
        return require_some(VIDEO_READERS[self.layout](self.root, self.split), self.root)


@dataclass(frozen=True, slots=True)
class StillSet:
    """A set of pictures: its layout, its folder, which split, and how often it is drawn."""

    layout: StillLayout
    root: Path
    split: str = "train"
    weight: float = 1.0

    def open(self) -> tuple[LabeledStill, ...]:
        """Return its pictures that have labels; raise DataError for none."""
        return require_some(STILL_READERS[self.layout](self.root, self.split), self.root)


def require_some(found: tuple[T, ...], root: Path) -> tuple[T, ...]:
    """Return what was found, if anything was."""
    if not found:
        raise DataError(f"the data set in {root} is empty")
    return found


def list_shared_videos(root: Path, split: str) -> tuple[Video, ...]:
    """Return `<name>/{frames,masks}` with a list `<split>.txt` of names."""
    return tuple(open_video(root, name) for name in read_names(root / f"{split}.txt"))


def list_extra_videos(root: Path, split: str) -> tuple[Video, ...]:
    """Return the videos `<set>/<name>/{frames,masks}` with instance masks, named `<set>-<name>`.

    The split `held-out` is HELD_OUT, any other all the rest, among them the videos of
    `davis2017_instances`, whose frames lie in `video` beside `root`.
    """
    folders = sorted(path.parent for path in root.glob("*/*/masks"))
    videos = (open_extra_video(folder, root) for folder in folders)
    held_out = split == "held-out"
    return tuple(video for video in videos if (video.name in HELD_OUT) == held_out)


def open_extra_video(folder: Path, root: Path) -> Video:
    """Return one of the `extra` videos; several ids are several objects."""
    images = folder / "frames"
    if folder.parent.name == INSTANCES:
        images = root.parent / "video" / folder.name / "frames"
    name = f"{folder.parent.name}-{folder.name}"
    weight = _MOTION_ONLY[1] if folder.parent.name == _MOTION_ONLY[0] else 1.0
    return replace(pair_frames(name, images, folder / "masks"), united=False, weight=weight)


def list_rendered_videos(root: Path, split: str) -> tuple[Video, ...]:
    """Return the clips that `tamvt-model data render` wrote into a folder; there are no splits."""
    found = sorted(path.parent for path in root.glob("*/masks"))
    folders = [folder for folder in found if not folder.name.startswith(".")]  # those are not whole
    if not folders:
        raise DataError(f"no rendered clips in {root}: `tamvt-model data render -o {root}`")
    return tuple(replace(open_video(root, each.name), united=False) for each in folders)


def list_davis_2016(root: Path, split: str) -> tuple[Video, ...]:
    """Return one united object a video; the lists name frames and masks by path, or videos.

    DAVIS 2016 lists pairs in `ImageSets/480p/<split>.txt`; DAVIS 2017's package lists the names of
    the same videos in `ImageSets/2016/<split>.txt`.
    """
    if (root / "ImageSets" / "480p").is_dir():
        text = read_text(root / "ImageSets" / "480p" / f"{split}.txt")
        names = dict.fromkeys(line.split()[0].split("/")[-2] for line in text.splitlines() if line)
    else:
        names = dict.fromkeys(read_names(root / "ImageSets" / "2016" / f"{split}.txt"))
    return tuple(open_davis_video(root, name, united=True) for name in names)


def list_davis_2017(root: Path, split: str) -> tuple[Video, ...]:
    """Return several objects a video; names in `ImageSets/2017/<split>.txt`."""
    names = read_names(root / "ImageSets" / "2017" / f"{split}.txt")
    return tuple(open_davis_video(root, name, united=False) for name in names)


def open_davis_video(root: Path, name: str, *, united: bool) -> Video:
    images, masks = root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name
    return replace(pair_frames(name, images, masks), united=united, rate=DAVIS_RATE)


def list_youtube_vos(root: Path, split: str) -> tuple[Video, ...]:
    """Return `<split>/{JPEGImages,Annotations}/<video>`, listed in `<split>/meta.json`.

    Masks exist for some of the frames only; objects may appear later than in the first.
    """
    folder = root / split
    path = folder / "meta.json"
    text = read_text(path)
    try:
        videos: Mapping[str, Any] = json.loads(text)["videos"]
        kinds = {
            name: Counter(each.get("category", "") for each in video["objects"].values())
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no list of videos with their objects") from error
    return tuple(
        replace(
            pair_frames(name, folder / "JPEGImages" / name, folder / "Annotations" / name),
            united=False,
            late=True,
            rate=YOUTUBE_RATE,
            instances=max(kinds[name].values(), default=0) > 1,
        )
        for name in sorted(videos)
    )


def list_vost(root: Path, split: str) -> tuple[Video, ...]:
    """Return `{JPEGImages,Annotations}/<video>`, listed in `ImageSets/<split>.txt`.

    All ids of a video are instances of the one object that is transformed; 255 is ignored.
    """
    names = read_names(root / "ImageSets" / f"{split}.txt")
    return tuple(
        replace(
            pair_frames(name, root / "JPEGImages" / name, root / "Annotations" / name),
            united=False,
            rate=VOST_RATE,
            instances=True,
        )
        for name in names
    )


def list_visor(root: Path, split: str) -> tuple[Video, ...]:
    """Return VISOR's videos as its benchmark unpacks them, `480p` and year folders or not.

    Videos of kitchens that no training saw (`val_unseen.txt`) carry the tag `unseen`, the others
    `seen`. Without that list none has a tag.
    """
    lists, images, masks = (root / name for name in ("ImageSets", "JPEGImages", "Annotations"))
    lists = lists / "2022" if (lists / "2022").is_dir() else lists
    if (images / "480p").is_dir():
        images, masks = images / "480p", masks / "480p"
    unseen_list = lists / "val_unseen.txt"
    unseen = frozenset(read_names(unseen_list) if unseen_list.is_file() else ())
    return tuple(
        replace(
            pair_frames(name, images / name, masks / name),
            united=False,
            tags=("unseen" if name in unseen else "seen",) if unseen else (),
        )
        for name in read_names(lists / f"{split}.txt")
    )


def pair_frames(name: str, images: Path, masks: Path) -> Video:
    """Return the frames of a folder with the masks of another.

    Frames without a mask are only seen.
    """
    every = read_frames(images)
    labels = {path.stem: path for path in masks.glob("*.png") if not path.name.startswith(".")}
    strangers = sorted(set(labels) - {path.stem for path in every})
    if strangers:
        raise DataError(f"{labels[strangers[0]]} has no frame in {images}")
    frames = tuple(path for path in every if path.stem in labels)
    if not frames:
        raise DataError(f"no masks (*.png) in {masks}")
    return Video(name, frames, tuple(labels[path.stem] for path in frames), every)


def read_text(path: Path) -> str:
    """Return the text of a list; raise DataError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}") from error


VIDEO_READERS: Mapping[str, Callable[[Path, str], tuple[Video, ...]]] = MappingProxyType(
    {
        "shared": list_shared_videos,
        "extra": list_extra_videos,
        "rendered": list_rendered_videos,
        "davis2016": list_davis_2016,
        "davis2017": list_davis_2017,
        "youtube-vos": list_youtube_vos,
        "vost": list_vost,
        "visor": list_visor,
    }
)
STILL_READERS: Mapping[str, Callable[[Path, str], tuple[LabeledStill, ...]]] = MappingProxyType(
    {
        "ecssd": list_ecssd_stills,
        "msra10k": msra10k_stills,
        "coco": coco_stills,
        "voc": list_voc_stills,
    }
)
