"""The processes of one training: one alone, or those that `torchrun` started."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from model.training.errors import ProcessLost

# How long processes wait for each other: longer than any step. One that is killed is noticed at
# once, a machine that loses its power only then.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Distributed:
    """Which of `count` processes this is; number 0 writes."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> "Distributed":
        """Return what RANK, WORLD_SIZE and LOCAL_RANK say, as `torchrun` sets them; one without."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, count, local = (
            int(os.environ.get(name, default))
            for name, default in zip(names, ("0", "1", "0"), strict=True)
        )
        return cls(rank, count, local)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Connect the processes until the block is left, by NCCL between GPUs, else by gloo."""
        if self.count == 1:
            yield
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        with self.together():
            distributed.init_process_group(backend, timeout=PATIENCE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def spread(self, module: nn.Module) -> nn.Module:
        """Return the module so that its gradients become the mean over all processes."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, forward_sync_buffers=False)

    def unsynchronized(self, module: nn.Module, wanted: bool) -> AbstractContextManager[None]:
        """Keep gradients in this process until the block is left, if `wanted`."""
        if wanted and isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return nullcontext()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise ProcessLost where what the processes do together fails: one of them has ended."""
        try:
            yield
        except RuntimeError as error:  # gloo's and NCCL's have no type of their own
            if self.count == 1 or isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).partition("\n")[0]
            raise ProcessLost(f"lost one of {self.count} processes: {reason}") from error

    def average_over_ranks(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Return the mean of each value over all processes."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=device)
        with self.together():
            distributed.all_reduce(shared)
        return (shared / self.count).tolist()

    def gathered(self, text: str) -> list[str]:
        """Return the text of every process, in the order of their numbers."""
        if self.count == 1:
            return [text]
        texts: list[str] = [""] * self.count
        with self.together():
            distributed.all_gather_object(texts, text)
        return texts

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.count > 1:
            with self.together():
                distributed.barrier()
