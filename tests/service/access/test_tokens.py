"""Tokens of an issuer: which are taken, and how its keys are asked for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from service.access import tokens
from service.access.tokens import Issuer, TokenVerifier
from service.errors import IssuerUnavailable
from tests.support.issuer import AUDIENCE, SmallIssuer, small_issuer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shared_issuer() -> Iterator[SmallIssuer]:
    with small_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(shared_issuer: SmallIssuer) -> SmallIssuer:
    shared_issuer.answering, shared_issuer.told = True, None
    shared_issuer.free.set()
    return shared_issuer


@pytest.fixture
async def verifier(issuer: SmallIssuer) -> AsyncIterator[TokenVerifier]:
    yield TokenVerifier(Issuer(issuer.url, AUDIENCE, deadline_s=30.0))
    await until(lambda: not fetches())


def forged(header: dict[str, str], payload: bytes, secret: bytes = b"") -> str:
    """A token that is signed with a secret that everybody may know, or not at all."""
    words = [json.dumps(header).encode(), payload]
    signed = ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in words)
    mac = hmac.digest(secret, signed.encode(), hashlib.sha256) if secret else b""
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


async def test_a_token_tells_tenant_and_scopes(
    issuer: SmallIssuer, verifier: TokenVerifier
) -> None:
    claims, _ = await verifier.check(issuer.sign())
    assert claims is not None
    assert (claims.tenant, claims.subject) == ("ann", "ann@example.org")
    assert claims.scopes == {"read", "write"}
    bare, _ = await verifier.check(issuer.sign(scope="read administrator"))
    assert bare is not None
    assert bare.scopes == {"read"}


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": time.time() - 60},
        {"exp": None},
        {"nbf": time.time() + 3600},
        {"iat": time.time() + 3600},
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
        {"tenant": None},
        {"tenant": "a}b"},
        {"tenant": ["ann"]},
        {"exp": "never"},
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(
    issuer: SmallIssuer, verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    claims, reason = await verifier.check(issuer.sign(**changes))
    assert claims is None
    assert reason


async def test_forged_tokens_are_refused(issuer: SmallIssuer, verifier: TokenVerifier) -> None:
    good = issuer.sign()
    head, payload, signature = good.split(".")
    read = base64.urlsafe_b64decode(payload + "==")
    other = issuer.sign(tenant="ben").split(".")[1]
    wrong = [
        forged({"alg": "none", "kid": issuer.key_id}, read),
        forged({"alg": "None", "kid": issuer.key_id}, read),
        # The public key as a shared secret, and a shared secret that the issuer tells.
        forged({"alg": "HS256", "kid": issuer.key_id}, read, issuer.public_pem()),
        forged({"alg": "HS256", "kid": "shared"}, read, b"secret-secret-secret-secret-s"),
        f"{head}.{other}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}",
        good[:-20],
        "e.e.e",
        "x" * 10_000,
    ]
    for token in wrong:
        assert (await verifier.check(token))[0] is None, token
    assert (await verifier.check(good))[0] is not None


async def test_a_rotated_key_is_asked_for_and_the_old_one_is_forgotten(
    issuer: SmallIssuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, old = issuer.sign(), issuer.key_id
    assert (await verifier.check(before))[0] is not None
    issuer.rotate()
    monkeypatch.setattr(tokens, "AGAIN_S", 0.0)
    assert (await verifier.check(issuer.sign()))[0] is not None
    assert await verifier.check(issuer.sign(key_id=old)) == (None, "a token of an unknown key")


async def test_guessed_keys_do_not_have_the_issuer_asked_each_time(
    issuer: SmallIssuer, verifier: TokenVerifier
) -> None:
    await verifier.check(issuer.sign())
    asked = issuer.asked
    for number in range(20):
        token = forged({"alg": "RS256", "kid": f"guess-{number}"}, b"{}", b"secret")
        assert (await verifier.check(token))[0] is None
    assert issuer.asked == asked


async def test_an_issuer_that_is_away_stops_nobody_whose_key_is_known(
    issuer: SmallIssuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.answering = False
    with pytest.raises(IssuerUnavailable):
        await verifier.check(issuer.sign())
    monkeypatch.setattr(tokens, "AGAIN_S", 0.0)
    issuer.answering = True
    assert (await verifier.check(issuer.sign()))[0] is not None
    issuer.answering = False
    monkeypatch.setattr(tokens, "KEPT_S", 0.0)
    assert (await verifier.check(issuer.sign()))[0] is not None
    monkeypatch.setattr(tokens, "STALE_S", 0.0)
    with pytest.raises(IssuerUnavailable):
        await verifier.check(issuer.sign())


@pytest.mark.parametrize(
    "told",
    [
        b'{"keys": null}',
        b'{"keys": ["a"]}',
        b'{"keys": {"a": 1}}',
        b'{"keys": [{"kty": "RSA", "n": 5, "e": []}]}',
        b'["a"]',
        b"\xff",
        b"[" * 200_000,
    ],
    ids=lambda told: told[:30].decode("latin1"),
)
async def test_keys_that_cannot_be_read_are_as_none_and_known_ones_stay(
    issuer: SmallIssuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch, told: bytes
) -> None:
    assert (await verifier.check(issuer.sign()))[0] is not None
    monkeypatch.setattr(tokens, "AGAIN_S", 0.0)
    issuer.told = told
    unknown = forged({"alg": "RS256", "kid": "another"}, b"{}", b"secret")
    asked = issuer.asked
    assert await verifier.check(unknown) == (None, "a token of an unknown key")
    assert issuer.asked > asked
    monkeypatch.setattr(tokens, "KEPT_S", 0.0)
    assert (await verifier.check(issuer.sign()))[0] is not None


async def test_an_address_that_is_none_is_a_failed_fetch(issuer: SmallIssuer) -> None:
    wrong = TokenVerifier(Issuer(issuer.url, AUDIENCE, jwks_url="http://[", deadline_s=30.0))
    with pytest.raises(IssuerUnavailable):
        await wrong.check(issuer.sign())


async def test_who_shows_a_known_key_does_not_wait_for_the_issuer(
    issuer: SmallIssuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await verifier.check(issuer.sign()))[0] is not None
    monkeypatch.setattr(tokens, "AGAIN_S", 0.0)
    monkeypatch.setattr(tokens, "KEPT_S", 0.0)
    issuer.free.clear()
    asked = issuer.asked
    for _ in range(3):
        assert (await verifier.check(issuer.sign()))[0] is not None
    await until(lambda: issuer.asked == asked + 1)  # and waits there for an answer
    assert len(fetches()) == 1, "one for all of them"
    issuer.free.set()
    await until(lambda: not fetches())
    assert issuer.asked == asked + 2
    issuer.free.clear()
    assert (await verifier.check(issuer.sign()))[0] is not None
    await until(lambda: issuer.asked == asked + 3)
    await verifier.close()
    assert not fetches()


def fetches() -> list[asyncio.Task[Any]]:
    """What asks the issuer now."""
    return [task for task in asyncio.all_tasks() if "TokenVerifier" in repr(task.get_coro())]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_another_issuers_document_is_not_believed(issuer: SmallIssuer) -> None:
    verifier = TokenVerifier(Issuer(f"{issuer.url}/", AUDIENCE, deadline_s=30.0))
    with pytest.raises(IssuerUnavailable):
        await verifier.check(issuer.sign())
