"""Back up the sessions of a running Redis, and restore them into an empty folder.

    python -m scripts.deploy.backup save URL DATA BACKUP      DATA is the running Redis's folder
    python -m scripts.deploy.backup restore BACKUP DATA       DATA is the next Redis's, empty

`save` copies the append-only file while Redis goes on: no rewrite may begin meanwhile, and what is
appended after the copy began may be cut off at its end, as after a loss of power. It then starts a
Redis on a copy of the copy, which must read it. A copy of an RDB alone would not do: a Redis with
an append-only file ignores it at its start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from service.errors import Misconfigured, StoreUnavailable, TamvtError
from service.local.private_redis import find_redis
from service.local.supervisor import POLL_S, read_last_line, start_child, stop_child

# Of Redis 7 and Valkey a folder, of Redis 6.2 one file.
FILES = ("appendonlydir", "appendonly.aof")
REWRITE_S = 600.0
READ_S = 600.0
ANSWER_S = 30.0
STOP_S = 10.0


def copy_files(source: Path, target: Path) -> None:
    """Copy the append-only file; raise Misconfigured where there is none, or the target has one."""
    found = [source / name for name in FILES if (source / name).exists()]
    if not found:
        raise Misconfigured(f"{source} holds no append-only file: is appendonly yes?")
    if target.exists() and any(target.iterdir()):
        raise Misconfigured(f"{target} is not empty")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in found:
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, target / path.name)


def count_keys(backup: Path, *, beside: Path) -> int:
    """Return how many keys a Redis reads in a backup; raise Misconfigured where it cannot.

    It reads a copy in the folder `beside`, whose disk has the room.
    """
    with (
        tempfile.TemporaryDirectory(prefix="tamvt-backup-", dir=beside) as data,
        tempfile.TemporaryDirectory(prefix="tamvt-backup-") as sockets,  # their paths are short
    ):
        copied, address, log = Path(data) / "data", Path(sockets) / "socket", Path(data) / "log"
        copy_files(backup, copied)
        options = {"port": "0", "unixsocket": str(address), "dir": str(copied), "save": ""}
        words = [word for name, text in options.items() for word in (f"--{name}", text)]
        command = [find_redis(), *words, "--appendonly", "yes", "--aof-load-truncated", "yes"]
        process = start_child(command, log=log, environment=os.environ)
        try:
            until = time.monotonic() + READ_S
            while time.monotonic() < until and process.poll() is None:
                with (
                    suppress(RedisError),  # BusyLoadingError until all is read
                    Redis(unix_socket_path=str(address), socket_timeout=ANSWER_S) as client,
                ):
                    return int(client.dbsize())
                time.sleep(POLL_S)
            raise Misconfigured(f"no Redis can read the backup: {read_last_line(log)}")
        finally:
            stop_child(process, deadline_s=STOP_S)


def save(url: str, data: Path, backup: Path, *, answer_s: float = ANSWER_S) -> int:
    """Copy the files of a running Redis, read them once, and return how many keys they hold."""
    try:
        with Redis.from_url(url, socket_timeout=answer_s) as client:
            before = client.config_get("auto-aof-rewrite-percentage")
            client.config_set("auto-aof-rewrite-percentage", 0)
            try:
                until = time.monotonic() + REWRITE_S
                while int(client.info("persistence")["aof_rewrite_in_progress"]):
                    if time.monotonic() > until:
                        raise StoreUnavailable("a rewrite of the append-only file does not end")
                    time.sleep(0.1)
                copy_files(data, backup)
            finally:
                client.config_set(
                    "auto-aof-rewrite-percentage", before["auto-aof-rewrite-percentage"]
                )
    except RedisError as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
    return count_keys(backup, beside=backup.parent)


def main() -> int:
    """Return 0, or 1 with one line of what went wrong."""
    parser = argparse.ArgumentParser(description="Back up and restore the sessions of a Redis.")
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser("save")
    saving.add_argument("url", help="of the running Redis, or a file that holds it")
    saving.add_argument("data", type=Path, help="its folder")
    saving.add_argument("backup", type=Path, help="an empty or a new folder")
    restoring = commands.add_parser("restore")
    restoring.add_argument("backup", type=Path)
    restoring.add_argument("data", type=Path, help="the next Redis's folder, empty")
    words = parser.parse_args()
    try:
        if words.command == "save":
            # A file keeps the password out of the list of processes.
            url = words.url if "://" in words.url else Path(words.url).read_text().strip()
            print(f"{save(url, words.data, words.backup)} keys in {words.backup}")
        else:
            # A backup may be where only reading is allowed.
            words.data.parent.mkdir(parents=True, exist_ok=True)
            keys = count_keys(words.backup, beside=words.data.parent)
            print(f"{keys} keys in {words.backup}")
            copy_files(words.backup, words.data)
            print(f"restored into {words.data}")
    except (TamvtError, OSError) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
