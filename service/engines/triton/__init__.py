"""The Triton engine: each clip is a request, with its bank in shared memory if possible."""
