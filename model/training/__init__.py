"""Training: samples in, weights out."""
