"""What goes wrong with a training."""

from model.errors import ModelError


class SettingsError(ModelError, ValueError):
    """Numbers of a training that cannot be, or that this machine cannot do."""


class CheckpointError(ModelError, ValueError):
    """A checkpoint cannot be read, belongs to another training, or would be overwritten."""


class ProcessLost(ModelError, ConnectionError):
    """Another process of the training has ended; the weights are those before that step."""

    exit_status = 1


class BadLoss(ModelError, ArithmeticError):
    """The loss or its gradient is not finite; the weights are those before that step."""

    exit_status = 1
