"""What the configurations of proxies have to do (docs/proxies.md), read from each of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from scripts.deploy.check import ROOT
from service.settings import Settings

FOLDER = ROOT / "deploy" / "proxies"
NGINX, CADDY = (FOLDER / "nginx.conf").read_text(), (FOLDER / "Caddyfile").read_text()
TRAEFIK = (ROOT / "deploy" / "compose" / "traefik.yml").read_text()
ENVOY: dict[str, Any] = yaml.safe_load((FOLDER / "envoy.yaml").read_text())["static_resources"]


def envoy_manager() -> dict[str, Any]:
    """Envoy's handling of HTTP."""
    (listener,) = ENVOY["listeners"]
    (chain,) = listener["filter_chains"]
    manager: dict[str, Any] = chain["filters"][0]["typed_config"]
    return manager


def envoy_routes() -> list[dict[str, Any]]:
    """Envoy's routes, the first that matches first."""
    (host,) = envoy_manager()["route_config"]["virtual_hosts"]
    routes: list[dict[str, Any]] = host["routes"]
    return routes


def seconds(text: str) -> float:
    assert re.fullmatch(r"\d+s", text), text
    return float(text[:-1])


def test_each_takes_off_the_tenant_that_comes_from_outside() -> None:
    assert 'proxy_set_header X-Tenant "";' in NGINX
    assert "header_up -X-Tenant" in CADDY
    assert "x-tenant" in envoy_manager()["route_config"]["request_headers_to_remove"]
    assert 'X-Tenant: ""' in TRAEFIK


def test_each_keeps_metrics_inside() -> None:
    assert re.search(r"location = /metrics \{\s*return 404;", NGINX)
    assert re.search(r"@metrics path /metrics\s+respond @metrics 404", CADDY)
    first = envoy_routes()[0]
    assert (first["match"], first["direct_response"]) == ({"path": "/metrics"}, {"status": 404})
    assert "!Path(`/metrics`)" in TRAEFIK


def test_each_waits_longer_than_a_gateway_and_than_its_pings() -> None:
    rest = envoy_routes()[-1]
    waits = {
        "nginx": re.findall(r"proxy_read_timeout (\w+);", NGINX),
        "caddy": re.findall(r"response_header_timeout (\w+)", CADDY),
        "envoy": [rest["route"]["timeout"], envoy_manager()["stream_idle_timeout"]],
        "traefik": re.findall(r"responseHeaderTimeout: (\w+)", TRAEFIK),
    }
    settings = Settings()
    longest = max(settings.request_deadline_s, settings.stream_ping_s)
    assert all(waits.values())
    short = {name: found for name, found in waits.items() if min(map(seconds, found)) <= longest}
    assert short == {}


def test_each_lets_streams_through_and_last() -> None:
    assert "proxy_set_header Upgrade $http_upgrade;" in NGINX
    assert "flush_interval -1" in CADDY  # Caddy and Traefik upgrade by themselves
    assert envoy_manager()["upgrade_configs"] == [{"upgrade_type": "websocket"}]
    (stream,) = (route for route in envoy_routes() if "safe_regex" in route["match"])
    assert re.fullmatch(stream["match"]["safe_regex"]["regex"], "/v1/sessions/0123abc/stream")
    assert (stream["route"]["timeout"], stream["route"]["idle_timeout"]) == ("0s", "0s")


def test_bodies_are_handed_on_as_they_come() -> None:
    assert {"proxy_request_buffering off;", "proxy_buffering off;"} <= {
        line.strip() for line in NGINX.splitlines()
    }
    (largest,) = re.findall(r"client_max_body_size (\d+)m;", NGINX)
    assert int(largest) * 10**6 >= Settings().max_request_bytes
    names = [each["name"] for each in envoy_manager()["http_filters"]]
    assert names == ["envoy.filters.http.router"]  # and none that buffers


def test_those_that_ask_for_readiness_ask_every_second() -> None:
    (cluster,) = ENVOY["clusters"]
    (check,) = cluster["health_checks"]
    assert (check["interval"], check["http_health_check"]["path"]) == ("1s", "/readyz")
    assert re.search(r"health_uri /readyz\s+health_interval 1s", CADDY)
    assert "healthCheck: {path: /readyz, interval: 1s" in TRAEFIK


@pytest.mark.parametrize("text", [NGINX, CADDY, str(ENVOY)], ids=["nginx", "caddy", "envoy"])
def test_each_is_before_two_gateways_and_speaks_tls(text: str) -> None:
    assert {"8101", "8102", "8443"} <= set(re.findall(r"\d{4}", text))
    assert "tls.crt" in text
    assert "tls.key" in text
