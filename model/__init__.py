"""The tracker's model. Everything but `model.core` needs torch; nothing is imported here."""

import os

# ONNX Runtime reads it when it is imported, and sends reports to its makers otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
