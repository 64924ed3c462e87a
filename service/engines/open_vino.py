"""OpenVINO, in bf16 or fp32: each shape is compiled once, and kept in memory and on disk.

Imported where it is wanted: the package is an extra.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import openvino
from numpy.typing import NDArray

from service.engines import static_graph
from service.engines.compiled_files import CompiledFiles
from service.engines.inference import Inference
from service.engines.onnx_runtime import FAILURES, join_lines
from service.engines.static_graph import Shapes, read_static
from service.errors import EngineUnavailable

Precision = Literal["bf16", "fp32"]
KEPT_SHAPES: Final = 8  # of each graph; one takes some 70 MB
SOURCES: Final = (Path(__file__), Path(static_graph.__file__))
RECIPE: Final = hashlib.sha256(  # how it is compiled
    b"".join(source.read_bytes() for source in SOURCES)
).hexdigest()
HINTS: Final = {"bf16": "bf16", "fp32": "f32"}


@cache
def open_core() -> openvino.Core:
    """Return the process's one OpenVINO, which stays until it ends.

    It gives the thread that opens it a stack for signals, and takes that away from under it when
    another thread closes it: the next signal, the one to stop perhaps, would kill the process.
    """
    return openvino.Core()


@dataclass(frozen=True, slots=True)
class OpenVino:
    """OpenVINO on this processor, with a number of threads for one run."""

    core: openvino.Core
    precision: Precision
    threads: int
    files: CompiledFiles | None  # none: nothing is kept on disk

    @property
    def name(self) -> str:
        """Return what an engine's identity says of it."""
        return f"openvino/{self.precision}"

    def open(self, path: Path, outputs: Sequence[str]) -> OpenVinoGraph:
        """Return a graph; its shapes are compiled when they come first."""
        return OpenVinoGraph(self, path, tuple(outputs))

    def compile(self, path: Path, shapes: Shapes, identity: str) -> openvino.CompiledModel:
        """Return the graph in `path` for these shapes of its inputs, from disk if it is there."""
        config = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # two workers would be pinned to the same processors
        }
        key = json.dumps(
            [openvino.__version__, identify_processor(), RECIPE, config, identity, shapes]
        )
        stored = self.files.read(key) if self.files else None
        if stored is not None:
            try:
                return self.core.import_model(io.BytesIO(stored), "CPU", config)
            except RuntimeError:  # another build of the same version: compiled again
                pass
        with tempfile.TemporaryDirectory() as folder:
            model = read_static(self.core, path, shapes, Path(folder))
            compiled = self.core.compile_model(model, "CPU", config)
        if self.files:
            self.files.write(key, compiled.export_model().getvalue())
        return compiled


class OpenVinoGraph:
    """One graph in OpenVINO, compiled for the shapes that are run."""

    def __init__(self, runtime: OpenVino, path: Path, outputs: tuple[str, ...]) -> None:
        self._runtime, self._path, self._outputs = runtime, path, outputs
        self._identity = identify_graph(path)
        self._lock = threading.Lock()
        self._compiled: OrderedDict[str, openvino.CompiledModel] = OrderedDict()

    def run(self, inputs: Mapping[str, NDArray[Any]], inference: Inference) -> dict[str, Any]:
        """See `inference.Graph.run`. The first run of a shape takes the time to compile it."""
        try:
            request = self._compile({name: each.shape for name, each in inputs.items()})
            with inference.stoppable(request.cancel):
                request.start_async(dict(inputs), share_inputs=True)
                request.wait()
        except (RuntimeError, *FAILURES) as error:
            raise EngineUnavailable(f"the model failed: {join_lines(error)}") from error
        # Copies: the request's own arrays are written again by its next run.
        return {name: np.array(request.get_tensor(name).data) for name in self._outputs}

    @property
    def shapes(self) -> int:
        """Return for how many shapes it is compiled now."""
        return len(self._compiled)

    def _compile(self, shapes: Shapes) -> openvino.InferRequest:
        key = json.dumps(shapes)
        with self._lock:
            compiled = self._compiled.get(key)
            if compiled is None:
                compiled = self._runtime.compile(self._path, shapes, self._identity)
                self._compiled[key] = compiled
                if len(self._compiled) > KEPT_SHAPES:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
        return compiled.create_infer_request()


def identify_graph(path: Path) -> str:
    """Return a graph's name and digest; the graph itself names the digest of its weights' file."""
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def identify_processor() -> str:
    """Return the processor's name and abilities as Linux tells them."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = [next((x for x in lines if x.startswith(name)), "") for name in ("model name", "flags")]
    return " ".join(told)


def computes_bf16() -> bool:
    """Return whether this processor computes in bf16, rather than imitating it."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(identify_processor().split())
