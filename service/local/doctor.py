"""What may be wrong with an installation: each check says what it saw, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, NamedTuple

from redis.asyncio import RedisCluster

from service.access.key_stores import IN_REDIS, KeyFile, RedisKeys
from service.access.keys import KeyStore
from service.engines.graphs import open_graphs
from service.engines.prompt_graph import find_prompt_graph
from service.errors import TamvtError
from service.local.machine import Machine
from service.local.private_redis import find_redis
from service.server.listener import OWN_FILES
from service.server.uvicorn_server import Tls
from service.settings import Settings
from service.store.redis_client import Client, check_serving, open_redis, translate_errors

Level = Literal["ok", "warning", "fault"]
LEAST_STATE_BYTES: Final = 1_000_000_000
CLOCK_S: Final = 2.0  # between ours and that of Redis
EXPIRES_SOON_DAYS: Final = 14
DEADLINE_S: Final = 5.0


class Finding(NamedTuple):
    """What was seen of a part, and, where it is not well, what to do."""

    level: Level
    part: str
    seen: str
    advice: str = ""

    def line(self) -> str:
        """Return it as it is printed."""
        said = f"{self.seen}. {self.advice}" if self.advice else self.seen
        return f"{self.level:<8} {self.part}: {said}"


async def examine(
    settings: Settings, machine: Machine, *, host: str, port: int
) -> AsyncIterator[Finding]:
    """Give what is found, part by part; nothing is changed, and each wait has a deadline."""
    for finding in (
        *check_processor(machine),
        *check_limits(settings, machine),
        *check_disk(settings, machine),
        *check_port(settings, host, port),
        *check_tls(settings, machine),
    ):
        yield finding
    async for finding in check_redis(settings, machine):
        yield finding
    async for finding in check_callers(settings, machine):
        yield finding
    async for finding in check_engine(settings):
        yield finding


def check_processor(machine: Machine) -> Iterator[Finding]:
    """Look at what the processor can do, and at malloc."""
    wanted = {"x86_64": "avx2", "aarch64": "asimd"}.get(machine.architecture)
    if wanted is None or wanted not in machine.features:
        missing = f"{machine.architecture} without {wanted or 'a known instruction set'}"
        yield Finding("warning", "processor", missing, "The model runs, several times slower")
    else:
        bf16 = "avx512_bf16" in machine.features
        yield Finding("ok", "processor", f"{wanted}{', avx512_bf16' if bf16 else ''}")
    if machine.keeps_blocks():
        yield Finding("ok", "malloc", "large blocks are kept")
    else:
        advice = "Use a C library with mallopt (glibc), or preload jemalloc"
        yield Finding("warning", "malloc", "large blocks go back to the kernel", advice)


def check_limits(settings: Settings, machine: Machine) -> Iterator[Finding]:
    """Look at open files and shared memory."""
    wanted = settings.max_connections + OWN_FILES
    if machine.open_files < 2 * OWN_FILES:
        seen = f"{machine.open_files} open files (ulimit -Hn)"
        yield Finding("fault", "files", seen, f"Allow {wanted}: it does not start with so few")
    elif machine.open_files < wanted:
        most = settings.max_connections
        seen = f"{machine.open_files} open files (ulimit -Hn) for {most} connections"
        yield Finding("warning", "files", seen, f"Allow {wanted}, or lower TAMVT_MAX_CONNECTIONS")
    else:
        yield Finding("ok", "files", f"{machine.open_files} may be open")
    if settings.engine == "triton" and settings.triton_shared_memory:
        free = machine.free_bytes(machine.shared_memory)
        if free < settings.bank_bytes:
            seen = f"{free:,} bytes free in {machine.shared_memory} for {settings.bank_bytes:,}"
            advice = "Enlarge it (docker: --shm-size), or lower TAMVT_BANK_BYTES"
            yield Finding("fault", "shared memory", seen, advice)
        else:
            yield Finding("ok", "shared memory", f"{free:,} bytes free")


def check_disk(settings: Settings, machine: Machine) -> Iterator[Finding]:
    """Look at the folder of the private Redis."""
    if settings.redis_url:
        return
    # It is not made here: a doctor that root calls would leave a folder of root's.
    there = next(path for path in (settings.state, *settings.state.parents) if os.path.exists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        seen = f"{settings.state}: nothing can be written to {there}"
        yield Finding("fault", "disk", seen, "Choose a folder to write to with TAMVT_STATE")
        return
    free = machine.free_bytes(settings.state)
    if free < LEAST_STATE_BYTES:
        advice = "Make room: a Redis without any ends itself, and sessions with it"
        yield Finding("fault", "disk", f"{free:,} bytes free in {settings.state}", advice)
    else:
        yield Finding("ok", "disk", f"{free:,} bytes free")


def check_port(settings: Settings, host: str, port: int) -> Iterator[Finding]:
    """Look whether the port is free, and who could use it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not 0 <= port < 65_536:
        yield Finding("fault", "port", f"{port} is none", "Choose a --port below 65536")
        return
    try:
        with socket.create_server((host, port), family=family) as listening:
            is_loopback = ip_address(listening.getsockname()[0]).is_loopback
    except OSError as error:
        advice = "End what listens there, or choose another --port"
        yield Finding("fault", "port", f"{host}, port {port}: {error.strerror}", advice)
        return
    if is_loopback or settings.is_guarded:
        yield Finding("ok", "port", f"{host}, port {port} is free")
    else:
        level: Level = "warning" if settings.open_access else "fault"
        advice = "Set TAMVT_KEYS, TAMVT_OIDC_ISSUER, or TAMVT_TENANT_HEADER behind a proxy"
        yield Finding(level, "port", f"on {host} anybody could use it", advice)


def check_tls(settings: Settings, machine: Machine) -> Iterator[Finding]:
    """Look at the certificate, its key and its time."""
    if not settings.tls_certificate:
        return
    from cryptography.x509 import load_pem_x509_certificate

    try:
        Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca).check()
        certificate = load_pem_x509_certificate(Path(settings.tls_certificate).read_bytes())
    except (TamvtError, ssl.SSLError, ValueError, OSError) as error:
        yield Finding("fault", "TLS", str(error), "Give a certificate and its own key, in PEM")
        return
    ends = certificate.not_valid_after_utc
    left = ends - datetime.fromtimestamp(machine.now(), UTC)
    if left.total_seconds() <= 0:
        yield Finding("fault", "TLS", f"the certificate ended on {ends:%Y-%m-%d}", "Renew it")
    elif left.days < EXPIRES_SOON_DAYS:
        yield Finding("warning", "TLS", f"the certificate ends on {ends:%Y-%m-%d}", "Renew it")
    else:
        yield Finding("ok", "TLS", f"the certificate is valid until {ends:%Y-%m-%d}")


async def check_redis(settings: Settings, machine: Machine) -> AsyncIterator[Finding]:
    """Look at Redis: whether it serves, keeps what it acknowledges, and evicts nothing."""
    if not settings.redis_url:
        try:
            yield Finding("ok", "redis", f"a private one: {find_redis()}")
        except TamvtError as error:
            yield Finding("fault", "redis", str(error), "Install one, or set TAMVT_REDIS_URL")
        return
    try:
        client = open_redis(settings.redis_url, deadline_s=DEADLINE_S, max_connections=2)
        async with client as redis:
            with translate_errors():
                await check_serving(redis)
                seconds, microseconds = await redis.time()
                options = await _options_of(redis)
    except TamvtError as error:
        advice = "Start it, or mend TAMVT_REDIS_URL: its host, port, user and password"
        yield Finding("fault", "redis", str(error), advice)
        return
    yield Finding("ok", "redis", "it answers")
    # Once, however many masters of a cluster have it.
    for finding in dict.fromkeys(each for one in options for each in check_redis_options(one)):
        yield finding
    apart = abs(machine.now() - (seconds + microseconds / 1e6))
    if apart > CLOCK_S:
        advice = "Let chrony or ntpd set both: sessions and tickets expire by the clock of Redis"
        yield Finding("fault", "clock", f"{apart:.0f} s from that of Redis", advice)
    else:
        yield Finding("ok", "clock", "as that of Redis")


def check_redis_options(options: dict[str, str]) -> Iterator[Finding]:
    """Look at how Redis keeps what it holds; `options` are those that CONFIG GET tells."""
    if not options:
        seen = "its settings cannot be read (CONFIG GET)"
        advice = "See that it has appendonly yes, appendfsync always and noeviction"
        yield Finding("warning", "redis", seen, advice)
        return
    if options.get("appendonly") != "yes":
        advice = "Set appendonly yes: a restart would lose every session"
        yield Finding("fault", "redis", "it keeps nothing on its disk", advice)
    elif options.get("appendfsync") != "always":
        seen = f"appendfsync {options.get('appendfsync')}"
        advice = "Set it to always: up to 2 s of what was acknowledged may be lost"
        yield Finding("warning", "redis", seen, advice)
    policy = options.get("maxmemory-policy", "")
    if policy not in ("noeviction", "volatile-ttl"):
        advice = "Set noeviction: it would drop parts of sessions that are in use"
        yield Finding("fault", "redis", f"maxmemory-policy {policy}", advice)
    if options.get("maxmemory") == "0":
        advice = "Set it: a Redis that fills the machine is ended by the kernel"
        yield Finding("warning", "redis", "maxmemory is not set", advice)


async def _options_of(redis: Client) -> list[dict[str, str]]:
    """Return the options of the server, or of each master of a cluster; none that is not told."""
    nodes = redis.get_primaries() if isinstance(redis, RedisCluster) else [None]
    found: list[dict[str, str]] = []
    for node in nodes:
        target = {} if node is None else {"target_nodes": node}
        options: dict[str, str] = {}
        with suppress(TamvtError), translate_errors():
            for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy"):
                told = await redis.config_get(name, **target)
                options |= {_text(each): _text(value) for each, value in told.items()}
        found.append(options)
    return found


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def check_callers(settings: Settings, machine: Machine) -> AsyncIterator[Finding]:
    """Look at what callers prove themselves by: keys, and the issuer of tokens."""
    if settings.keys == IN_REDIS and not settings.redis_url:
        advice = "Set TAMVT_REDIS_URL, or name a file: a private Redis is not shared"
        yield Finding("fault", "keys", "in redis, and that is a private one", advice)
    elif settings.keys:
        try:
            kept = await _keys_of(settings)
        except TamvtError as error:
            advice = "`tamvt keys create --tenant NAME` makes the first one"
            yield Finding("fault", "keys", str(error), advice)
        else:
            yield kept
    if settings.oidc_issuer:
        from service.access.tokens import Issuer, TokenVerifier

        url, audience = settings.oidc_issuer, settings.oidc_audience
        tokens = TokenVerifier(Issuer(url, audience, settings.oidc_jwks_url))
        await tokens.fetch()
        if tokens.knows_keys:
            yield Finding("ok", "issuer", f"{url} tells its keys")
        else:
            advice = "See that this machine reaches it, and that its `issuer` is spelt the same"
            yield Finding("fault", "issuer", f"no keys of {url}", advice)


async def _keys_of(settings: Settings) -> Finding:
    """Say how many keys are valid; raise Misconfigured or StoreUnavailable."""

    async def count(store: KeyStore) -> Finding:
        now = datetime.now(UTC)
        states = [each.state(now) for each in await store.keys()]
        valid = states.count("valid")
        if valid:
            return Finding("ok", "keys", f"{valid} of {len(states)} are valid")
        advice = "`tamvt keys create --tenant NAME` makes one"
        return Finding("fault", "keys", f"none of {len(states)} is valid", advice)

    if settings.keys != IN_REDIS:
        keys = KeyFile(Path(settings.keys))
        keys.check()
        return await count(keys)
    client = open_redis(settings.redis_url, deadline_s=DEADLINE_S, max_connections=2)
    async with client as redis:
        return await count(RedisKeys(redis, deadline_s=DEADLINE_S))


async def check_engine(settings: Settings) -> AsyncIterator[Finding]:
    """Look at what runs the model: its graphs, or the Triton and its contract."""
    for name in settings.served_models:
        try:
            if settings.engine == "embedded":
                await asyncio.to_thread(open_graphs, settings.weights, name, threads=1)
                yield Finding("ok", "model", f"{name} in {settings.weights}")
            else:
                await _compare(settings.triton_url, name)
                yield Finding("ok", "triton", f"{settings.triton_url} serves {name} as it should")
        except ModuleNotFoundError as error:
            yield Finding("fault", "triton", str(error), "pip install 'tamvt-serve[triton]'")
        except TamvtError as error:
            part = "model" if settings.engine == "embedded" else "triton"
            advice = "Mend TAMVT_TRITON_URL, TAMVT_WEIGHTS or TAMVT_MODEL, or export it again"
            yield Finding("fault", part, str(error), advice)
    try:
        await asyncio.to_thread(find_prompt_graph, settings.weights, settings.served_models)
    except TamvtError as error:
        yield Finding("fault", "prompts", str(error), "Export it again, or remove it: GrabCut does")


async def _compare(url: str, name: str) -> None:
    """Raise EngineUnavailable or ModelMismatch unless a Triton serves the model."""
    from service.engines.triton.client import triton_client

    client = triton_client(
        url, name, start_deadline_s=DEADLINE_S, clip_deadline_s=DEADLINE_S, in_flight=1, waiting=1
    )
    async with client:
        return
