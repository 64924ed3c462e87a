"""The part of curl that the README uses, for machines without: -s, -F name=@file, -o file, URL."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx


def main() -> None:
    """Send one request and write the answer's body to the file, or to the output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-F", dest="parts", action="append", default=[])
    parser.add_argument("-o", dest="file", type=Path)
    parser.add_argument("url")
    arguments = parser.parse_args()
    pairs = [part.split("=@", 1) for part in arguments.parts]
    files = [(name, (Path(path).name, Path(path).read_bytes())) for name, path in pairs]
    answer = httpx.request("POST" if files else "GET", arguments.url, files=files or None)
    if arguments.file is None:
        sys.stdout.buffer.write(answer.content)
    else:
        arguments.file.write_bytes(answer.content)


if __name__ == "__main__":
    main()
