"""What a Triton serves, compared with the model contract, and what its errors say."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from model.core.contract import (
    METADATA_KEY,
    ContractError,
    ModelSpec,
    Tensor,
    fixed_axes,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    triton_segment_outputs,
    weights_version,
)
from service.engines.triton.region import Region
from service.engines.triton.regions import PREFIX, SHARED_MEMORY, NoSharedMemory
from service.errors import EngineUnavailable, ModelMismatch

CONTROL_DEADLINE_S = 2.0  # of calls that run no model
OLDEST_SHARING = (2, 51)  # older servers crash if a region is taken away during a request
DATATYPES = {
    "uint8": "UINT8",
    "int32": "INT32",
    "float16": "FP16",
    "float32": "FP32",
    "bool": "BOOL",
}
AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class Served:
    """The model's spec, and why Triton takes no shared memory; empty if it does."""

    spec: ModelSpec
    refusal: str

    @property
    def shares(self) -> bool:
        return not self.refusal


async def compare(client: InferenceServerClient, name: str) -> Served:
    """Return what Triton serves as `name`; raise ModelMismatch, EngineUnavailable."""
    try:
        specs = []
        for graph in (f"{name}_memorize", f"{name}_segment"):
            found = await client.get_model_config(graph, client_timeout=CONTROL_DEADLINE_S)
            text = found.config.parameters[METADATA_KEY].string_value
            try:
                specs.append(ModelSpec.from_json(text))
            except ContractError as error:
                raise ModelMismatch(f"Triton's graph {graph}: {error}") from error
        if specs[0] != specs[1] or specs[0].name != name:
            raise ModelMismatch(f"Triton's two graphs of {name!r} are not of the same model")
        spec = specs[0]
        expected = {
            "memorize": (memorize_inputs(spec), memorize_outputs(spec)),
            "segment": (segment_inputs(spec), triton_segment_outputs(spec)),
        }
        for verb, (inputs, outputs) in expected.items():
            graph, version = spec.graph(verb), str(weights_version(spec))
            there = await client.get_model_metadata(
                graph, version, client_timeout=CONTROL_DEADLINE_S
            )
            wrong = _differences(there.inputs, inputs, spec)
            wrong |= _differences(there.outputs, outputs, spec)
            if wrong:
                names = ", ".join(sorted(wrong))
                raise ModelMismatch(f"Triton's graph {graph} breaks the contract at {names}")
        return Served(spec, await _try_sharing(client))
    except InferenceServerException as error:
        raise EngineUnavailable(f"Triton: {line_of(error)}") from error


async def _try_sharing(client: InferenceServerClient) -> str:
    """Return why Triton takes no shared memory, tried with a small region; empty if it does."""
    server = await client.get_server_metadata(client_timeout=CONTROL_DEADLINE_S)
    version = tuple(int(part) for part in server.version.split(".") if part.isdigit())
    if version < OLDEST_SHARING:
        return f"Triton {server.version} is older than 2.51"
    try:
        region = Region.create(SHARED_MEMORY / f"{PREFIX}-probe-{secrets.token_hex(4)}", 4096)
    except OSError as error:
        return f"there is no shared memory here: {error}"
    try:
        await register(client, region.name, region.nbytes)
        await client.unregister_system_shared_memory(region.name, client_timeout=CONTROL_DEADLINE_S)
    except NoSharedMemory as error:
        return str(error)
    finally:
        region.close()
        region.unlink()
    return ""


async def register(client: InferenceServerClient, name: str, nbytes: int) -> None:
    """Register a region; raise NoSharedMemory if refused, InferenceServerException if away."""
    try:
        await client.register_system_shared_memory(
            name, f"/{name}", nbytes, client_timeout=CONTROL_DEADLINE_S
        )
    except InferenceServerException as error:
        if name_status(error) in AWAY:
            raise
        if name_status(error) != "ALREADY_EXISTS":
            raise NoSharedMemory(f"Triton refuses shared memory: {line_of(error)}") from error


def name_datatype(dtype: np.dtype[Any] | str) -> str:
    """Return Triton's name of a NumPy type."""
    return DATATYPES[np.dtype(dtype).name]


def name_status(error: InferenceServerException) -> str:
    """Return the name of gRPC's status."""
    return str(error.status()).removeprefix("StatusCode.")


def line_of(error: InferenceServerException) -> str:
    """Return Triton's error as one line."""
    return " ".join(str(error.message()).split())[:300]


def _differences(found: Any, wanted: Sequence[Tensor], spec: ModelSpec) -> set[str]:
    """Return the names of tensors that are on one side only, or differ in type or shape."""
    there = {(tensor.name, tensor.datatype, len(tensor.shape)) for tensor in found}
    expected = {(tensor.name, DATATYPES[tensor.dtype], len(tensor.axes)) for tensor in wanted}
    differ = {name for name, *_ in there ^ expected}
    shapes = {tensor.name: tensor.shape for tensor in found}
    for tensor in wanted:
        if tensor.name not in differ:
            pairs = zip(shapes[tensor.name], fixed_axes(spec, tensor), strict=True)
            if any(size not in (None, axis) and axis > 0 for axis, size in pairs):
                differ.add(tensor.name)
    return differ
