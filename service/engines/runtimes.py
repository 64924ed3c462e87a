"""Which runtime runs a model: what the operator chose, if this machine can, or the faster one."""

from __future__ import annotations

import importlib.util
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from service.engines.canary import try_in_child
from service.engines.compiled_files import CompiledFiles
from service.engines.graphs import Graphs
from service.engines.onnx_runtime import ONNX_RUNTIME
from service.errors import Misconfigured

if TYPE_CHECKING:
    from service.engines.open_vino import OpenVino, Precision

RuntimeName = Literal["auto", "onnxruntime", "openvino"]
FILES_BYTES: Final = 2**29
MOST_LOSS: Final = 0.3  # J&F, in points, that `auto` gives for speed
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """The runtime that is wanted, and the folder of what it compiles; none: not kept."""

    name: RuntimeName = "onnxruntime"
    files: Path | None = None


ONNX_RUNTIME_ONLY: Final = RuntimeOptions()


def choose_runtime(
    graphs: Graphs, folder: Path, options: RuntimeOptions, *, threads: int
) -> Graphs:
    """Return the graphs, which are on ONNX Runtime, on the runtime that is wanted.

    `auto` takes OpenVINO where it is installed, the processor computes in bf16, and what the model
    loses by it was measured and is little. A runtime that fails its canary is named in the log,
    with the numbers that differ. Raise Misconfigured if OpenVINO is asked for and not installed.
    """
    if options.name == "onnxruntime":
        return graphs
    if importlib.util.find_spec("openvino") is None:
        if options.name == "auto":
            return graphs
        raise Misconfigured("TAMVT_RUNTIME: pip install 'tamvt-serve[openvino]'")
    from service.engines.open_vino import computes_bf16

    precision: Precision = "bf16" if computes_bf16() else "fp32"
    name, spec = f"openvino/{precision}", graphs.spec
    if options.name == "auto":
        loss = read_measured_loss(
            folder, spec.name, weights_sha256=spec.weights_sha256, runtime=name
        )
        if not is_worth(precision, loss):
            return graphs
    reason = try_once(folder, spec.name, options, precision=precision, threads=threads)
    if reason is not None:
        LOG.warning("%s is not used for %s, but %s: %s", name, spec.name, ONNX_RUNTIME, reason)
        return graphs
    return graphs.on(open_vino(precision=precision, threads=threads, files=options.files), folder)


def is_worth(precision: Precision, loss: float | None) -> bool:
    """Return whether `auto` takes OpenVINO: in bf16, where the loss was measured and is little."""
    return precision == "bf16" and loss is not None and loss <= MOST_LOSS


def open_vino(*, precision: Precision, threads: int, files: Path | None) -> OpenVino:
    """Return OpenVINO, which keeps what it compiles in the folder `files`."""
    from service.engines.open_vino import OpenVino, open_core

    kept = CompiledFiles(files, limit_bytes=FILES_BYTES) if files else None
    return OpenVino(open_core(), precision, threads, kept)


def read_measured_loss(
    folder: Path, name: str, *, weights_sha256: str, runtime: str
) -> float | None:
    """Return the points of J&F that a runtime loses, by `<name>.runtimes.json`.

    None where there is no such file or it is of other weights. `scripts.runtime_quality` writes it.
    """
    try:
        told = json.loads((folder / f"{name}.runtimes.json").read_text(encoding="utf-8"))
        if told["weights_sha256"] != weights_sha256:
            return None
        return float(told["loss"][runtime])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def try_once(
    folder: Path, name: str, options: RuntimeOptions, *, precision: Precision, threads: int
) -> str | None:
    """Return why the canary failed, or None; what it passed on this machine it need not again."""
    import openvino

    from service.engines.open_vino import RECIPE, identify_graph, identify_processor

    graphs = [identify_graph(folder / f"{name}_{verb}.onnx") for verb in ("memorize", "segment")]
    machine = [openvino.__version__, identify_processor(), RECIPE, precision, threads]
    receipt = json.dumps(["canary", machine, graphs])
    kept = CompiledFiles(options.files, limit_bytes=FILES_BYTES) if options.files else None
    if kept is not None and kept.read(receipt) is not None:
        return None
    reason = try_in_child(folder, name, threads=threads, precision=precision, files=options.files)
    if reason is None and kept is not None:
        kept.write(receipt, b"passed")
    return reason
