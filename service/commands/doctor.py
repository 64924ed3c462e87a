"""`tamvt doctor`: looks at an installation and says what to do where it is not well."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service.local.doctor import examine
from service.local.machine import Machine
from service.settings import Settings, read_settings


def run(
    *,
    host: Annotated[str, Parameter(help="address that the service listens on")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="its port; 0: any free one")] = 8000,
    config: Annotated[Path | None, Parameter(help="TOML file of settings")] = None,
) -> int:
    """Return 0 where nothing is at fault, else 1; raise Misconfigured for a wrong setting.

    A warning is no fault: the service runs, slower or with less.
    """
    return asyncio.run(report(read_settings(config), Machine(), host=host, port=port))


async def report(settings: Settings, machine: Machine, *, host: str, port: int) -> int:
    """Print what is found, and return the exit status."""
    faults = warnings = 0
    async for finding in examine(settings, machine, host=host, port=port):
        faults += finding.level == "fault"
        warnings += finding.level == "warning"
        print(finding.line(), flush=True)
    print(f"{faults} faults, {warnings} warnings")
    return int(faults > 0)
