"""Weights from files: our own, and the authors' of a paper.

A file is data, never a program: what is not a tensor or a plain value is not run.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from model.core.loop_bias import LoopBias
from model.errors import ModelError
from model.networks.base import TrackingNetwork

_TENSOR_MAKERS = frozenset(
    (
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
    )
)


class WeightsError(ModelError, ValueError):
    """A file of weights that is missing, damaged, or of another network."""


class _Ignored:
    """Stands for an object of a class that we do not run, whatever it is made of."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None: ...


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) in _TENSOR_MAKERS:
            return super().find_class(module_name, global_name)
        return _Ignored


def read_file(path: Path, device: torch.device | str = "cpu") -> Any:
    """Return what `torch.save` wrote; raise WeightsError unless the file is whole.

    Objects beside tensors and plain values, which published checkpoints hold, are left out.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no checkpoint {path}") from error
    except pickle.UnpicklingError:
        pass
    except Exception as error:  # torch raises RuntimeError, EOFError, IsADirectoryError and others
        raise WeightsError(f"{path} is no whole checkpoint ({type(error).__name__})") from error
    restricted = SimpleNamespace(Unpickler=_TensorUnpickler, load=_refuse, __name__="restricted")
    try:
        return torch.load(path, map_location=device, weights_only=False, pickle_module=restricted)
    except Exception as error:
        raise WeightsError(f"{path} is no whole checkpoint ({type(error).__name__})") from error


def _refuse(*args: object, **kwargs: object) -> None:
    raise pickle.UnpicklingError("no checkpoint of this century")


def read_loop(content: object) -> dict[str, Any]:
    """Return what `tamvt-model calibrate loop` wrote into a checkpoint.

    These are changes of the build's configuration; nothing where it was not calibrated. Raise
    WeightsError for what cannot be read.
    """
    loop = content.get("loop") if isinstance(content, Mapping) else None
    if loop is None:
        return {}
    try:
        bias = LoopBias(float(loop["answer"]), float(loop["memory"]))
        return {"loop_bias": bias, "memory_size": int(loop["memory_size"])}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the checkpoint's loop cannot be read: {error!r}") from error


def load_weights(network: TrackingNetwork, path: Path) -> None:
    """Load a state dict or a checkpoint, ours or the authors', strictly.

    Averaged weights go before others. Raise WeightsError naming the first key that does not fit.
    """
    content = read_file(path)
    state = content
    for part in ("model_ema", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(part), Mapping):
            state = content[part]
            break
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no weights")
    try:
        if not network.state_dict().keys() & state.keys():
            state = network.rename_published(state)
        network.load_state_dict(state)
    except (RuntimeError, ModelError) as error:
        reason = " ".join(line.strip() for line in str(error).split("\n")[:3])
        raise WeightsError(f"{path} does not fit {network.config.name}: {reason}") from error
