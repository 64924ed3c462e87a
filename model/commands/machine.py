"""The machine that something was measured on, in words."""

import platform
from datetime import UTC, datetime
from pathlib import Path

import torch


def processor() -> str:
    """Return the processor's name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def describe_machine(device: str, *, threads: int) -> str:
    """Return the device, PyTorch's version and today's date."""
    on_gpu = device.startswith("cuda")
    name = torch.cuda.get_device_name(device) if on_gpu else f"{processor()}, {threads} threads"
    return f"{name}, PyTorch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}"
