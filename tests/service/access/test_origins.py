"""Who may call: names of the service, and pages of its own."""

from __future__ import annotations

import pytest

from service.access.origins import Access, read_hosts
from service.errors import ForeignHost, ForeignOrigin

OWN = Access(hosts=read_hosts("localhost, Tracker.example."))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "tracker.example:443",
        "127.0.0.1:8000",
        "10.0.0.7",
        "[::1]:8000",
        "[::1]",
    ],
)
def test_the_services_names_and_addresses_are_served(host: str) -> None:
    OWN.check_host({"host": host})


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[", "x]", "1.2.3"]
)
def test_other_names_are_refused(host: str) -> None:
    with pytest.raises(ForeignHost, match="TAMVT_ALLOWED_HOSTS"):
        OWN.check_host({"host": host})


@pytest.mark.parametrize("access", [Access(), Access(hosts=read_hosts("*"))])
def test_any_name_is_served_where_none_is_set(access: Access) -> None:
    access.check_host({"host": "any.example"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "a:1", "origin": "http://a:1"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
        {"host": "a", "sec-fetch-site": "same-origin"},
        {"host": "a", "sec-fetch-site": "none"},
    ],
)
def test_own_pages_and_programs_may_change_something(headers: dict[str, str]) -> None:
    Access().check(headers, method="POST")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://a:2"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://" + "a" * 50_000},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_elsewhere_may_change_nothing(headers: dict[str, str]) -> None:
    given = {"host": "a:1", **headers}
    with pytest.raises(ForeignOrigin) as caught:
        Access().check(given, method="POST")
    assert len(str(caught.value)) < 200
    Access().check(given, method="GET")  # what is read, the browser keeps from the page
    Access(origins=("*",)).check(given, method="POST")
