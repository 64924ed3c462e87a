"""The commands of `tamvt-model`, each with `add_arguments(parser)` and `run(arguments)`."""
