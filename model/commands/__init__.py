"""The commands of `tamvt-model`: the parameters of each `run` are its options (decision 55)."""
