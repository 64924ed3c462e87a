"""What runs the model: embedded in this process, or Triton."""
