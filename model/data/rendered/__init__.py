"""Our own renderer of moving things: videos to train on that are made from a seed."""
