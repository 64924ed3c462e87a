"""Model repositories for Triton, in each of the three ways."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from model.core.contract import METADATA_KEY, ModelSpec, segment_inputs, weights_version
from model.core.memory import MAX_CAPACITY
from model.export.triton.config import Backend, config_text, list_shapes, make_profile, write_shapes
from model.export.triton.repository import BACKENDS, GRAPHS, write_repository
from tests.support.running import ROOT
from tests.support.toy_model import SPEC, write_toy_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_toy_model(folder)
    return folder


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    return chosen


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_each_model_has_its_own_copy_of_the_weights(
    weights: Path, tmp_path: Path, backend: Backend
) -> None:
    spec = write_repository(weights, "toy", tmp_path, backend=backend)
    version = str(weights_version(spec))
    more = {"python": {f"{version}/model.py"}, "tensorrt": {"trtexec.args"}}.get(backend, set())
    expected = {"config.pbtxt", f"{version}/model.onnx", f"{version}/toy.weights", *more}
    for verb in GRAPHS:
        assert files(tmp_path / f"toy_{verb}") == expected
        copied = tmp_path / f"toy_{verb}" / version / "toy.weights"
        assert not copied.is_symlink()
        assert copied.read_bytes() == (weights / "toy.weights").read_bytes()


def test_names_and_tensors_are_the_same_in_all_three(weights: Path, tmp_path: Path) -> None:
    told = set()
    for backend in BACKENDS:
        write_repository(weights, "toy", tmp_path / backend, backend=backend)
        text = (tmp_path / backend / "toy_segment" / "config.pbtxt").read_text()
        lines = text.splitlines()
        wanted = ("name:", "input", "output", "max_batch", 'parameters { key: "tamvt"')
        told.add("\n".join(line for line in lines if line.startswith(wanted)))
    assert len(told) == 1


def test_the_card_is_in_the_parameters_of_both(weights: Path, tmp_path: Path) -> None:
    spec = write_repository(weights, "toy", tmp_path)
    for verb in GRAPHS:
        text = (tmp_path / f"toy_{verb}" / "config.pbtxt").read_text()
        escaped = spec.to_json().replace('"', '\\"')
        assert f'key: "{METADATA_KEY}" value {{ string_value: "{escaped}" }}' in text


def test_writing_again_leaves_nothing_of_older_weights(weights: Path, tmp_path: Path) -> None:
    write_repository(weights, "toy", tmp_path)
    older = tmp_path / "toy_segment" / "7"
    older.mkdir()
    write_repository(weights, "toy", tmp_path)
    assert not older.exists()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other_memorize"):
        write_repository(tmp_path, "other", tmp_path / "repository")


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_graph_says_how_many_ran_together(weights: Path, tmp_path: Path, batch: int) -> None:
    spec = write_repository(weights, "toy", tmp_path)
    path = tmp_path / "toy_segment" / str(weights_version(spec)) / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = list_shapes(spec, "segment", (64, 96), batch=batch, length=2, slots=9, objects=1)
    inputs = {
        tensor.name: np.zeros(wanted[tensor.name], tensor.dtype) for tensor in segment_inputs(spec)
    }
    (sizes,) = session.run(["batch_size"], inputs)
    assert sizes.tolist() == [[batch]] * batch
    assert sizes.dtype == np.int32


def test_the_text_is_the_message_that_it_was() -> None:
    kept = Path(__file__).with_name("toy_segment.pbtxt").read_text()
    text = config_text(SPEC, "segment", backend="onnxruntime", threads=3, cache="/cache")
    assert text_format.Parse(text, ModelConfig()) == text_format.Parse(kept, ModelConfig())


def test_a_gpu_is_warmed_up_for_every_bucket() -> None:
    buckets = replace(SPEC.buckets, sizes=((64, 96), (96, 64)), clip_lengths=(1, 2))
    spec = replace(SPEC, buckets=buckets)
    text = config_text(spec, "segment", backend="tensorrt")
    # 2 sizes, 2 lengths, 1 number of slots, 2 of objects, 2 batch sizes
    assert text.count("model_warmup") == 2 * 2 * 1 * 2 * 2
    assert config_text(spec, "segment", backend="python").count("model_warmup") == 2 * 2 * 1 * 2


def test_profiles_cover_every_clip_and_memory_that_a_session_may_ask_for() -> None:
    least, usual, largest = make_profile(SPEC, "segment")
    assert least.keys() == usual.keys() == largest.keys()
    lengths, slots = (1, SPEC.max_clip_length), (1, MAX_CAPACITY)
    buckets = product(SPEC.buckets.objects, SPEC.buckets.batch, lengths, slots)
    for objects, batch, length, n in buckets:
        served = list_shapes(
            SPEC, "segment", (64, 96), batch=batch, length=length, slots=n, objects=objects
        )
        for name, shape in served.items():
            assert all(np.array(least[name]) <= shape)
            assert all(shape <= np.array(largest[name]))


def test_shapes_are_written_as_tensorrt_reads_them() -> None:
    assert (
        write_shapes({"frames": (1, 2, 64, 96, 3), "age": (1, 9)}) == "frames:1x2x64x96x3,age:1x9"
    )


def test_the_tensorrt_provider_is_given_its_profiles_and_a_cache_of_these_weights() -> None:
    text = config_text(SPEC, "segment", backend="onnxruntime", cache="/cache")
    for option in ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"):
        assert f'key: "{option}" value: "frames:' in text
    assert f'"/cache/toy_segment-{SPEC.weights_sha256[:16]}"' in text


def test_the_command_writes_the_shipped_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model", "export", "--triton", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "tamvt-mobile for Triton's python backend" in run.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "tamvt-mobile_memorize",
        "tamvt-mobile_segment",
    }


def test_the_command_names_a_model_that_is_not_there(tmp_path: Path) -> None:
    words = ["--from", str(tmp_path), "--triton", str(tmp_path / "repository")]
    command = [sys.executable, "-m", "model", "export", "toy", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 1
    assert "toy_memorize.onnx" in run.stderr


def test_plans_are_not_built_without_their_tool(tmp_path: Path) -> None:
    script = ROOT / "deploy" / "triton" / "build_engine.sh"
    run = subprocess.run(
        [str(script), str(tmp_path)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("build_engine: trtexec is not on PATH")


def test_other_weights_are_another_version() -> None:
    assert weights_version(SPEC) > 0
    other: ModelSpec = replace(SPEC, weights_sha256="f" * 64)
    assert weights_version(SPEC) != weights_version(other) == 2**28
