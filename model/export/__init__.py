"""The graphs that are served: written, checked against PyTorch, and laid out for Triton."""
