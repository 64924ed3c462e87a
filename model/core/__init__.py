"""What the service and the model must agree on: numpy and OpenCV only, never torch."""
