"""A small OpenID Connect issuer: discovery, public keys that rotate, and tokens that it signs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AUDIENCE = "tamvt"


class SmallIssuer:
    """Signs tokens with one key at a time; `answering` says whether it tells its public keys."""

    def __init__(self) -> None:
        self.url = ""
        self.answering = True
        self.told: bytes | None = None  # instead of its keys
        self.free = threading.Event()  # while it is not set every question waits
        self.free.set()
        self.asked = 0
        self._private: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate()

    def rotate(self) -> None:
        """Sign with a new key from now on, and tell of no other."""
        self.key_id = f"key-{len(self._private)}"
        self._private[self.key_id] = rsa.generate_private_key(65537, 2048)

    def sign(self, *, key_id: str | None = None, **changes: Any) -> str:
        """Return a token of ann with read and write; a claim that is None is left out."""
        now = time.time()
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ann@example.org",
            "tenant": "ann",
            "scope": "openid tamvt:read tamvt:write",
            "iat": now,
            "exp": now + 300,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        key_id = key_id or self.key_id
        headers = {"kid": key_id}
        return jwt.encode(claims, self._private[key_id], algorithm="RS256", headers=headers)

    def public_pem(self) -> bytes:
        """Return the public key of now, as everybody may know it."""
        public = self._private[self.key_id].public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def document(self, path: str) -> dict[str, Any]:
        """Return what the issuer answers at this path."""
        if path.endswith("openid-configuration"):
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        public = self._private[self.key_id].public_key()
        members = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        shared = {"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM"}
        return {"keys": [{**members, "kid": self.key_id, "use": "sig", "alg": "RS256"}, shared]}


@contextmanager
def small_issuer() -> Iterator[SmallIssuer]:
    """Serve an issuer on a free port until the end of the block."""
    issuer = SmallIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            issuer.free.wait()
            body = json.dumps(issuer.document(self.path)).encode()
            if issuer.told is not None and self.path == "/keys":
                body = issuer.told
            self.send_response(200 if issuer.answering else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            issuer.free.set()
            server.shutdown()
            thread.join()
