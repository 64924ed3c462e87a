"""Banks in shared memory, so that gRPC carries no tensors."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult

from model.core.memory import Memory
from service.engines.triton.bank import TensorLocations, TritonBank
from service.engines.triton.client import TritonClient
from service.engines.triton.layout import TensorLocation, choose_shape, lay_out
from service.engines.triton.models import name_datatype
from service.engines.triton.region import Region, RegionHeader, make_header
from service.engines.triton.regions import Regions


class SharedStorage:
    """A region that holds one bank."""

    def __init__(self, region: Region, client: TritonClient) -> None:
        self.region = region
        self._client = client

    @property
    def nbytes(self) -> int:
        return self.region.nbytes

    def array(self, location: TensorLocation) -> NDArray[Any]:
        return self.region.array(location)

    def mark_dirty(self) -> None:
        self.region.mark_dirty()

    async def announce(self) -> None:
        await self._client.register(self.region.name, self.region.nbytes)

    def input(self, name: str, location: TensorLocation) -> InferInput:
        made = InferInput(name, (1, *location.shape), name_datatype(location.dtype))
        made.set_shared_memory(self.region.name, location.nbytes, location.offset)
        return made

    def output(self, name: str, location: TensorLocation) -> InferRequestedOutput:
        made = InferRequestedOutput(name)
        made.set_shared_memory(self.region.name, location.nbytes, location.offset)
        return made

    def collect(self, result: InferResult, locations: TensorLocations) -> None:
        """Do nothing: Triton has written them there."""


class SharedBanks:
    """The banks of this host's regions."""

    def __init__(self, client: TritonClient, regions: Regions) -> None:
        self._client, self._regions = client, regions
        self._owner = secrets.token_bytes(8)

    async def take(
        self,
        session_id: str,
        *,
        version: int,
        memory: Memory,
        object_ids: Sequence[int],
        model_size: tuple[int, int],
        frames: int,
    ) -> tuple[TritonBank, bool]:
        """Return a bank for the session and whether it holds this memory already.

        Raise NoSharedMemory, Overloaded, EngineUnavailable.
        """
        spec = self._client.served.spec
        shape = choose_shape(
            spec, model_size, slots=memory.capacity, objects=len(object_ids), frames=frames
        )
        layout = lay_out(spec, shape)
        wanted = make_header(
            memory, object_ids, layout, version=version, weights_sha256=spec.weights_sha256
        )
        region = self._find(session_id, wanted)
        hit = region is not None and region.header() == wanted
        if region is None:
            region = await self._regions.create(session_id, layout.nbytes)
        storage = SharedStorage(region, self._client)
        return TritonBank(self._client, spec, storage, layout, memory, object_ids), hit

    def keep(self, session_id: str, bank: TritonBank, *, version: int) -> None:
        """Free the bank, as that of this version of the session, for any process."""
        storage = bank.storage
        assert isinstance(storage, SharedStorage)
        header = make_header(
            bank.memory,
            bank.object_ids,
            bank.layout,
            version=version,
            weights_sha256=bank.weights_sha256,
        )
        storage.region.settle(header, owner=self._owner)
        storage.region.close()

    def give_up(self, bank: TritonBank) -> None:
        """Drop a bank that is of no use; Triton may still write into it."""
        assert isinstance(bank.storage, SharedStorage)
        self._regions.schedule_removal(bank.storage.region)

    async def close(self) -> None:
        """Drop the regions that this process wrote last."""
        await self._regions.drop_owned(self._owner)

    def _find(self, session_id: str, wanted: RegionHeader) -> Region | None:
        """Return the region that holds the wanted bank, or one of this session to build it in."""
        usable: Region | None = None
        for region in self._regions.holding(session_id):
            header = region.header()
            if header == wanted:
                if usable is not None:
                    self._regions.schedule_removal(usable)
                return region
            if header is not None and header.version > wanted.version:
                region.close()  # another process has committed a newer version meanwhile
            elif (
                header is None
                or usable is not None
                or (header.nbytes, header.weights) != (wanted.nbytes, wanted.weights)
            ):
                self._regions.schedule_removal(region)
            else:
                usable = region
        return usable
