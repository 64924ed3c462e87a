"""A model as a repository that Triton serves. Needs onnx, but no torch."""
