"""Tracking networks, the layers that they share, and their backbones."""
