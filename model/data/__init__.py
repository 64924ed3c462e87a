"""Training clips: still pictures made to move, and real video, as arrays of frames and masks."""
