"""From clicks, a box and a previous mask to a mask: the optional third graph of a model."""
