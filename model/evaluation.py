"""Label maps of whole videos, made by a model or read from a folder, and their scores by object.

The rules are those of the benchmarks: an object counts from the frame it is given in; that frame
and the last do not count (DAVIS, VOST); J_tr is J over the last quarter (VOST).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.errors import DataError
from model.data.static import Pixels, read_labels
from model.data.video import Video
from model.rules.headers import PixelError
from model.rules.masks import IGNORE, MaskError, label_map
from model.rules.palette import read_label_map, write_label_map
from model.rules.pixels import read_image
from model.rules.scores import SequenceScores
from model.tracker import LIMITS, TrackedFrame, Tracker
from model.verbs import Verbs

LONG_S = 20.0  # subset LNG: longer
SMALL_SHARE = 0.005  # subset SM: less of the frame

Labels = Mapping[str, Pixels]  # label maps (H, W) by the stem of the frame's file


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """The scores of one object of one video, and the subsets it belongs to."""

    video: str
    object_id: int
    frames: tuple[str, ...]  # those that count
    scores: SequenceScores
    area: float  # mean share of the frame
    subsets: tuple[str, ...]


def read_truth(video: Video) -> dict[str, Pixels]:
    """The true label maps by stem: 1 for a united object; 255 is background where ids count."""
    truth = {}
    for path in video.masks:
        labels = read_labels(path)
        if video.united:
            truth[path.stem] = (labels > 0).astype(np.uint8)
        else:
            truth[path.stem] = np.where(labels == IGNORE, np.uint8(0), labels)
    return truth


def starts(video: Video, truth: Labels) -> dict[int, str]:
    """Each object and the stem of the frame whose mask is given: the first, unless some are late.

    As VOST's toolkit counts: all ids up to the largest in the first frame.
    """
    stems = list(truth)
    if not video.late:
        return dict.fromkeys(range(1, int(truth[stems[0]].max()) + 1), stems[0])
    found: dict[int, str] = {}
    for stem in stems:
        for object_id in np.setdiff1d(truth[stem], [0]):
            found.setdefault(int(object_id), stem)
    return dict(sorted(found.items()))


def predict(verbs: Verbs, video: Video, truth: Labels, **memory: int | None) -> dict[str, Pixels]:
    """The model's label maps of every frame, from the given masks on; given ones as they are.

    Objects that are given in one frame are tracked together; groups meet in soft aggregation.
    """
    given = starts(video, truth)
    size = next(iter(truth.values())).shape
    frames = video.every or video.frames
    stems = [path.stem for path in frames]
    groups = []
    for first in dict.fromkeys(given.values()):
        ids = [object_id for object_id, stem in given.items() if stem == first]
        mask = np.where(np.isin(truth[first], ids), truth[first], np.uint8(0))
        groups.append(followed(verbs, frames[stems.index(first) :], mask, **memory))
    labels = {}
    for stem in stems:
        said = [group[stem] for group in groups if stem in group]
        labels[stem] = joined(said, (size[0], size[1]))
        fresh = [object_id for object_id, first in given.items() if first == stem]
        if fresh:
            own = truth[stem]
            labels[stem] = np.where(np.isin(own, fresh), own, labels[stem])
    return labels


def followed(
    verbs: Verbs, frames: Sequence[Path], mask: Pixels, **memory: int | None
) -> dict[str, tuple[tuple[int, ...], TrackedFrame]]:
    """What the tracker says of the frames after the first, by stem, with the object ids."""
    if not mask.any():
        return {}
    try:
        tracker = Tracker(verbs, frames[0].read_bytes(), mask, **memory)
        said = list(tracker.track(path.read_bytes() for path in frames[1:]))
    except PixelError as error:
        raise DataError(f"{first_broken(frames)} cannot be decoded: {error}") from error
    return {
        path.stem: (tracker.object_ids, frame) for path, frame in zip(frames[1:], said, strict=True)
    }


def first_broken(frames: Sequence[Path]) -> Path:
    """The first frame that cannot be decoded; the last, if all can."""
    for path in frames:
        try:
            read_image(path.read_bytes(), LIMITS)
        except PixelError:
            return path
    return frames[-1]


def joined(said: Sequence[tuple[tuple[int, ...], TrackedFrame]], size: tuple[int, int]) -> Pixels:
    """One label map (H, W) of what one or several trackers say of a frame."""
    if not said:
        return np.zeros(size, np.uint8)
    if len(said) == 1:
        return said[0][1].labels
    ids = tuple(object_id for each, _ in said for object_id in each)
    return label_map(np.concatenate([frame.soft for _, frame in said]), ids, size)


def score(video: Video, truth: Labels, labels: Labels) -> list[ObjectScore]:
    """The scores of every object that has a frame that counts."""
    given = starts(video, truth)
    stems = list(truth)
    results = []
    for object_id, first in given.items():
        counted = stems[stems.index(first) :]
        if len(counted) < 3:
            continue
        true = [truth[stem] == object_id for stem in counted]
        pred = [mask_of(labels, stem, object_id, video) for stem in counted[1:-1]]
        padded = [true[0], *pred, true[-1]]  # the ends do not count
        area = float(np.mean([mask.mean() for mask in true]))
        results.append(
            ObjectScore(
                video.name,
                object_id,
                tuple(counted[1:-1]),
                SequenceScores.of(padded, true),
                area,
                tuple(subsets(video, objects=len(given), area=area)),
            )
        )
    return results


def mask_of(labels: Labels, stem: str, object_id: int, video: Video) -> NDArray[np.bool_]:
    """One object's mask (H, W); any object's where the video's are united."""
    return labels[stem] > 0 if video.united else labels[stem] == object_id


def subsets(video: Video, *, objects: int, area: float) -> Iterator[str]:
    """VOST's subsets that an object is in, where there is enough to tell, and its data set's."""
    if video.rate is not None and len(video.frames) / video.rate > LONG_S:
        yield "LNG"
    if video.instances and objects > 1:
        yield "MI"
    if area < SMALL_SHARE:
        yield "SM"
    yield from video.tags


def write_labels(folder: Path, labels: Labels) -> None:
    """Write label maps as palette PNGs, named like the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, label_map_of_frame in labels.items():
        (folder / f"{stem}.png").write_bytes(write_label_map(label_map_of_frame))


def read_predictions(
    root: Path, video: Video, truth: Labels, *, alone: bool = False
) -> dict[str, Pixels]:
    """The label maps of one video in a folder of PNGs; DataError names what is missing or broken.

    They lie in `<root>/<video>`, `<root>/masks/<video>` or `<root>/<video>/masks` (as `tamvt track`
    writes them); those of a video that is `alone` may lie in `<root>` or `<root>/masks`.
    """
    own = root / video.name
    places = [own / "masks", own, root / "masks" / video.name]
    if alone:
        places += [root / "masks", root]
    folder = next((place for place in places if any(place.glob("*.png"))), None)
    if folder is None:
        raise DataError(f"no predictions (*.png) for {video.name} in {root}")
    found = {}
    for stem in list(truth)[1:-1]:
        path = folder / f"{stem}.png"
        try:
            labels = read_label_map(path.read_bytes(), LIMITS)
        except FileNotFoundError as error:
            raise DataError(f"the prediction {path} is missing") from error
        except (PixelError, MaskError) as error:
            raise DataError(f"{path} is no label map: {error}") from error
        if labels.shape != truth[stem].shape:
            raise DataError(f"{path} is {labels.shape}, its frame is {truth[stem].shape}")
        found[stem] = labels
    return found
