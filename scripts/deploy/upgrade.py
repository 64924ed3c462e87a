"""Upgrade from the release before with a mixed pair of gateways, for real, and compare the masks.

    python -m scripts.deploy.upgrade

One gateway is of the commit before, run from a checkout of its own, the other is today's; both on
one Redis. Sessions begin on the old one. One goes over to the new one and goes on with the masks
of a run that nothing happened to; sent back, the old one refuses it and leaves it as it is. One
stays on the old gateway until that drains, and is then taken over. It needs the history of the
repository, so it is no part of `make test`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from scripts.deploy.stack import StackGateway
from service.local.supervisor import find_free_port
from tests.support import scene
from tests.support.redis_servers import running_redis
from tests.support.running import PATIENCE_S, Api, problem

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "460bd98"  # the last commit that stores sessions as 0.1.0 does (format 2)
STEP = 4


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out beside this one until the block is left."""
    subprocess.run(["git", "worktree", "add", "--quiet", folder, commit], cwd=ROOT, check=True)
    try:
        yield folder
    finally:
        remove = ("git", "worktree", "remove", "--force", str(folder))
        subprocess.run(remove, cwd=ROOT, check=True)


def start_gateway(
    stack: ExitStack, tree: Path, redis_url: str, folder: Path, name: str
) -> StackGateway:
    """Run the gateway of a checkout with the toy model that the old one wrote."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith("TAMVT_")}
    environment |= {
        "PYTHONPATH": f"{tree}:{tree / 'clients/python'}",
        "TAMVT_REDIS_URL": redis_url,
        "TAMVT_WEIGHTS": str(folder / "toy"),
        "TAMVT_MODEL": "toy",
        "TAMVT_ENGINE_THREADS": "1",
    }
    gateway = StackGateway(find_free_port(), folder / f"{name}.log", environment)
    stack.callback(gateway.stop)
    # -P: the working folder is not looked into, so that each gateway is of its own checkout.
    gateway.start((sys.executable, "-P", "-m", "service"))
    return gateway


def append(api: Api, session: str, first: int) -> list[Any]:
    """Append the next frames and return their masks."""
    frames = [scene.png(number, objects=2) for number in range(first, first + STEP)]
    answer = api.append(session, frames, first=first)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["frames"])


def track_undisturbed(api: Api, *, appends: int) -> list[Any]:
    """Return the masks of a session to which nothing happens."""
    session = api.start(objects=2)
    return [mask for k in range(appends) for mask in append(api, session, 1 + k * STEP)]


def upgrade(old: Api, new: Api, drain: StackGateway) -> Iterator[str]:
    """Go through the upgrade, and yield what held."""
    expected = track_undisturbed(new, appends=4)
    moved, staying = old.start(objects=2), old.start(objects=2)
    found = {session: append(old, session, 1) for session in (moved, staying)}
    found[moved] += append(new, moved, 1 + STEP)
    found[staying] += append(old, staying, 1 + STEP)
    assert found[moved] == found[staying] == expected[: 2 * STEP]
    yield "a session of the old gateway goes on in the new one, beside one that stays"
    frames = [scene.png(1 + 2 * STEP, objects=2)]
    refused = old.append(moved, frames, first=1 + 2 * STEP)
    assert problem(refused) == (500, "corrupt-session"), refused.text
    found[moved] += append(new, moved, 1 + 2 * STEP)
    assert found[moved] == expected[: 3 * STEP]
    yield "sent back, it is refused and left as it is"
    drain.stop()
    for session in (moved, staying):
        while len(found[session]) < len(expected):
            found[session] += append(new, session, 1 + len(found[session]))
        assert found[session] == expected
        assert new.masks(session, from_=1).json()["frames"] == expected
    yield "the old gateway drains, and the new one has every session with every mask"


def main() -> int:
    """Return 0 where all held; an assertion tells what did not."""
    with tempfile.TemporaryDirectory(prefix="tamvt-upgrade-") as name, ExitStack() as stack:
        folder = Path(name)
        tree = stack.enter_context(checkout(BEFORE, folder / "before"))
        toy = "import sys; from pathlib import Path; from tests.toy_model import"
        code = f"{toy} write_toy_model; write_toy_model(Path(sys.argv[1]))"
        command = [sys.executable, "-P", "-c", code, str(folder / "toy")]
        path = {**os.environ, "PYTHONPATH": f"{tree}:{tree / 'clients/python'}"}
        subprocess.run(command, env=path, check=True)
        redis = stack.enter_context(running_redis(folder / "redis"))
        gateways = [
            start_gateway(stack, where, redis.url, folder, called)
            for where, called in ((tree, "old"), (ROOT, "new"))
        ]
        old, new = (
            Api(stack.enter_context(httpx.Client(base_url=each.url, timeout=PATIENCE_S)))
            for each in gateways
        )
        for held in upgrade(old, new, gateways[0]):
            print(f"{held}: ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
