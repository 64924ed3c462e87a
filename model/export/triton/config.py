"""`config.pbtxt` of a served graph, for each of the three ways Triton can run it.

Axes as in the model contract: B is Triton's batch axis and is left out of `dims`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Literal

from model.core.contract import (
    METADATA_KEY,
    BankTensor,
    ModelSpec,
    Tensor,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    triton_segment_outputs,
)

Backend = Literal["python", "onnxruntime", "tensorrt"]
GraphName = Literal["memorize", "segment"]
Shapes = Mapping[str, tuple[int, ...]]  # a graph's inputs by name, each with B in front

TYPES = {
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "bool": "TYPE_BOOL",
}
QUEUE = 64  # requests that may wait for a model
QUEUE_TIMEOUT_US = 10_000_000  # a request that waits longer is refused; clients may ask for less
GPU_DELAY_US = 500  # worth waiting for other sessions; on a CPU they queue up by themselves


def config_text(
    spec: ModelSpec, verb: GraphName, *, backend: Backend, threads: int = 0, cache: str = ""
) -> str:
    """The whole file. `threads` is that of one inference on a CPU, `cache` a folder for engines."""
    inputs, outputs = tensors(spec, verb)
    parts = [
        f'name: "{spec.graph(verb)}"',
        *_platform(backend),
        f"max_batch_size: {max(spec.buckets.batch)}",
        "version_policy { all { } }",
        *(f"input [ {_tensor(spec, tensor)} ]" for tensor in inputs),
        *(f"output [ {_tensor(spec, tensor)} ]" for tensor in outputs),
        _batching(spec, backend),
        f"instance_group [ {{ kind: KIND_{'CPU' if backend == 'python' else 'GPU'} count: 1 }} ]",
        _parameter(METADATA_KEY, spec.to_json()),
        _parameter("threads", str(threads)),
    ]
    if backend == "onnxruntime":
        parts.append(_tensorrt_provider(spec, verb, cache=cache))
    warm = [_warmup(spec, verb, shapes) for shapes in _warm_shapes(spec, verb, backend)]
    return "\n".join([*parts, *warm]) + "\n"


def tensors(spec: ModelSpec, verb: GraphName) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The inputs and the outputs of a graph as Triton serves it."""
    if verb == "memorize":
        return memorize_inputs(spec), memorize_outputs(spec)
    return segment_inputs(spec), triton_segment_outputs(spec)


def profile(spec: ModelSpec, verb: GraphName) -> tuple[Shapes, Shapes, Shapes]:
    """The least, the usual and the largest shape of every input that is served."""
    buckets = spec.buckets
    heights, widths = zip(*buckets.sizes, strict=True)
    least = shapes(spec, verb, (min(heights), min(widths)), batch=1, length=1, slots=1, objects=1)
    usual = shapes(
        spec,
        verb,
        buckets.sizes[0],
        batch=1,
        length=spec.clip_length,
        slots=max(buckets.memory_sizes),
        objects=1,
    )
    largest = shapes(
        spec,
        verb,
        (max(heights), max(widths)),
        batch=max(buckets.batch),
        length=max(buckets.clip_lengths),
        slots=max(buckets.memory_sizes),
        objects=max(buckets.objects),
    )
    return least, usual, largest


def shapes(
    spec: ModelSpec,
    verb: GraphName,
    size: tuple[int, int],
    *,
    batch: int,
    length: int,
    slots: int,
    objects: int,
) -> Shapes:
    """The shape of each input, B included, in a model size (h, w)."""
    letters = {"B": batch, "L": length, "N": slots, "O": objects, "H": size[0], "W": size[1]}
    bank = {tensor.name: tensor for tensor in spec.bank}
    return {
        tensor.name: tuple(
            letters.get(axis) or _bank_axis(bank.get(tensor.name), axis, size)
            for axis in tensor.axes
        )
        for tensor in tensors(spec, verb)[0]
    }


def shapes_text(shapes: Shapes) -> str:
    """Shapes as TensorRT's tools and provider take them: `name:1x2x3,other:4`."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _bank_axis(tensor: BankTensor | None, axis: str, size: tuple[int, int]) -> int:
    if tensor is None:
        return int(axis)  # the three channels of a frame
    return tensor.tokens(size) if axis == "T" else tensor.channels


def _platform(backend: Backend) -> list[str]:
    if backend == "tensorrt":
        return ['platform: "tensorrt_plan"', 'default_model_filename: "model.plan"']
    if backend == "onnxruntime":
        return ['backend: "onnxruntime"', 'default_model_filename: "model.onnx"']
    return ['backend: "python"']


def _tensor(spec: ModelSpec, tensor: Tensor) -> str:
    channels = {bank.name: bank.channels for bank in spec.bank}
    known = {"C": channels.get(tensor.name.removeprefix("entry_"), -1)}
    dims = (known.get(axis, int(axis) if axis.isdigit() else -1) for axis in tensor.axes[1:])
    return f'{{ name: "{tensor.name}" data_type: {TYPES[tensor.dtype]} dims: {_list(dims)} }}'


def _batching(spec: ModelSpec, backend: Backend) -> str:
    delay = 0 if backend == "python" else GPU_DELAY_US
    return "\n".join(
        [
            "dynamic_batching {",
            f"  max_queue_delay_microseconds: {delay}",
            "  default_queue_policy {",
            "    timeout_action: REJECT",
            f"    default_timeout_microseconds: {QUEUE_TIMEOUT_US}",
            "    allow_timeout_override: true",
            f"    max_queue_size: {QUEUE}",
            "  }",
            "}",
        ]
    )


def _tensorrt_provider(spec: ModelSpec, verb: GraphName, *, cache: str) -> str:
    """TensorRT under ONNX Runtime; what it cannot run falls back to CUDA."""
    least, usual, largest = profile(spec, verb)
    options = {
        "precision_mode": "FP16",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"{cache}/{spec.graph(verb)}-{spec.weights_sha256[:16]}",
        "trt_timing_cache_enable": "1",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_profile_min_shapes": shapes_text(least),
        "trt_profile_opt_shapes": shapes_text(usual),
        "trt_profile_max_shapes": shapes_text(largest),
    }
    lines = (f'    parameters {{ key: "{k}" value: "{v}" }}' for k, v in options.items())
    return "\n".join(
        [
            "optimization { execution_accelerators {",
            '  gpu_execution_accelerator : [ { name: "tensorrt"',
            *lines,
            "  } ]",
            "} }",
        ]
    )


def _warm_shapes(spec: ModelSpec, verb: GraphName, backend: Backend) -> Iterator[Shapes]:
    """Every bucket on a GPU; on a CPU, where a new shape costs little, those of one session."""
    buckets = spec.buckets
    gpu = backend != "python"
    lengths = (1,) if verb == "memorize" else buckets.clip_lengths
    slots = (1,) if verb == "memorize" else buckets.memory_sizes
    for size, length, n, objects, batch in product(
        buckets.sizes, lengths, slots, buckets.objects, buckets.batch if gpu else (1,)
    ):
        yield shapes(spec, verb, size, batch=batch, length=length, slots=n, objects=objects)


def _warmup(spec: ModelSpec, verb: GraphName, shapes: Shapes) -> str:
    types = {tensor.name: TYPES[tensor.dtype] for tensor in tensors(spec, verb)[0]}
    batch = next(iter(shapes.values()))[0]
    inputs = (
        f'  inputs {{ key: "{name}" value '
        f"{{ data_type: {types[name]} dims: {_list(shape[1:])} zero_data: true }} }}"
        for name, shape in shapes.items()
    )
    name = shapes_text(shapes)
    head = f'model_warmup [ {{ name: "{name}" batch_size: {batch}'
    return "\n".join([head, *inputs, "} ]"])


def _parameter(key: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'parameters {{ key: "{key}" value {{ string_value: "{escaped}" }} }}'


def _list(dims: Iterable[int]) -> str:
    return f"[ {', '.join(map(str, dims))} ]"
