"""Writes a model that was exported as a repository for Triton, for one of three backends.

    DIR/<name>_memorize/config.pbtxt
    DIR/<name>_memorize/<version>/   the graph, its own copy of the weights, model.py if in Python
    DIR/<name>_segment/...           likewise; its graph also says how many sessions ran together

The version is the number of the weights: a client that asks for it never gets the masks of others.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from model.core.contract import BATCH_SIZE, METADATA_KEY, ModelSpec, weights_version
from model.export.portable import make_portable
from model.export.triton.config import Backend, GraphName, config_text, make_profile, write_shapes
from model.export.triton.tensorrt import fit_tensorrt

BACKENDS: tuple[Backend, ...] = ("python", "onnxruntime", "tensorrt")
GRAPHS: tuple[GraphName, ...] = ("memorize", "segment")
ENGINE_CACHE = "/var/cache/tamvt"


def write_repository(
    folder: Path,
    name: str,
    target: Path,
    *,
    backend: Backend = "python",
    threads: int = 0,
    cache: str = ENGINE_CACHE,
) -> ModelSpec:
    """Write the model `name` in `folder` as a repository; return its spec.

    Older weights of it in `target` are removed.

    `threads` is that of one inference on a CPU (0: one for each processor); `cache` is the folder
    in which ONNX Runtime keeps TensorRT's engines. Raise FileNotFoundError or ContractError where
    there are no such graphs.
    """
    for verb in GRAPHS:
        graph = onnx.load(str(folder / f"{name}_{verb}.onnx"), load_external_data=False)
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        spec = ModelSpec.from_json(metadata.get(METADATA_KEY, ""))
        served = target / spec.graph(verb)
        shutil.rmtree(served, ignore_errors=True)
        version = served / str(weights_version(spec))
        version.mkdir(parents=True)
        if verb == "segment":
            _say_batch_size(graph)
        if backend != "python":
            graph = fit_tensorrt(make_portable(graph))
        (version / "model.onnx").write_bytes(graph.SerializeToString())
        # A copy, not a link: ONNX Runtime refuses weights that lie outside of the graph's folder.
        shutil.copy(folder / f"{name}.weights", version)
        if backend == "python":
            shutil.copy(Path(__file__).with_name("backend.py"), version / "model.py")
        if backend == "tensorrt":
            # An option of trtexec in each line, for deploy/triton/build_engine.sh.
            names = ("--minShapes", "--optShapes", "--maxShapes")
            ranges = zip(names, make_profile(spec, verb), strict=True)
            options = [f"{name}={write_shapes(ends)}" for name, ends in ranges]
            options.append(f"--key={spec.weights_sha256}")
            (served / "trtexec.args").write_text("\n".join(options) + "\n")
        text = config_text(spec, verb, backend=backend, threads=threads, cache=cache)
        (served / "config.pbtxt").write_text(text)
    return spec


def _say_batch_size(graph: onnx.ModelProto) -> None:
    """Add the output `batch_size`, int32 (B, 1): B itself, for each session of the batch."""
    rows = ("rows_of_batch", "batch_column", "batch_value", BATCH_SIZE.name)
    one = helper.make_tensor("one_of_batch", TensorProto.INT64, [1], [1])
    graph.graph.initializer.append(one)
    graph.graph.node.extend(
        [
            helper.make_node("Shape", ["age"], [rows[0]], start=0, end=1),  # (1,): B
            helper.make_node("Concat", [rows[0], "one_of_batch"], [rows[1]], axis=0),  # (B, 1)
            helper.make_node("Cast", [rows[0]], [rows[2]], to=TensorProto.INT32),
            helper.make_node("Expand", [rows[2], rows[1]], [rows[3]]),
        ]
    )
    shape: list[str | int | None] = ["B", 1]
    graph.graph.output.append(helper.make_tensor_value_info(rows[3], TensorProto.INT32, shape))
