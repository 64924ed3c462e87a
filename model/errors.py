"""The one root of everything that goes wrong in `model/`, outside the core."""


class ModelError(Exception):
    """Something a person can mend; the command line tells it in one line and exits so."""

    exit_status = 2
