"""OpenVINO beside ONNX Runtime: about the same masks, and its own bits again after a rebuild."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.core.memory import Memory
from service.engines.base import EntryPicture
from service.engines.canary import scene
from service.engines.embedded import EmbeddedEngine, embedded_engine
from service.engines.graphs import Graphs, open_graphs
from service.engines.inference import Inference
from service.engines.open_vino import KEPT_SHAPES, OpenVinoGraph
from service.engines.runtimes import RuntimeOptions, open_vino
from service.errors import EngineUnavailable
from service.local.tracker import Tracker
from tests.support import scene as drawn
from tests.support.redis_servers import running_redis
from tests.support.running import PATIENCE_S, ROOT, Api, environment, running_service
from tests.support.scenes import true_masks
from tests.support.videos import Video

pytestmark = pytest.mark.anyio

# As an engine that is opened in one thread and closed in another, before a signal comes.
CLOSED_ELSEWHERE = """
import gc, os, signal, threading, time
from service.engines.runtimes import open_vino

held = [open_vino(precision="fp32", threads=1, files=None)]
held[0].core.get_versions("CPU")
closing = threading.Thread(target=lambda: (held.clear(), gc.collect()))
closing.start()
closing.join()
signal.signal(signal.SIGTERM, lambda *_: print("told to stop", flush=True))
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
async def toy(toy_folder: Path, files: Path) -> AsyncIterator[EmbeddedEngine]:
    options = RuntimeOptions("openvino", files)
    async with embedded_engine(toy_folder, "toy", threads=1, runtime=options) as opened:
        yield opened


async def test_objects_are_followed(toy: EmbeddedEngine) -> None:
    assert toy.runtime.startswith("openvino/")
    video = Video(object_ids=(1, 2))
    for first in (1, 3):
        answer = await video.append(toy, first, first + 1)
        there = true_masks(first, first + 1, (1, 2)) >= 128
        assert np.mean((answer.masks >= 128) == there) > 0.995
        assert answer.runtime == toy.runtime


async def test_the_shipped_model_gives_its_own_bits_after_a_rebuild(files: Path) -> None:
    options = RuntimeOptions("openvino", files)
    async with embedded_engine(SHIPPED_WEIGHTS, "tamvt-mobile", threads=2, runtime=options) as ours:
        assert ours.runtime.startswith("openvino/"), "it passes its canary"
        size = ours.spec.buckets.sizes[0]
        frame, mask = scene(size, 0)
        memory = Memory.start(0, [1], capacity=ours.spec.memory_size)
        entries = [EntryPicture(frame, mask[None])]
        first = await run_clip(ours, 1, memory, entries, frames_of(size, 1, 2))
        later = memory.remember(2, [1], ours.spec.retention)
        entries.append(EntryPicture(frames_of(size, 2, 2)[0], first[-1]))
        kept = await run_clip(ours, 2, later, entries, frames_of(size, 3, 4))
        await ours.discard("video")
        rebuilt = await run_clip(ours, 2, later, entries, frames_of(size, 3, 4))
        assert np.array_equal(kept, rebuilt)
        assert 0.05 < (kept >= 128).mean() < 0.5, "the object is there"


def frames_of(size: tuple[int, int], first: int, last: int) -> NDArray[np.uint8]:
    return np.stack([scene(size, number)[0] for number in range(first, last + 1)])


async def run_clip(
    engine: EmbeddedEngine,
    version: int,
    memory: Memory,
    entries: Sequence[EntryPicture],
    frames: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Return the masks (L, 1, h, w) of a clip, which the bank remembers."""

    async def pictures() -> Sequence[EntryPicture]:
        return entries

    async with engine.lease(
        "video", version=version, memory=memory, model_size=frames.shape[1:3], pictures=pictures
    ) as lease:
        answer = await lease.segment(frames, before=memory, object_ids=[1])
        await lease.remember(
            memory.remember(memory.newest.frame + len(frames), [1], engine.spec.retention)
        )
        lease.commit(version + 1)
    return answer.masks


@pytest.fixture(scope="module")
def graphs(toy_folder: Path) -> Graphs:
    return open_graphs(toy_folder, "toy", threads=1)


def memorize(graphs: Graphs, *, width: int, run: Inference | None = None) -> dict[str, object]:
    frame = np.zeros((1, 64, width, 3), np.uint8)
    masks = np.zeros((1, 1, 64, width), np.uint8)
    return (run or Inference())(graphs.memorize, {"frame": frame, "masks": masks})


def test_only_so_many_shapes_are_kept(graphs: Graphs, toy_folder: Path) -> None:
    ours = graphs.on(open_vino(precision="fp32", threads=1, files=None), toy_folder)
    assert isinstance(ours.memorize, OpenVinoGraph)
    for blocks in range(1, KEPT_SHAPES + 2):
        memorize(ours, width=32 * blocks)
    assert ours.memorize.shapes == KEPT_SHAPES
    memorize(ours, width=32)


def test_what_was_compiled_is_read_again(graphs: Graphs, toy_folder: Path, tmp_path: Path) -> None:
    def opened() -> Graphs:
        return graphs.on(open_vino(precision="fp32", threads=1, files=tmp_path), toy_folder)

    memorize(opened(), width=96)
    (file,) = tmp_path.iterdir()
    whole, compiled = file.read_bytes(), file.stat().st_ino
    memorize(opened(), width=96)
    assert file.stat().st_ino == compiled, "read, not made again"
    file.write_bytes(whole[:-1])
    memorize(opened(), width=96)
    assert file.stat().st_ino != compiled, "damaged, so compiled once more"


def test_a_run_that_was_given_up_does_not_begin(graphs: Graphs, toy_folder: Path) -> None:
    ours = graphs.on(open_vino(precision="fp32", threads=1, files=None), toy_folder)
    run = Inference()
    run.stop()
    with pytest.raises(EngineUnavailable, match="given up"):
        memorize(ours, width=96, run=run)


def test_a_shape_that_the_graph_does_not_take_is_an_error(graphs: Graphs, toy_folder: Path) -> None:
    ours = graphs.on(open_vino(precision="fp32", threads=1, files=None), toy_folder)
    frame, masks = np.zeros((1, 64, 96, 4), np.uint8), np.zeros((1, 1, 64, 96), np.uint8)
    with pytest.raises(EngineUnavailable, match="the model failed"):
        Inference()(ours.memorize, {"frame": frame, "masks": masks})


def test_threads_share_a_graph(graphs: Graphs, toy_folder: Path) -> None:
    ours = graphs.on(open_vino(precision="fp32", threads=1, files=None), toy_folder)
    random = np.random.default_rng(0)
    given = [
        {
            "frame": random.integers(0, 255, (1, 64, 96, 3), np.uint8),
            "masks": np.full((1, 1, 64, 96), 255, np.uint8),
        }
        for _ in range(4)
    ]
    wanted = [Inference()(ours.memorize, each)["key_s32"] for each in given]
    found: dict[int, list[NDArray[np.float16]]] = {}

    def work(number: int) -> None:
        found[number] = [Inference()(ours.memorize, given[number])["key_s32"] for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answers in found.items():
        assert all(np.array_equal(answer, wanted[number]) for answer in answers)


def test_a_session_tells_which_runtime_went_on_with_it(
    toy_folder: Path, files: Path, tmp_path: Path
) -> None:
    found = []
    session = ""
    with running_redis(tmp_path / "redis") as redis:
        for first, runtime in ((1, "onnxruntime"), (3, "openvino")):
            settings = {
                "TAMVT_REDIS_URL": redis.url,
                "TAMVT_RUNTIME": runtime,
                "TAMVT_RUNTIME_FILES": str(files),
            }
            with (
                running_service(state=tmp_path, weights=toy_folder, settings=settings) as service,
                httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http,
            ):
                api = Api(http)
                session = session or api.start()
                sent = [drawn.jpeg(number) for number in (first, first + 1)]
                assert api.append(session, sent, first=first).status_code == 200
                (model,) = http.get("/v1/models").json()["models"]
                assert api.state(session)["runtime"] == model["runtime"]
                found.append(model["runtime"].partition("/")[0])
    assert found == ["onnxruntime", "openvino"]


def test_a_tracker_in_process_takes_it_too(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = []
    for runtime in ("onnxruntime", "openvino"):
        tracker = Tracker(
            drawn.png(0), drawn.mask(), model="toy", weights=toy_folder, threads=1, runtime=runtime
        )
        shown.append([frame.labels for frame in tracker.track(map(drawn.png, range(1, 5)))])
    for ours, right in zip(*shown, strict=True):
        assert np.mean(ours == right) > 0.995
    assert list((tmp_path / ".cache" / "tamvt").iterdir())


def test_a_signal_is_survived_after_another_thread_has_closed_it() -> None:
    code = [sys.executable, "-X", "faulthandler", "-c", CLOSED_ELSEWHERE]
    done = subprocess.run(
        code, cwd=ROOT, env=environment({}), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout) == (0, "told to stop\n"), done.stderr
