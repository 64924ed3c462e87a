"""Parts that stand in for a network's own when it is served: equal up to rounding, but faster.

`model.export.serving` puts them in place; `model/networks/` holds the readable forms.
"""
