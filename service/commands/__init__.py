"""The commands of `tamvt`, one file each: `add_arguments(parser)` and `run(arguments) -> int`."""
