"""Session locks: what changes a session in this process does so alone.

Other processes are kept out by the store, which refuses a commit that another one came before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.errors import Overloaded


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0  # who has it, and who waits for it
    on_wanted: Callable[[], None] | None = None  # of who has it

    def tell_holder(self) -> None:
        """Tell who has it if somebody else waits for it."""
        if self.on_wanted is not None and self.users > 1:
            self.on_wanted()


class SessionLocks:
    """A lock for each session that is in use; one that nobody uses is forgotten."""

    def __init__(self, *, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._locks: dict[str, _Lock] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def acquire(
        self, session_id: str, *, on_wanted: Callable[[], None] | None = None
    ) -> AsyncIterator[None]:
        """Take the session's lock for the block; raise Overloaded beyond the deadline.

        `on_wanted` is called when somebody else waits for it meanwhile, or does so already.
        """
        mine = self._locks.setdefault(session_id, _Lock())
        mine.users += 1
        mine.tell_holder()
        try:
            try:
                async with asyncio.timeout(self._deadline_s):
                    await mine.lock.acquire()
            except TimeoutError as error:
                raise Overloaded(
                    f"the session is busy for more than {self._deadline_s:g} s"
                ) from error
            mine.on_wanted = on_wanted
            mine.tell_holder()
            try:
                yield
            finally:
                mine.on_wanted = None
                mine.lock.release()
        finally:
            mine.users -= 1
            if not mine.users:
                del self._locks[session_id]
