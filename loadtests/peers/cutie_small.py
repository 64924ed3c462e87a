"""Cutie-small (the package rf-cutie, MIT) with random weights: what it costs, not how good it is.

As the project's own evaluation of DAVIS runs it: no long-term memory, an entry every five frames,
top-k 30, fp32. Runs in an environment with rf-cutie, hydra-core and torch; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cutie.inference.inference_core import InferenceCore
from cutie.model.cutie import CUTIE
from cutie.model.utils import resnet
from hydra import compose, initialize_config_module
from omegaconf import open_dict

WARM_UP = 30  # frames: its memory of five entries is full


def track(frames: Any, labels: Any, threads: int, size: str = "small") -> Callable[[Any], object]:
    """Return what tracks one frame, after the first one and its labels."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    # The trunks would be downloaded, only to be random all the same.
    resnet.model_zoo.load_url = lambda *_, **__: {}
    resnet.load_weights_add_extra_dim = lambda *_, **__: None
    with initialize_config_module("cutie.config", version_base="1.3.2"):
        config = compose("eval_config", overrides=[f"model={size}"])
    with open_dict(config):
        config.use_long_term = False
        config.mem_every = 5
    core = InferenceCore(CUTIE(config).eval(), cfg=config)

    def as_tensor(frame: Any) -> torch.Tensor:
        return torch.from_numpy(frame).permute(2, 0, 1).float() / 255

    objects = [int(each) for each in range(1, int(labels.max()) + 1)]
    core.step(as_tensor(frames[0]), torch.from_numpy(labels).long(), objects=objects)
    for number in range(WARM_UP):
        core.step(as_tensor(frames[1 + number % (len(frames) - 1)]))
    return lambda frame: core.step(as_tensor(frame))
