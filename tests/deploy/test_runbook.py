"""Every command of the runbook and its neighbors is run by a test, or the reason is here."""

from __future__ import annotations

import re

import pytest

from scripts.deploy.check import ROOT

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NO_CLUSTER = "no cluster is at hand; what it would apply is rendered and checked"
NO_DOCKER = "no Docker is at hand; make check-images runs the steps"
# How a command begins, and the test that does it, or why none can.
DONE_BY = {
    "make stack": "tests/deploy/test_stack.py",
    "curl --cacert .state/stack": "tests/deploy/test_stack.py",
    "TAMVT_API_KEY=": "tests/deploy/test_stack.py",
    "python -m scripts.deploy.backup": "tests/deploy/test_saved_sessions.py",
    "kubectl": NO_CLUSTER,
    "helm install": NO_CLUSTER,
    "docker": NO_DOCKER,
    "curl http://127.0.0.1:8000/readyz": "tests/service/test_app.py",
    "export REDIS_PASSWORD": "tests/deploy/test_containers.py",
    "deploy/triton/smoke.sh": "no GPU is at hand; make check-images runs its CPU part",
}


def commands(page: str) -> list[str]:
    """The commands in a page's shell blocks, continued lines joined."""
    text = "".join(BLOCK.findall((ROOT / page).read_text())).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    "page", ["docs/runbook.md", "deploy/README.md", "deploy/kubernetes/README.md"]
)
def test_every_command_is_done_or_says_why_not(page: str) -> None:
    found = commands(page)
    assert found
    unknown = [line for line in found if not any(line.startswith(begin) for begin in DONE_BY)]
    assert unknown == []


def test_the_tests_that_are_named_exist() -> None:
    named = [done for done in DONE_BY.values() if done.startswith("tests/")]
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_runbook_says_what_it_has_not_run() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    assert text.count("ot run") >= 2
    assert "No number: no GPU was at hand" in text
