"""Where a graph's time goes, by operator, as ONNX Runtime's own profiler sees it."""

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime

from model.evaluation.runtime import Tensors

WARM_UPS = 2


def time_operators(
    path: Path, inputs: Tensors, *, threads: int, rounds: int = 3
) -> dict[str, float]:
    """Return seconds of one run by operator, the slowest first.

    The mean of `rounds` after warm-ups.
    """
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(WARM_UPS + rounds):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    return read_profile(events, rounds=rounds)


def read_profile(events: list[dict[str, object]], *, rounds: int) -> dict[str, float]:
    """Return seconds by operator of the last `rounds` runs in a profile."""
    runs = sorted(_number(event, "ts") for event in events if event["name"] == "model_run")
    begin = runs[-rounds]
    total: Counter[str] = Counter()
    for event in events:
        detail = event.get("args")
        timed = event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
        if timed and isinstance(detail, dict) and _number(event, "ts") >= begin:
            total[str(detail["op_name"])] += _number(event, "dur")
    return {name: microseconds / 1e6 / rounds for name, microseconds in total.most_common()}


def _number(event: dict[str, object], name: str) -> int:
    return int(str(event[name]))


def write_times_table(times: dict[str, float], *, rows: int = 8) -> str:
    """Return the slowest operators as a Markdown table."""
    whole = sum(times.values())
    lines = ["| operator | ms | share |", "|---|---:|---:|"]
    named = list(times.items())[:rows]
    rest = whole - sum(seconds for _, seconds in named)
    for name, seconds in (*named, ("others", rest)):
        lines.append(f"| {name} | {1000 * seconds:.0f} | {100 * seconds / whole:.0f} % |")
    return "\n".join(lines)
