"""No room for Redis's file: a disk that is really full, and a limit on the file's size."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.gateways import Gateway, gateways
from tests.faults.sending import Sender, chunks_of, start, undisturbed
from tests.support.running import Api

ROOM_BYTES = 16_384  # for a few clips
DISK_BYTES = 4_000_000


@dataclass(frozen=True)
class Room:
    """A state folder, and how its disk becomes full and has room again."""

    state: Path
    fill: Callable[[Gateway], None]
    free: Callable[[Gateway], None]


Opened = Callable[[Path], AbstractContextManager[Room]]


@contextmanager
def small_disk(folder: Path) -> Iterator[Room]:
    """A file system of its own, for which one has to be root."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)],
        check=True,
        capture_output=True,
    )
    filler = folder / "filler"

    def fill(_: Gateway) -> None:
        with filler.open("wb", buffering=0) as file:
            with suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - ROOM_BYTES)

    try:
        yield Room(folder / "state", fill, lambda _: filler.unlink())
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def limited_file(folder: Path) -> Iterator[Room]:
    """Files may not grow beyond some size: what everybody may ask of the kernel."""
    state = folder / "state"

    def limit(gateway: Gateway, size: int) -> None:
        assert gateway.process is not None
        for pid in (gateway.process.pid, *(child.pid for child in gateway.children())):
            with suppress(ProcessLookupError):  # a Redis that just ended
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def fill(gateway: Gateway) -> None:
        largest = max(path.stat().st_size for path in state.rglob("*") if path.is_file())
        limit(gateway, largest + ROOM_BYTES)

    yield Room(state, fill, lambda gateway: limit(gateway, resource.RLIM_INFINITY))


def rooms() -> list[Opened]:
    """Both ways, or the one that needs no rights."""
    asked = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    with suppress(OSError):
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return [small_disk, limited_file]
    return [limited_file]


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.__name__)
def test_a_full_disk_is_told_and_survived(
    room: Opened, seed: int, tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    chunks = chunks_of(seed, frames=48)
    with room(tmp_path / "disk") as place, gateways(1, toy_folder, state=place.state) as (gateway,):
        sender = Sender([gateway], start(gateway.url))
        sender.send(chunks[0])
        place.fill(gateway)
        refused = next(numbers for numbers in chunks[1:] if not sender.try_once(numbers))
        assert set(sender.told) == {"store-unavailable"}
        assert not sender.try_once(refused)
        place.free(gateway)
        for numbers in chunks[chunks.index(refused) :]:
            sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) == {"store-unavailable"}
        assert gateway.requests_in_flight() == 0
