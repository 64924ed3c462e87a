"""What goes wrong with training data."""

from model.errors import ModelError


class DataError(ModelError, ValueError):
    """A folder or file of the training data is missing, broken, or must not be read."""
