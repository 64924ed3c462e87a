"""The tracking service: HTTP in front, Redis and an engine behind it. It runs without torch."""
