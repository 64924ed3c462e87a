"""`config.pbtxt` of a served graph, for each of the three ways Triton can run it.

The file is Triton's own message `ModelConfig` as text. Axes as in the model contract: B is
Triton's batch axis and is left out of `dims`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Literal

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from model.core.contract import (
    METADATA_KEY,
    BankTensor,
    ModelSpec,
    Tensor,
    find_part,
    fixed_axes,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    triton_segment_outputs,
)
from model.core.memory import MAX_CAPACITY

Backend = Literal["python", "onnxruntime", "tensorrt"]
GraphName = Literal["memorize", "segment"]
Shapes = Mapping[str, tuple[int, ...]]  # a graph's inputs by name, each with B in front

TYPES = {
    "uint8": triton.TYPE_UINT8,
    "int32": triton.TYPE_INT32,
    "float16": triton.TYPE_FP16,
    "float32": triton.TYPE_FP32,
    "bool": triton.TYPE_BOOL,
}
PLATFORMS: Mapping[Backend, Mapping[str, str]] = {
    "tensorrt": {"platform": "tensorrt_plan", "default_model_filename": "model.plan"},
    "onnxruntime": {"backend": "onnxruntime", "default_model_filename": "model.onnx"},
    "python": {"backend": "python"},
}
QUEUE = 64  # requests that may wait for a model
QUEUE_TIMEOUT_US = 10_000_000  # a request that waits longer is refused; clients may ask for less
GPU_DELAY_US = 500  # worth waiting for other sessions; on a CPU they queue up by themselves


def config_text(
    spec: ModelSpec, verb: GraphName, *, backend: Backend, threads: int = 0, cache: str = ""
) -> str:
    """Return the whole file, a line for each tensor, parameter and shape to warm up with.

    `threads` is that of one inference on a CPU, `cache` a folder for engines.
    """
    # Text of parts that stand one after the other is the text of the whole message.
    parts = config_parts(spec, verb, backend=backend, threads=threads, cache=cache)
    lines = (text_format.MessageToString(part, as_one_line=True) for part in parts)
    return "\n".join(lines) + "\n"


def config_parts(
    spec: ModelSpec, verb: GraphName, *, backend: Backend, threads: int, cache: str
) -> Iterator[triton.ModelConfig]:
    """Yield messages that, merged, configure a graph."""
    inputs, outputs = list_tensors(spec, verb)
    kind = triton.ModelInstanceGroup
    yield triton.ModelConfig(name=spec.graph(verb))
    yield triton.ModelConfig(**PLATFORMS[backend])
    yield triton.ModelConfig(max_batch_size=max(spec.buckets.batch))
    yield triton.ModelConfig(version_policy={"all": {}})
    for tensor in inputs:
        yield triton.ModelConfig(input=[_tensor(spec, tensor)])
    for tensor in outputs:
        yield triton.ModelConfig(output=[_tensor(spec, tensor)])
    yield triton.ModelConfig(dynamic_batching=_batching(backend))
    instances = kind.KIND_CPU if backend == "python" else kind.KIND_GPU
    yield triton.ModelConfig(instance_group=[{"kind": instances, "count": 1}])
    for key, value in ((METADATA_KEY, spec.to_json()), ("threads", str(threads))):
        yield triton.ModelConfig(parameters={key: triton.ModelParameter(string_value=value)})
    if backend == "onnxruntime":
        yield triton.ModelConfig(optimization=_tensorrt_provider(spec, verb, cache=cache))
    for warm in _warm_shapes(spec, verb, backend):
        yield triton.ModelConfig(model_warmup=[_warmup(spec, verb, warm)])


def list_tensors(spec: ModelSpec, verb: GraphName) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the inputs and the outputs of a graph as Triton serves it."""
    if verb == "memorize":
        return memorize_inputs(spec), memorize_outputs(spec)
    return segment_inputs(spec), triton_segment_outputs(spec)


def make_profile(spec: ModelSpec, verb: GraphName) -> tuple[Shapes, Shapes, Shapes]:
    """Return the least, the usual and the largest shape of every input that is served.

    A session may ask for shorter clips and another memory than its model's own: every clip length
    and memory size that the service takes is within them, whatever the buckets are.
    """
    buckets = spec.buckets
    heights, widths = zip(*buckets.sizes, strict=True)
    least = list_shapes(
        spec, verb, (min(heights), min(widths)), batch=1, length=1, slots=1, objects=1
    )
    usual = list_shapes(
        spec,
        verb,
        buckets.sizes[0],
        batch=1,
        length=spec.clip_length,
        slots=max(buckets.memory_sizes),
        objects=1,
    )
    largest = list_shapes(
        spec,
        verb,
        (max(heights), max(widths)),
        batch=max(buckets.batch),
        length=spec.max_clip_length,
        slots=MAX_CAPACITY,
        objects=max(buckets.objects),
    )
    return least, usual, largest


def list_shapes(
    spec: ModelSpec,
    verb: GraphName,
    size: tuple[int, int],
    *,
    batch: int,
    length: int,
    slots: int,
    objects: int,
) -> Shapes:
    """Return the shape of each input, B included, in a model size (h, w)."""
    letters = {"B": batch, "L": length, "N": slots, "O": objects, "H": size[0], "W": size[1]}
    return {
        tensor.name: tuple(
            letters.get(axis) or _bank_axis(find_part(spec, tensor.name), axis, size)
            for axis in tensor.axes
        )
        for tensor in list_tensors(spec, verb)[0]
    }


def write_shapes(shapes: Shapes) -> str:
    """Return shapes as TensorRT's tools and provider take them: `name:1x2x3,other:4`."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _bank_axis(tensor: BankTensor | None, axis: str, size: tuple[int, int]) -> int:
    if tensor is None:
        return int(axis)  # the three channels of a frame
    return tensor.tokens(size) if axis == "T" else tensor.channels


def _tensor(spec: ModelSpec, tensor: Tensor) -> dict[str, object]:
    dims = [-1 if size is None else size for size in fixed_axes(spec, tensor)[1:]]
    return {"name": tensor.name, "data_type": TYPES[tensor.dtype], "dims": dims}


def _batching(backend: Backend) -> triton.ModelDynamicBatching:
    return triton.ModelDynamicBatching(
        max_queue_delay_microseconds=0 if backend == "python" else GPU_DELAY_US,
        default_queue_policy=triton.ModelQueuePolicy(
            timeout_action=triton.ModelQueuePolicy.REJECT,
            default_timeout_microseconds=QUEUE_TIMEOUT_US,
            allow_timeout_override=True,
            max_queue_size=QUEUE,
        ),
    )


def _tensorrt_provider(
    spec: ModelSpec, verb: GraphName, *, cache: str
) -> triton.ModelOptimizationPolicy:
    """Return TensorRT under ONNX Runtime; what it cannot run falls back to CUDA."""
    least, usual, largest = make_profile(spec, verb)
    options = {
        "precision_mode": "FP16",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"{cache}/{spec.graph(verb)}-{spec.weights_sha256[:16]}",
        "trt_timing_cache_enable": "1",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_profile_min_shapes": write_shapes(least),
        "trt_profile_opt_shapes": write_shapes(usual),
        "trt_profile_max_shapes": write_shapes(largest),
    }
    provider = {"name": "tensorrt", "parameters": options}
    accelerators = {"gpu_execution_accelerator": [provider]}
    return triton.ModelOptimizationPolicy(execution_accelerators=accelerators)


def _warm_shapes(spec: ModelSpec, verb: GraphName, backend: Backend) -> Iterator[Shapes]:
    """Return every bucket on a GPU. On a CPU a new shape costs little: those of one session."""
    buckets = spec.buckets
    gpu = backend != "python"
    lengths = (1,) if verb == "memorize" else buckets.clip_lengths
    slots = (1,) if verb == "memorize" else buckets.memory_sizes
    for size, length, n, objects, batch in product(
        buckets.sizes, lengths, slots, buckets.objects, buckets.batch if gpu else (1,)
    ):
        yield list_shapes(spec, verb, size, batch=batch, length=length, slots=n, objects=objects)


def _warmup(spec: ModelSpec, verb: GraphName, shapes: Shapes) -> triton.ModelWarmup:
    types = {tensor.name: TYPES[tensor.dtype] for tensor in list_tensors(spec, verb)[0]}
    return triton.ModelWarmup(
        name=write_shapes(shapes),
        batch_size=next(iter(shapes.values()))[0],
        inputs={
            name: triton.ModelWarmup.Input(data_type=types[name], dims=shape[1:], zero_data=True)
            for name, shape in shapes.items()
        },
    )
