"""What goes wrong with training data."""


class DataError(ValueError):
    """A folder or file of the training data is missing, broken, or must not be read."""
