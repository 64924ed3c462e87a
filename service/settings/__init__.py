"""The settings of the service: variables that start with TAMVT_, a file, flags; read once.

`python -m service.settings` prints the table of docs/operations.md.
"""

from service.settings.fields import PREFIX, Settings
from service.settings.reading import (
    API_KEY,
    copy_environment_without,
    environment_of,
    read_settings,
    write_markdown_table,
)

__all__ = [
    "API_KEY",
    "PREFIX",
    "Settings",
    "copy_environment_without",
    "environment_of",
    "read_settings",
    "write_markdown_table",
]
