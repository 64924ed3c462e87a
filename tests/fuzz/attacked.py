"""The service that is attacked: `tamvt serve` with the toy model and a Redis of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.gateways import Gateway, gateways
from tests.support.redis_servers import running_redis
from tests.support.toy_model import write_toy_model


@contextmanager
def attacked_service(folder: Path) -> Iterator[Gateway]:
    """Serve until the end of the block; little is kept, so that what grows is seen."""
    weights = folder / "toy"
    weights.mkdir()
    write_toy_model(weights)
    settings = {
        "engine_threads": 1,
        "bank_bytes": 20_000_000,
        "request_deadline_s": 10,
        "max_frame_width": 1024,
        "max_frame_height": 1024,
    }
    with (
        running_redis(folder / "redis") as redis,
        gateways(1, weights, redis_url=redis.url, **settings) as (gateway,),
    ):
        yield gateway
