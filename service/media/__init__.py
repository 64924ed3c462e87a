"""Images and videos in and out, overlays, and the built-in sample."""
