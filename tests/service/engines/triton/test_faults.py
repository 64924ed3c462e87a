"""What becomes of a session when Triton is killed, slow, cut off, or started anew."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferInput

from model.core.memory import Memory
from model.export.triton.repository import write_repository
from service.engines.base import ClipMasks, EngineLimits
from service.engines.triton.bank import TritonBank
from service.engines.triton.client import triton_client
from service.engines.triton.engine import SharedMemory, TritonEngine, triton_engine
from service.engines.triton.inline_bank import InlineStorage
from service.engines.triton.layout import TensorLocation, choose_shape, lay_out
from service.engines.triton.models import name_datatype
from service.engines.triton.region import Region, RegionHeader
from service.errors import EngineUnavailable, ModelMismatch
from service.local.triton import LocalTriton, local_triton
from tests.support.running import PATIENCE_S
from tests.support.scenes import SIZE, clip, true_masks
from tests.support.toy_model import WEIGHTS, write_toy_model
from tests.support.tritons import Relay, paused, regions, until, waiting
from tests.support.videos import Video

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def impatient(url: str, prefix: str) -> AsyncIterator[TritonEngine]:
    """An engine that does not wait long."""
    async with triton_engine(
        url, "toy", limits=EngineLimits(clip_deadline_s=0.6), memory=SharedMemory(prefix=prefix)
    ) as engine:
        yield engine


async def follow(video: Video, engine: TritonEngine, *, first: int, last: int) -> None:
    """Clips of two frames, each with the right masks."""
    for frame in range(first, last + 1, 2):
        answer = await video.append(engine, frame, frame + 1)
        assert (answer.masks == true_masks(frame, frame + 1)).all()


async def failed(video: Video, engine: TritonEngine, first: int) -> EngineUnavailable:
    """The error of a clip that is not committed; the session stays as it was."""
    memory = video.memory
    with pytest.raises(EngineUnavailable) as caught:
        await video.append(engine, first, first + 1)
    video.memory = memory
    return caught.value


async def until_it_works(video: Video, engine: TritonEngine, first: int) -> ClipMasks:
    """A clip, as a client tries it again."""
    memory = video.memory
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                answer = await video.append(engine, first, first + 1)
            except EngineUnavailable as error:
                video.memory = memory
                await asyncio.sleep(error.retry_after_s / 10)
            else:
                assert (answer.masks == true_masks(first, first + 1)).all()
                return answer


async def test_a_killed_triton_loses_nothing(toy_repository: Path, prefix: str) -> None:
    video = Video()
    with local_triton(toy_repository) as server:
        async with triton_engine(server.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
            await follow(video, engine, first=1, last=4)
            with paused(toy_repository) as held:
                clip = asyncio.create_task(failed(video, engine, 5))
                await until(held.exists)
                server.process.kill()
                error = await clip
            assert error.retry_after_s > 0
            started_at = time.monotonic()
            await failed(video, engine, 5)  # at once: nobody waits for a server that is gone
            assert time.monotonic() - started_at < 20  # of the 60 s that it may take
            with pytest.raises(EngineUnavailable):
                await engine.ready()
            port = int(server.url.rpartition(":")[2])
            with local_triton(toy_repository, grpc_port=port):
                await until_it_works(video, engine, 5)
                await follow(video, engine, first=7, last=10)
                await engine.ready()
                # The bank was given up with the clip, and built anew once.
                assert video.rebuilds == 2
                await until(lambda: len(regions(prefix)) == 1)
    assert regions(prefix) == []


async def test_a_triton_started_anew_gets_the_regions_again(
    toy_repository: Path, prefix: str
) -> None:
    video = Video()
    with local_triton(toy_repository) as server:
        async with triton_engine(server.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
            await follow(video, engine, first=1, last=4)
            server.process.kill()
            server.process.wait()
            port = int(server.url.rpartition(":")[2])
            with local_triton(toy_repository, grpc_port=port):
                await until_it_works(video, engine, 5)
                await follow(video, engine, first=7, last=8)
    assert video.rebuilds <= 2


class UnknownStorage(InlineStorage):
    """A bank whose tensors are said to be in a region that Triton never gets to know."""

    def input(self, name: str, location: TensorLocation) -> InferInput:
        made = InferInput(name, (1, *location.shape), name_datatype(location.dtype))
        made.set_shared_memory("tamvt-test-unknown", location.nbytes, location.offset)
        return made


async def test_a_region_that_stays_unknown_is_a_model_without_an_answer(
    triton: LocalTriton,
) -> None:
    async with triton_client(
        triton.url,
        "toy",
        start_deadline_s=PATIENCE_S,
        clip_deadline_s=PATIENCE_S,
        in_flight=1,
        waiting=1,
    ) as client:
        spec, memory = client.served.spec, Memory.start(0, [1], capacity=1)
        layout = lay_out(spec, choose_shape(spec, SIZE, slots=1, objects=1, frames=2))
        bank = TritonBank(client, spec, UnknownStorage(layout.nbytes), layout, memory, [1])
        with pytest.raises(EngineUnavailable, match="forgot a region"):
            await bank.segment(clip(1, 2))


async def test_a_slow_triton_is_not_waited_for_and_its_region_is_kept_from_others(
    triton: LocalTriton, toy_repository: Path, prefix: str
) -> None:
    video = Video()
    async with (
        triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as engine,
        impatient(triton.url, prefix) as other,
    ):
        await follow(video, engine, first=1, last=4)
        (region,) = regions(prefix)
        with paused(toy_repository):
            assert "no masks within" in str(await failed(video, other, 5))
            assert region in regions(prefix)  # Triton may still write there
            await failed(video, other, 5)
            assert region in regions(prefix)
        await until(lambda: regions(prefix) == [])
        await follow(video, engine, first=5, last=8)
        assert video.rebuilds == 3
    assert regions(prefix) == []


async def test_a_request_of_unknown_fate_is_not_sent_again(
    triton: LocalTriton, toy_repository: Path, prefix: str
) -> None:
    """It may still write into the bank: a second one would write there too."""
    video = Video()
    async with triton_engine(
        triton.url,
        "toy",
        limits=EngineLimits(clip_deadline_s=1.0),
        memory=SharedMemory(prefix=prefix),
    ) as engine:
        await follow(video, engine, first=1, last=4)
        with paused(toy_repository) as held:
            clip = asyncio.create_task(failed(video, engine, 5))
            await until(held.exists)  # the model has it: what waits from now on is another one
            await until(lambda: clip.done() or waiting(triton) > 0)
            assert clip.done()
            assert "no masks within" in str(await clip)
        await until_it_works(video, engine, 5)


@pytest.mark.parametrize("verb", ["segment", "memorize"])
async def test_a_bank_is_dirty_while_triton_may_write_into_it(
    triton: LocalTriton, toy_repository: Path, prefix: str, verb: str
) -> None:
    video = Video()
    async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
        await follow(video, engine, first=1, last=4)
        (path,) = regions(prefix)
        assert RegionHeader.read(path.read_bytes()) is not None
        if verb == "memorize":
            video.version += 1  # as if another gateway had gone on: it is built anew there
        with paused(toy_repository, verb) as held:
            clip = asyncio.create_task(video.append(engine, 5, 6))
            await until(held.exists)
            assert RegionHeader.read(path.read_bytes()) is None
        await clip
        assert regions(prefix) == [path]
        assert RegionHeader.read(path.read_bytes()) is not None


async def test_a_network_that_is_cut_and_restored(
    triton: LocalTriton, toy_repository: Path, prefix: str
) -> None:
    video, relay = Video(), Relay(triton.url)
    async with (
        relay.running(),
        triton_engine(relay.url, "toy", memory=SharedMemory(prefix=prefix)) as engine,
    ):
        await follow(video, engine, first=1, last=4)
        with paused(toy_repository) as held:
            clip = asyncio.create_task(failed(video, engine, 5))
            await until(held.exists)
            relay.cut()
            await clip
        await failed(video, engine, 5)
        relay.restore()
        await until_it_works(video, engine, 5)
        await follow(video, engine, first=7, last=8)
        await until(lambda: len(regions(prefix)) == 1)
    assert regions(prefix) == []


async def test_other_weights_are_taken_up_with_banks_of_their_own(
    toy_repository: Path, toy_folder: Path, prefix: str, tmp_path: Path
) -> None:
    newer = {**WEIGHTS, "steepness": np.array(9.0, np.float32)}
    write_toy_model(tmp_path / "weights", weights=newer)
    write_repository(tmp_path / "weights", "toy", tmp_path / "newer", threads=1)
    video = Video()
    with local_triton(toy_repository) as server:
        port = int(server.url.rpartition(":")[2])
        async with triton_engine(server.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
            await follow(video, engine, first=1, last=4)
            old = engine.spec.weights_sha256
            server.process.kill()
            server.process.wait()
            with local_triton(tmp_path / "newer", grpc_port=port):
                answer = await until_it_works(video, engine, 5)
                assert engine.spec.weights_sha256 != old
                assert answer.weights_sha256 == engine.spec.weights_sha256
                assert video.rebuilds == 2
                await until(lambda: len(regions(prefix)) == 1)


@pytest.mark.parametrize(("wrong", "right"), [("float16", "float32"), ("weights_sha256", "other")])
async def test_a_model_that_breaks_the_contract_is_refused(
    toy_folder: Path, tmp_path: Path, wrong: str, right: str
) -> None:
    write_repository(toy_folder, "toy", tmp_path, threads=1)
    for config in (tmp_path / "toy_memorize/config.pbtxt", tmp_path / "toy_segment/config.pbtxt"):
        tell_otherwise(config, wrong, right)
    with local_triton(tmp_path) as server, pytest.raises(ModelMismatch):
        async with triton_engine(server.url, "toy"):
            pass


def tell_otherwise(config: Path, wrong: str, right: str) -> None:
    """Change what a model says about itself."""
    lines = config.read_text().splitlines()
    spec = next(line for line in lines if line.startswith('parameters { key: "tamvt"'))
    config.write_text("\n".join(lines).replace(spec, spec.replace(wrong, right)))


def harm(region: Path, damage: str) -> None:
    """Write over a region, as a broken program might."""
    data = region.read_bytes()
    made = {
        "header": b"NONSENSE" + data[8:],
        "half": data[: len(data) // 2],
        "empty": b"",
        "larger": data + bytes(100),
        "dirty": data[:12] + b"\1" + data[13:],
        "foreign": bytes(reversed(data)),
    }
    region.write_bytes(made[damage])
    os.utime(region, (0, 0))  # some time ago


@pytest.mark.parametrize("damage", ["header", "half", "empty", "larger", "dirty", "foreign"])
async def test_a_damaged_region_is_rebuilt_and_never_read(
    triton: LocalTriton, prefix: str, damage: str
) -> None:
    video = Video()
    async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
        await follow(video, engine, first=1, last=4)
        (path,) = regions(prefix)
        harm(path, damage)
        await follow(video, engine, first=5, last=8)
        assert video.rebuilds == 2
        async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)):
            await until(lambda: path not in regions(prefix))  # swept


async def test_shared_memory_that_is_used_up_is_no_failure(
    triton: LocalTriton, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept, late = Video(session_id="kept"), Video(session_id="late")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
        await follow(kept, engine, first=1, last=4)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))  # no larger file from now on
        try:
            await follow(late, engine, first=1, last=4)
            await follow(kept, engine, first=5, last=8)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (kept.rebuilds, late.rebuilds) == (1, 1)
        await follow(late, engine, first=5, last=6)
    assert len([record for record in caplog.records if "inline" in record.message]) == 1
    assert regions(prefix) == []


async def test_regions_of_a_killed_process_are_swept(triton: LocalTriton, prefix: str) -> None:
    dirty = Region.create(Path(f"/dev/shm/{prefix}-0123456789abcdef-dead"), 8192)
    dirty.close()  # as the kernel does
    stale = Path(f"/dev/shm/{prefix}-0123456789abcdef-idle")
    video = Video()
    async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
        await until(lambda: regions(prefix) == [])
        await follow(video, engine, first=1, last=2)
        (region,) = regions(prefix)
        shutil.copy(region, stale)
        os.utime(stale, (0, 0))
        async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)):
            await until(lambda: regions(prefix) == [region])  # one is used, the other is idle
        await follow(video, engine, first=3, last=4)
        assert video.rebuilds == 1
