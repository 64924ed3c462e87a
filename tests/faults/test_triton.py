"""Gateways with Triton as their engine: what is killed, slow, cut off or used up there."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from tritonclient.grpc import InferenceServerClient

from tests.faults.gateways import Gateway, gateways
from tests.faults.relays import relay_to
from tests.faults.sending import Sender, append, chunks_of, happening, start, undisturbed
from tests.faults.tritons import TritonServer, running_triton
from tests.support.redis_servers import RedisServer, running_redis, wait_until
from tests.support.running import PATIENCE_S, ROOT, Api, environment, problem, tamvt
from tests.support.toy_model import WEIGHTS, write_toy_model
from tests.support.tritons import paused, write_gated_repository


@pytest.fixture(scope="module")
def repository(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("repository")
    write_gated_repository(toy_folder, target)
    return target


@pytest.fixture(scope="module")
def triton(repository: Path) -> Iterator[TritonServer]:
    """A Triton that is started again by whoever kills it."""
    with running_triton(repository) as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def regions() -> set[Path]:
    """The files of all regions of this host."""
    return set(Path("/dev/shm").glob("tamvt-bank-*"))


@contextmanager
def served(
    count: int, triton: TritonServer, redis: RedisServer, **settings: object
) -> Iterator[list[Gateway]]:
    """Gateways on this Triton; at the end no region is left, here or in Triton's list."""
    given = {"engine": "triton", "triton_url": triton.url, "redis_url": redis.url}
    given["canary_interval_s"] = "0"  # its region would come and go among those that are counted
    with gateways(count, Path("/nowhere"), **{**given, **settings}) as found:
        yield list(found)
    wait_until(lambda: not regions(), what="the end of all regions")
    client = InferenceServerClient(triton.url)
    assert not client.get_system_shared_memory_status().regions
    client.close()


def test_gateways_in_turn_use_one_bank(
    seed: int, triton: TritonServer, redis: RedisServer, api: Api
) -> None:
    chunks = chunks_of(seed)
    with served(2, triton, redis) as pair:
        sender = Sender(pair, start(pair[0].url))
        for numbers in chunks:
            sender.send(numbers)
            assert len(regions()) == 1
        sender.check(pair[1].url, undisturbed(api, chunks))
        assert not sender.told


def test_a_killed_gateway_leaves_a_session_that_another_goes_on_with(
    seed: int, triton: TritonServer, redis: RedisServer, api: Api, repository: Path
) -> None:
    chunks, chosen = chunks_of(seed), random.Random(seed)
    with served(2, triton, redis) as (first, second):
        sender = Sender([first, second], start(second.url))
        for number, numbers in enumerate(chunks):
            if number != len(chunks) // 2:
                sender.send(numbers)
                continue
            with paused(repository) as held, ThreadPoolExecutor(1) as pool:
                lost = pool.submit(append, first.url, sender.session, numbers)
                wait_until(held.exists, what="a clip in Triton")
                time.sleep(chosen.uniform(0, 0.1))
                first.kill()
                assert isinstance(lost.exception(), httpx.TransportError)
            first.start()
            sender.send(numbers)
        sender.check(second.url, undisturbed(api, chunks))
        wait_until(lambda: len(regions()) == 1, what="the end of the killed gateway's region")
        assert second.requests_in_flight() == 0


def test_a_gateway_killed_between_its_memory_and_its_commit_loses_nothing(
    triton: TritonServer, redis: RedisServer, api: Api, repository: Path
) -> None:
    """Its bank remembers a clip that Redis never hears of: nobody may go on from it."""
    chunks = [range(1, 5), range(5, 7), range(7, 11)]
    with served(2, triton, redis) as (first, second):
        sender = Sender([first], start(second.url))
        sender.send(chunks[0])
        before = segmented(triton)
        with paused(repository) as held, ThreadPoolExecutor(1) as pool, redis.client() as client:
            lost = pool.submit(append, first.url, sender.session, chunks[1])
            wait_until(held.exists, what="a clip in Triton")
            client.client_pause(100_000, all=False)  # it may read, but not commit
            held.with_name("closed").unlink()
            wait_until(lambda: segmented(triton) > before, what="the end of the clip")
            time.sleep(0.5)  # it is remembered, and its commit waits for Redis
            first.kill()
            assert isinstance(lost.exception(), httpx.TransportError)
            client.client_unpause()
        sender = Sender([second], sender.session, acknowledged=sender.acknowledged)
        for numbers in chunks[1:]:
            sender.send(numbers)
        sender.check(second.url, undisturbed(api, chunks))
        first.start()
        wait_until(lambda: len(regions()) == 1, what="the end of the killed gateway's region")


def segmented(triton: TritonServer) -> int:
    """How many requests for masks Triton has answered."""
    client = InferenceServerClient(triton.url)
    statistics = client.get_inference_statistics("toy_segment", as_json=True)
    client.close()
    counts = (model["inference_stats"]["success"] for model in statistics["model_stats"])
    return sum(int(each.get("count", 0)) for each in counts)


def test_a_slow_old_owner_cannot_write(
    triton: TritonServer, redis: RedisServer, api: Api, repository: Path
) -> None:
    """A gateway stops in the middle of an append; another one does it; the first wakes up."""
    chunks = [range(1, 17), range(17, 19)]
    with served(2, triton, redis) as (slow, quick), ThreadPoolExecutor(1) as pool:
        sender = Sender([quick], start(quick.url))
        with paused(repository) as held:
            late = pool.submit(append, slow.url, sender.session, chunks[0])
            wait_until(held.exists, what="a clip in Triton")
            slow.signal(signal.SIGSTOP)
        for numbers in chunks:
            sender.send(numbers)
        slow.signal(signal.SIGCONT)
        refused = late.result()
        assert problem(refused) == (409, "conflict")
        assert refused.json()["expected"] == 19
        sender.check(slow.url, undisturbed(api, chunks))


def test_a_killed_triton_loses_nothing(
    seed: int, triton: TritonServer, redis: RedisServer, api: Api
) -> None:
    chunks, chosen = chunks_of(seed), random.Random(seed)
    with served(1, triton, redis) as (gateway,):
        sender = Sender([gateway], start(gateway.url))
        for numbers in chunks[:2]:
            sender.send(numbers)
        ports = (redis.port, triton.port)
        open_files = gateway.open_files(apart_from=ports)

        def fault() -> None:
            triton.kill()
            triton.start()

        usual_s = sender.seconds_a_frame * len(chunks[2])
        with happening(fault, after_s=chosen.uniform(0, usual_s)):
            for numbers in chunks[2:]:
                sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) <= {"engine-unavailable"}
        wait_until(
            lambda: gateway.open_files(apart_from=ports) == open_files,
            what="the end of what the restart has opened",
        )
        assert gateway.requests_in_flight() == 0


def test_a_slow_triton_is_a_clear_answer_and_no_harm(
    triton: TritonServer, redis: RedisServer, api: Api, repository: Path
) -> None:
    chunks = chunks_of(0)
    with served(1, triton, redis, clip_deadline_s=3) as (gateway,):
        sender = Sender([gateway], start(gateway.url))
        sender.send(chunks[0])
        (region,) = regions()
        with paused(repository):
            answer = append(gateway.url, sender.session, chunks[1])
            assert problem(answer) == (503, "engine-unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            # Triton may still write there: nobody else is given it, and it is not taken away.
            assert region in regions()
            assert httpx.get(f"{gateway.url}/readyz", timeout=PATIENCE_S).status_code == 200
        for numbers in chunks[1:]:
            sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        wait_until(lambda: len(regions()) == 1, what="the end of the quarantine")


def test_a_session_tells_which_weights_made_its_newest_masks(
    repository: Path, redis: RedisServer, tmp_path: Path
) -> None:
    newer = {**WEIGHTS, "steepness": np.array(9.0, np.float32)}
    write_toy_model(tmp_path / "weights", weights=newer)
    write_gated_repository(tmp_path / "weights", tmp_path / "newer")
    with running_triton(repository) as triton, served(1, triton, redis) as (gateway,):
        sender = Sender([gateway], start(gateway.url))

        def told() -> tuple[str, str]:
            """The weights of the session, and those that are served."""
            with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as http:
                session = http.get(f"/v1/sessions/{sender.session}").json()
                (model,) = http.get("/v1/models").json()["models"]
            return session["weights_sha256"], model["weights_sha256"]

        sender.send(range(1, 5))
        old, served_first = told()
        assert old == served_first
        triton.kill()
        triton.repository = tmp_path / "newer"
        triton.start()
        sender.send(range(5, 9))
        assert len({old, *told()}) == 2
        assert told()[0] == told()[1]


def test_while_triton_is_away_the_answer_comes_at_once(
    triton: TritonServer, redis: RedisServer
) -> None:
    with served(1, triton, redis) as (gateway,):
        session = start(gateway.url)
        triton.kill()
        append(gateway.url, session, range(1, 3))
        began = time.monotonic()
        answers = [append(gateway.url, session, range(1, 3)) for _ in range(3)]
        assert time.monotonic() - began < 20  # of the 60 s that each clip may take
        assert {problem(answer) for answer in answers} == {(503, "engine-unavailable")}
        assert httpx.get(f"{gateway.url}/readyz", timeout=PATIENCE_S).status_code == 503
        assert httpx.get(f"{gateway.url}/healthz", timeout=PATIENCE_S).status_code == 200
        triton.start()
        wait_until(
            lambda: append(gateway.url, session, range(1, 3)).status_code == 200, what="an answer"
        )


def test_a_network_to_triton_that_is_cut_is_told_and_survived(
    seed: int, triton: TritonServer, redis: RedisServer, api: Api, repository: Path
) -> None:
    chunks = chunks_of(seed)
    with (
        relay_to(triton.port) as relay,
        served(1, triton, redis, triton_url=f"127.0.0.1:{relay.port}") as (gateway,),
    ):
        sender = Sender([gateway], start(gateway.url))
        sender.send(chunks[0])
        with paused(repository) as held, ThreadPoolExecutor(1) as pool:
            refused = pool.submit(append, gateway.url, sender.session, chunks[1])
            wait_until(held.exists, what="a clip in Triton")
            relay.cut()
            assert problem(refused.result()) == (503, "engine-unavailable")
        answer = append(gateway.url, sender.session, chunks[1])
        assert problem(answer) == (503, "engine-unavailable")
        assert httpx.get(f"{gateway.url}/readyz", timeout=PATIENCE_S).status_code == 503
        relay.restore()
        for numbers in chunks[1:]:
            sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert set(sender.told) <= {"engine-unavailable"}


def test_a_region_that_is_damaged_is_rebuilt(
    seed: int, triton: TritonServer, redis: RedisServer, api: Api
) -> None:
    chunks, chosen = chunks_of(seed), random.Random(seed)
    with served(1, triton, redis) as (gateway,):
        sender = Sender([gateway], start(gateway.url))
        for numbers in chunks:
            sender.send(numbers)
            for region in regions():
                with region.open("r+b") as file:  # its header: which bank it holds
                    file.seek(chosen.randrange(4, 100))
                    file.write(chosen.randbytes(8))
        sender.check(gateway.url, undisturbed(api, chunks))
        assert not sender.told


def test_shared_memory_that_is_used_up_is_no_failure(
    seed: int, triton: TritonServer, redis: RedisServer, api: Api
) -> None:
    chunks = chunks_of(seed)
    with served(1, triton, redis) as (gateway,):
        assert gateway.process is not None
        no_larger = (4096, resource.RLIM_INFINITY)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, no_larger)
        sender = Sender([gateway], start(gateway.url))
        for numbers in chunks:
            sender.send(numbers)
        sender.check(gateway.url, undisturbed(api, chunks))
        assert regions() == set()
        assert not sender.told


def test_a_deleted_session_leaves_no_region(triton: TritonServer, redis: RedisServer) -> None:
    with served(1, triton, redis) as (gateway,):
        session = start(gateway.url)
        answer = append(gateway.url, session, range(1, 5))
        assert answer.json()["batch_sizes"] == [1, 1]
        assert len(regions()) == 1
        httpx.delete(f"{gateway.url}/v1/sessions/{session}", timeout=PATIENCE_S)
        assert regions() == set()


def test_idle_sessions_cost_no_time(triton: TritonServer, redis: RedisServer) -> None:
    with served(1, triton, redis) as (gateway,):
        for number in range(40):
            session = start(gateway.url)
            if number % 4 == 0:
                assert append(gateway.url, session, range(1, 3)).status_code == 200
        assert gateway.process is not None
        process = psutil.Process(gateway.process.pid)
        time.sleep(0.5)
        before = sum(process.cpu_times()[:2])
        time.sleep(1.5)
        assert sum(process.cpu_times()[:2]) - before <= 0.03


def test_a_triton_with_another_model_is_refused_in_one_line(
    triton: TritonServer, tmp_path: Path
) -> None:
    settings = {
        "TAMVT_STATE": str(tmp_path),
        "TAMVT_ENGINE": "triton",
        "TAMVT_TRITON_URL": triton.url,
        "TAMVT_TRITON_START_DEADLINE_S": "1",
    }
    run = subprocess.run(
        tamvt("serve", "--port", "0"),
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("tamvt: TAMVT_TRITON_URL: no Triton with the model 'tamvt-mobile'")
