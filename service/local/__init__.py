"""Child processes of ours: a private Redis, a local Triton, a private service."""
