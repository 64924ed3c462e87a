"""The groups in which settings are named: `redis.url` in a file, TAMVT_REDIS__URL as a variable.

The short names, as TAMVT_REDIS_URL, are the same settings and stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from service.settings.fields import Settings

# A setting is in the group that has the longest beginning of its name; without any, the server's.
BEGINNINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("model", "weights"),
    "engine": ("engine", "runtime", "bank_bytes", "clip_deadline_s", "max_queue_s", "canary"),
    "triton": ("triton",),
    "redis": ("redis", "private_redis", "state"),
    "sessions": (
        "session",
        "frame_mask_bytes",
        "kept_frames",
        "rollback",
        "max_objects",
        "max_short_side",
    ),
    "uploads": ("upload", "max_frame", "max_append", "max_video"),
    "streams": ("stream", "max_streams"),
    "access": ("keys", "allowed", "ticket", "open_access", "trusted_proxies"),
    "oidc": ("oidc",),
    "tls": ("tls",),
    "tenants": ("tenant", "max_tenant"),
    "telemetry": ("log", "otlp", "trace", "metrics", "audit"),
}
SERVER: Final = "server"


def group_of(name: str) -> str:
    """Return the group of a setting."""
    found = (
        (len(beginning), group)
        for group, beginnings in BEGINNINGS.items()
        for beginning in beginnings
        if name.startswith(beginning)
    )
    return max(found, default=(0, SERVER))[1]


def grouped_name(name: str) -> str:
    """Return a setting's name with its group: `redis_url` is `redis.url`.

    What the group says already is left out.
    """
    group = group_of(name)
    for said in (f"{group}_", f"{group.removesuffix('s')}_"):
        name = name.removeprefix(said)
    return f"{group}.{name}"


# By the name with its group, the setting's own.
GROUPED: Final[Mapping[str, str]] = {grouped_name(name): name for name in Settings.model_fields}
