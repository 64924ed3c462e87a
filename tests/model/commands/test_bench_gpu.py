"""The benchmark of a GPU, on the CPU and with a small network: what it runs, finds and tells."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.__main__ import main
from model.commands.bench_gpu import (
    GpuBenchArguments,
    SessionsHeld,
    SweepRow,
    fill_alike,
    write_sessions_table,
    write_sweep_table,
)
from model.core.contract import segment_outputs
from model.evaluation.paced_clips import LATE_S, find_most, pace
from model.export.batched_step import BatchedStep, DeviceSessions, StepSize, prepare_device
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import TrackingNetwork
from model.networks.registry import NETWORKS, Blueprint
from model.networks.tamvt.model import TamVT
from tests.support.small_models import build_tamvt

SIZE = StepSize(height=64, width=96, clip_length=2, memory_size=3, objects=2)
CPU = torch.device("cpu")
# What makes the host wait for the device: a CUDA graph cannot be recorded with it.
ASKS_THE_DEVICE = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero", "masked_select")


@pytest.fixture(scope="module")
def small() -> TamVT:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_tamvt().eval()


def make_step(
    network: TamVT, batch: int, *, half: bool = False, served: TrackingNetwork | None = None
) -> BatchedStep:
    step = BatchedStep(
        served or prepare_device(network, CPU),
        describe(network, "0" * 64),
        SIZE,
        batch=batch,
        half=half,
        recorded=False,
    )
    fill_alike([step])
    return step


def test_a_batched_step_is_the_served_step(small: TamVT) -> None:
    spec, step = describe(small, "0" * 64), make_step(small, 3)
    inputs = {name: each.numpy().copy() for name, each in step.inputs.items()}
    served = TorchRuntime(prepare_serving(small), spec).segment(inputs)
    for wanted, found in zip(segment_outputs(spec), step.run(), strict=True):
        difference = (torch.from_numpy(served[wanted.name]).float() - found.float()).abs().max()
        assert difference <= (1 if wanted.name == "masks" else 2e-2), wanted.name


class Operators(TorchDispatchMode):
    """The names of what is computed while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("half", [False, True])
def test_a_step_can_be_recorded_as_it_never_waits_for_the_device(small: TamVT, half: bool) -> None:
    with Operators() as computed:
        make_step(small, 2, half=half).run()
    assert {name for name in computed.names if name in ASKS_THE_DEVICE} == set()
    assert len(computed.names) > 100
    with Operators() as computed:  # what is served on the CPU does look
        make_step(small, 2, half=half, served=prepare_serving(small)).run()
    assert "_local_scalar_dense" in computed.names


def test_sessions_of_a_batch_are_tracked_as_alone(small: TamVT) -> None:
    """Also with padding, in another order, and when their entries have been replaced."""
    spec = describe(small, "0" * 64)
    steps = [make_step(small, batch) for batch in (1, 4)]
    torch.manual_seed(0)
    together, alone = (DeviceSessions(steps, spec, SIZE, sessions=3) for _ in range(2))
    together.frames.copy_(alone.frames)
    together.frames[:] = together.frames[:1]  # every session sees the same
    alone.frames[:] = together.frames
    for bank, other in zip(together.banks.values(), alone.banks.values(), strict=True):
        bank.copy_(torch.randn(bank.shape))
        other.copy_(bank)
    for _ in range(3):
        batched: dict[int, Tensor] = {}
        for number, masks in zip((2, 0, 1), together.serve([2, 0, 1]), strict=True):
            batched[number] = masks.clone()
        for number in range(3):
            (single,) = alone.serve([number])
            assert (single.int() - batched[number].int()).abs().max() <= 1
    assert (together.ages == alone.ages).all()
    assert together.ages.tolist() == [[2, 1, 0]] * 3 or together.ages.tolist() == [[2, 0, 1]] * 3
    for name, bank in together.banks.items():
        assert torch.allclose(bank.float(), alone.banks[name].float(), atol=2e-2), name


def test_clips_come_at_their_pace_and_no_session_twice_at_once() -> None:
    calls: list[list[int]] = []

    def serve(numbers: Sequence[int]) -> None:
        calls.append(list(numbers))
        time.sleep(0.03)

    begin = time.perf_counter()
    paced = pace(serve, sessions=4, most=3, period_s=0.1, seconds=0.3)
    assert time.perf_counter() - begin > 0.27  # the last clip is there at 275 ms
    assert sorted(number for each in calls for number in each) == sorted([0, 1, 2, 3] * 3)
    assert max(map(len, calls)) <= 3
    assert all(len(set(each)) == len(each) for each in calls)
    assert min(paced.latencies_s) > 0.02
    assert (paced.calls, paced.kept_up) == (len(calls), True)


def test_what_cannot_keep_up_is_given_up() -> None:
    paced = pace(lambda _: time.sleep(LATE_S / 4), sessions=1, most=1, period_s=0.01, seconds=0.1)
    assert not paced.kept_up
    assert len(paced.latencies_s) < 10


@pytest.mark.parametrize("start", [0, 1, 37, 200, 10_000])
@pytest.mark.parametrize("limit", [0, 1, 2, 100, 5_000])
def test_the_most_sessions_are_found_from_any_start(start: int, limit: int) -> None:
    tried: list[int] = []

    def holds(sessions: int) -> bool:
        tried.append(sessions)
        return sessions <= limit

    found = find_most(holds, start=start, most=4_000)
    most = min(limit, 4_000)
    assert most - max(1, 0.05 * most) <= found <= most
    assert len(set(tried)) == len(tried) < 45


def test_no_gpu_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["bench", "gpu"]) == 2
    assert "there is no GPU here; --device cpu tries the benchmark" in capsys.readouterr().err


def test_a_network_that_carries_more_than_a_bank_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "gpu", "--build", "qmvos-mobile", "--device", "cpu"]) == 2
    assert "qmvos-mobile carries more than a bank" in capsys.readouterr().err


def test_the_whole_benchmark_runs_on_the_cpu_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    small: TamVT,
) -> None:
    monkeypatch.setitem(NETWORKS, "tamvt-mobile", Blueprint(small.config, lambda _: small))
    path = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--size", "64x96", "--objects", "1", "2", "--batches", "1", "2"]
    words += ["--rounds", "2", "--seconds", "0.5", "--rate", "2", "--latency-ms", "1900"]
    words += ["--most", "2"]
    assert main(["bench", "gpu", *words, "--json", str(path)]) == 0
    told, whole = capsys.readouterr().out, json.loads(path.read_text())
    assert "no GPU: a trial of the benchmark on the CPU" in told
    assert whole["on_a_gpu"] is False
    assert [(row["objects"], row["batch"]) for row in whole["sweep"]] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]
    assert all(set(row["ms"]) == {"fp32", "bf16"} for row in whole["sweep"])
    assert all(row["changed_pixels"] < 0.1 for row in whole["sweep"])
    assert [row["objects"] for row in whole["memory"]] == [1, 2]
    assert whole["memory"][0]["counted"] == 5 * sum(
        each.slot_bytes((64, 96), objects=1) for each in small.bank_tensors
    )
    assert all(row["sessions"] >= 1 for row in whole["sessions"])
    assert whole["options"]["batches"] == [1, 2]
    assert whole["did_not_fit"] == []


def test_tables_tell_what_a_step_is_enough_for() -> None:
    args = GpuBenchArguments(clip_length=2, rate=30.0)
    row = SweepRow(1, 8, {"fp32": 20.0, "bf16": 8.0}, 0.0125)
    assert write_sweep_table([row], args).splitlines()[2] == (
        "| 1 | 8 | 20.00 | 8.00 | 2000 | 66.7 | 1.25 % |"
    )
    rows = [SessionsHeld(1, 60, 12.0, 40.0, 6.5), SessionsHeld(3, 0)]
    assert write_sessions_table(rows, args).splitlines()[2:] == [
        "| 1 | 60 | 12.0 | 40.0 | 6.5 |",
        "| 3 | 0 | - | - | - |",
    ]
