"""The Python client's place in 0.1.0: `from tamvt_client import Client` is where it is now."""

from __future__ import annotations

import warnings
from typing import Any

import tamvt_client


def __getattr__(name: str) -> Any:
    """Return what `tamvt_client` calls so, with a warning; 0.3.0 will have it there alone."""
    if name not in tamvt_client.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = f"service.client is tamvt_client now: from tamvt_client import {name}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return getattr(tamvt_client, name)
