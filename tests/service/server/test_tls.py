"""TLS and mTLS by the service itself, for small installations."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from service.errors import Misconfigured
from service.server.uvicorn_server import Tls
from tamvt_client import Client, Unreachable
from tamvt_client.retry import Retry
from tests.support import scene
from tests.support.authority import Authority
from tests.support.running import running_service


def test_rest_and_streams_over_tls_with_certificates_of_clients(
    tmp_path: Path, toy_folder: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    settings = {
        "TAMVT_TLS_CERTIFICATE": str(certificate),
        "TAMVT_TLS_KEY": str(key),
        "TAMVT_TLS_CLIENT_CA": str(authority.file),
    }
    trusting = ssl.create_default_context(cafile=str(authority.file))
    known = ssl.create_default_context(cafile=str(authority.file))
    known.load_cert_chain(*authority.issue("client"))
    foreign = ssl.create_default_context(cafile=str(authority.file))
    foreign.load_cert_chain(*Authority(tmp_path, "another").issue("stranger"))
    once = Retry(attempts=1)
    with running_service(
        state=tmp_path / "state", weights=toy_folder, settings=settings
    ) as service:
        assert service.url.startswith("https://127.0.0.1:")
        for tls in (None, trusting, foreign):
            with Client(service.url, retry=once, tls=tls) as refused, pytest.raises(Unreachable):
                refused.models()
        with pytest.raises(httpx.TransportError):
            httpx.get(service.url.replace("https", "http") + "/healthz")
        with Client(service.url, tls=known) as client:
            session = client.start(scene.png(0), scene.mask())
            frames = [scene.jpeg(number) for number in (1, 2)]
            masks = list(client.stream(session.session_id, frames, first_frame=1))
            assert [each.frame for each in masks] == [1, 2]


def test_a_stream_trusts_the_authorities_that_the_environment_names(
    tmp_path: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    settings = {"TAMVT_TLS_CERTIFICATE": str(certificate), "TAMVT_TLS_KEY": str(key)}
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with (
        running_service(state=tmp_path / "state", weights=toy_folder, settings=settings) as service,
        Client(service.url, retry=Retry(attempts=1)) as client,
    ):
        session = client.start(scene.png(0), scene.mask())
        masks = list(client.stream(session.session_id, [scene.jpeg(1)], first_frame=1))
    assert [each.frame for each in masks] == [1]


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = map(str, authority.issue("service"))
    _, other = map(str, authority.issue("other"))
    Tls(certificate, key, str(authority.file)).check()
    for wrong in (
        Tls(str(tmp_path / "absent"), key),
        Tls(certificate, other),
        Tls(certificate),
        Tls(key, key),
    ):
        with pytest.raises(Misconfigured, match="TAMVT_TLS_CERTIFICATE"):
            wrong.check()
    with pytest.raises(Misconfigured, match="TAMVT_TLS_CLIENT_CA"):
        Tls(certificate, key, str(tmp_path / "absent")).check()
