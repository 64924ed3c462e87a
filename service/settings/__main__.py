"""Prints the table of docs/operations.md."""

from __future__ import annotations

import sys

from service.settings.reading import write_markdown_table

sys.stdout.write(write_markdown_table())
