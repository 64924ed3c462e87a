"""Label maps of whole videos, made by a model or read from a folder, and their scores by object.

The rules are those of the benchmarks: an object counts from the frame it is given in; that frame
does not count, nor does the last (VISOR: it does); J_tr is J over the last quarter (VOST).
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.core.frame_files import read_frame_file
from model.core.image_headers import PixelError
from model.core.j_and_f import SequenceScores, boundary_f, jaccard
from model.core.masks import IGNORE, MaskError, label_map
from model.core.palette import read_label_map, write_label_map
from model.core.pixels import read_image
from model.data.errors import DataError
from model.data.static import Pixels, read_labels
from model.data.video import Video
from model.evaluation.pixel_errors import PixelErrors, count_errors, share_errors
from model.evaluation.runtime import Runtime
from model.evaluation.tracker import LIMITS, OfflineFrame, OfflineTracker

LONG_S = 20.0  # subset LNG: longer
SMALL_SHARE = 0.005  # subset SM: less of the frame
BAND_ENDS = (0.5, 1.0, 2.0, 5.0)  # of the bands of small objects, in percent of the frame

Labels = Mapping[str, Pixels]  # label maps (H, W) by the stem of the frame's file


@dataclass(frozen=True, slots=True)
class Rules:
    """Where benchmarks differ: whether the last frame counts, and ids that no object has do."""

    last_counts: bool = False
    strangers_allowed: bool = False  # they are left out, as VOST's toolkit leaves them out

    def select_counted(self, stems: Sequence[str]) -> Sequence[str]:
        """Return those of an object's frames that count, the first being where it is given."""
        return stems[1:] if self.last_counts else stems[1:-1]


class Tracking(TypedDict, total=False):
    """What the tracker takes besides the model; None: as the model's spec has it."""

    clip_length: int | None
    memory_size: int | None
    memory_gate: bool | None


DAVIS = Rules()
RULES: Mapping[str, Rules] = MappingProxyType(
    {"visor": Rules(last_counts=True), "vost": Rules(strangers_allowed=True)}
)


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """The scores of one object of one video, and the subsets it belongs to."""

    video: str
    object_id: int
    frames: tuple[str, ...]  # those that count
    scores: SequenceScores
    area: float  # mean share of the frame
    subsets: tuple[str, ...]
    errors: PixelErrors


def read_truth(video: Video) -> dict[str, Pixels]:
    """Return the true label maps by stem: 1 for a united object.

    255 is background where another id occurs anywhere in the video, else object 1. DataError
    where one is not of its frame's size, or frames differ in size.
    """
    truth: dict[str, Pixels] = {}
    size: tuple[int, ...] | None = None
    for frame, path in zip(video.frames, video.masks, strict=True):
        labels = read_labels(path)
        size = size or labels.shape
        if not labels.shape == size == read_picture_size(frame):
            raise DataError(
                f"{path} is {labels.shape}, its frame is {read_picture_size(frame)}, and the first "
                f"mask of {video.name} is {size}"
            )
        truth[path.stem] = labels
    values = np.unique(np.concatenate([np.unique(labels) for labels in truth.values()]))
    if video.united or not np.setdiff1d(values, [0, IGNORE]).size:
        return {stem: (labels > 0).astype(np.uint8) for stem, labels in truth.items()}
    return {stem: np.where(labels == IGNORE, np.uint8(0), labels) for stem, labels in truth.items()}


def read_picture_size(path: Path) -> tuple[int, int]:
    """Return height and width of a picture, as its header says."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, SyntaxError) as error:
        raise DataError(f"cannot read the picture {path}") from error


def list_starts(video: Video, truth: Labels) -> dict[int, str]:
    """Return each object with the stem of the frame that it is given in: the first, or a later.

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


def predict(
    runtime: Runtime, video: Video, truth: Labels, **options: Unpack[Tracking]
) -> dict[str, Pixels]:
    """Return label maps of every frame from the given masks on, those as they are.

    Objects that are given in one frame are tracked together; groups meet in soft aggregation.
    """
    given = list_starts(video, truth)
    size = next(iter(truth.values())).shape
    frames = video.every or video.frames
    stems = [path.stem for path in frames]
    groups = []
    for first in dict.fromkeys(given.values()):
        ids = [object_id for object_id, stem in given.items() if stem == first]
        mask = np.where(np.isin(truth[first], ids), truth[first], np.uint8(0))
        groups.append(track_video(runtime, frames[stems.index(first) :], mask, **options))
    labels = {}
    for stem in stems:
        said = [group[stem] for group in groups if stem in group]
        labels[stem] = join_label_maps(said, (size[0], size[1]))
        fresh = [object_id for object_id, first in given.items() if first == stem]
        if fresh:
            own = truth[stem]
            labels[stem] = np.where(np.isin(own, fresh), own, labels[stem])
    return labels


def track_video(
    runtime: Runtime, frames: Sequence[Path], mask: Pixels, **options: Unpack[Tracking]
) -> dict[str, tuple[tuple[int, ...], OfflineFrame]]:
    """Return what the tracker says of the frames after the first, by stem, with the object ids."""
    if not mask.any():
        return {}
    try:
        tracker = OfflineTracker(runtime, read_frame_file(frames[0]), mask, **options)
        said = list(tracker.track(map(read_frame_file, frames[1:])))
    except PixelError as error:
        raise DataError(f"{find_first_broken(frames)} cannot be decoded: {error}") from error
    return {
        path.stem: (tracker.object_ids, frame) for path, frame in zip(frames[1:], said, strict=True)
    }


def find_first_broken(frames: Sequence[Path]) -> Path:
    """Return the first frame that cannot be decoded; the last, if all can."""
    for path in frames:
        try:
            read_image(read_frame_file(path), LIMITS)
        except PixelError:
            return path
    return frames[-1]


def join_label_maps(
    said: Sequence[tuple[tuple[int, ...], OfflineFrame]], size: tuple[int, int]
) -> Pixels:
    """Return one label map (H, W) of what one or several trackers say of a frame."""
    if not said:
        return np.zeros(size, np.uint8)
    if len(said) == 1:
        return said[0][1].labels
    ids = tuple(object_id for each, _ in said for object_id in each)
    return label_map(np.concatenate([frame.soft for _, frame in said]), ids, size)


def score(video: Video, truth: Labels, labels: Labels, rules: Rules = DAVIS) -> list[ObjectScore]:
    """Return the scores of every object that has a frame that counts."""
    given = list_starts(video, truth)
    stems = list(truth)
    results = []
    for object_id, first in given.items():
        shown = stems[stems.index(first) :]
        counted = tuple(rules.select_counted(shown))
        if not counted:
            continue
        true = {stem: truth[stem] == object_id for stem in shown}
        pairs = [(select_mask(labels, stem, object_id, video), true[stem]) for stem in counted]
        area = float(np.mean([mask.mean() for mask in true.values()]))
        results.append(
            ObjectScore(
                video.name,
                object_id,
                counted,
                SequenceScores(
                    j_frames=tuple(jaccard(*pair) for pair in pairs),
                    f_frames=tuple(boundary_f(*pair) for pair in pairs),
                ),
                area,
                tuple(list_subsets(video, objects=len(given), area=area)),
                share_errors([count_errors(*pair) for pair in pairs]),
            )
        )
    return results


def select_mask(labels: Labels, stem: str, object_id: int, video: Video) -> NDArray[np.bool_]:
    """Return one object's mask (H, W); any object's where the video's are united."""
    return labels[stem] > 0 if video.united else labels[stem] == object_id


def list_subsets(video: Video, *, objects: int, area: float) -> Iterator[str]:
    """Yield the subsets of an object: VOST's, where there is enough to tell, and its data set's.

    Small objects are also in one of four bands of area, such as `0.5-1%`, its lower end included.
    """
    if video.rate is not None and len(video.frames) / video.rate > LONG_S:
        yield "LNG"
    if video.instances and objects > 1:
        yield "MI"
    if area < SMALL_SHARE:
        yield "SM"
    for low, high in pairwise((0.0, *BAND_ENDS)):
        if low <= 100 * area < high:
            yield f"{low:g}-{high:g}%"
    yield from video.tags


def write_labels(folder: Path, labels: Labels) -> None:
    """Write label maps as palette PNGs, named like the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, label_map_of_frame in labels.items():
        (folder / f"{stem}.png").write_bytes(write_label_map(label_map_of_frame))


def read_predictions(
    root: Path, video: Video, truth: Labels, *, alone: bool = False, rules: Rules = DAVIS
) -> dict[str, Pixels]:
    """Read the label maps of one video in a folder; raise DataError for a missing or broken one.

    They lie in `<root>/<video>`, `<root>/masks/<video>` or `<root>/<video>/masks` (as `tamvt track`
    writes them); those of a video that is `alone` may lie in `<root>` or `<root>/masks`. Frames
    that do not count need none.
    """
    own = root / video.name
    places = [own / "masks", own, root / "masks" / video.name]
    if alone:
        places += [root / "masks", root]
    folder = next((place for place in places if any(place.glob("*.png"))), None)
    if folder is None:
        raise DataError(f"no predictions (*.png) for {video.name} in {root}")
    known = frozenset(list_starts(video, truth))
    found = {}
    for stem in rules.select_counted(list(truth)):
        path = folder / f"{stem}.png"
        labels = read_prediction(path)
        if labels.shape != truth[stem].shape:
            raise DataError(f"{path} is {labels.shape}, its frame is {truth[stem].shape}")
        if not (video.united or rules.strangers_allowed):
            refuse_unknown_ids(labels, known, path)
        found[stem] = labels
    return found


def read_prediction(path: Path) -> Pixels:
    """Return one label map; raise DataError where it is missing or none."""
    try:
        return read_label_map(path.read_bytes(), LIMITS)
    except FileNotFoundError as error:
        raise DataError(f"the prediction {path} is missing") from error
    except (PixelError, MaskError) as error:
        raise DataError(f"{path} is no label map: {error}") from error


def refuse_unknown_ids(labels: Pixels, known: Set[int], path: Path) -> None:
    """Raise DataError for an id that no object has, as DAVIS's toolkit does."""
    strange = sorted(set(np.unique(labels).tolist()) - {0} - known)
    if strange:
        raise DataError(
            f"{path} has the object ids {strange}, the video has {sorted(known)}: "
            "are these predictions of another video?"
        )
