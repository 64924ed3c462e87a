"""The tracking service: HTTP in front, Redis and an engine behind it. It runs without torch."""

import os

# ONNX Runtime reads it when it is imported, and sends reports to its makers otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
