"""Every command of the runbook and its neighbors is run by a test, or the reason is here."""

from __future__ import annotations

import re

import pytest

from scripts.deploy.check import ROOT

PAGES = (
    "README.md",
    "SECURITY.md",
    "docs/operations.md",
    "docs/proxies.md",
    "docs/runbook.md",
    "docs/security.md",
    "deploy/README.md",
    "deploy/kubernetes/README.md",
    "deploy/triton/README.md",
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What stands between backticks in a sentence and is more than a name.
SPOKEN = re.compile(
    r"`((?:\.venv/bin/)?(?:tamvt(?:-model)?|make|python|pip|redis-cli|docker|kubectl|helm|promtool"
    r"|BACKENDS=\w+) [^`\n]+)`"
)
NO_CLUSTER = "no cluster is at hand; what it would apply is rendered and checked"
NO_DOCKER = "no Docker is at hand; make check-images runs the steps"
MINUTES = "it takes minutes: a target, or a program, of its own"
MEASURES = "it measures, which wants a free machine"
# How a command begins, the longer ones first, and the test that does it, or why none can.
DONE_BY = {
    "make stack TRITON=1": "tests/deploy/test_stack_with_triton.py",
    "make stack": "tests/deploy/test_stack.py",
    "make serve": "tests/service/commands/test_serve.py",
    "make demo": "tests/e2e/test_demo.py",
    "make triton": "tests/service/local/test_triton.py",
    "make manifests": "tests/deploy/test_chart_safety.py",
    "make sbom": "tests/deploy/test_bill_of_materials.py",
    "make fuzz": "tests/fuzz/test_fuzz.py",
    "make test-faults": "tests/faults/test_killed.py",
    "make check-images": MINUTES,
    "make check-upgrade": MINUTES,
    "make check": "tests/test_packaging.py",
    "make test": "tests/test_packaging.py",
    "make setup": "tests/test_packaging.py",
    "make help": "tests/test_conventions.py",
    "make bench": MEASURES,
    "url=": "tests/test_readme.py",
    "clip=": "tests/test_readme.py",
    "session=": "tests/test_readme.py",
    "curl -s": "tests/test_readme.py",
    "curl --cacert .state/stack": "tests/deploy/test_stack.py",
    "curl http://127.0.0.1:8000/readyz": "tests/service/test_app.py",
    "TAMVT_API_KEY=": "tests/deploy/test_stack.py",
    "TAMVT_TLS_CERTIFICATE=": "tests/service/server/test_tls.py",
    "TAMVT_ENGINE=triton tamvt serve": "tests/deploy/test_stack_with_triton.py",
    "THP_MEM_ALLOC_ENABLE=": "tests/service/server/test_malloc.py",
    "GLIBC_TUNABLES=": "tests/service/server/test_malloc.py",
    "export TAMVT_KEYS=": "tests/service/commands/test_keys.py",
    "export REDIS_PASSWORD": "tests/deploy/test_containers.py",
    "export ": NO_DOCKER,
    "chmod 644 metrics.key": NO_DOCKER,
    "tamvt serve": "tests/service/commands/test_serve.py",
    "tamvt keys": "tests/service/commands/test_keys.py",
    "tamvt doctor": "tests/service/local/test_doctor.py",
    "tamvt top": "tests/service/commands/test_top.py",
    "tamvt track": "tests/e2e/test_track.py",
    "tamvt batch --ray": "tests/e2e/test_batch_ray.py",
    "tamvt batch": "tests/e2e/test_batch.py",
    "tamvt triton": "tests/service/local/test_triton.py",
    "tamvt bench": "tests/service/commands/test_bench.py",
    "tamvt-model export": "tests/model/commands/test_export.py",
    "tamvt-model evaluate": MINUTES,
    "tamvt-model bench": "tests/model/commands/test_bench.py",
    "python -m scripts.deploy.backup": "tests/deploy/test_saved_sessions.py",
    "python -m scripts.observability.dashboards": "tests/deploy/test_observability.py",
    "python -m scripts.observability.pictures": MINUTES,
    "python -m scripts.draw_readme_picture": MINUTES,
    "python -m service.settings": "tests/test_conventions.py",
    "python -m service.telemetry.metrics": "tests/service/telemetry/test_metrics.py",
    "python -m loadtests": MEASURES,
    "python -m scripts.measure": MEASURES,
    "pip install '.[openvino]'": "tests/service/engines/test_open_vino.py",
    "redis-cli BGREWRITEAOF": "tests/deploy/test_saved_sessions.py",
    "redis-cli CONFIG SET requirepass": "tests/deploy/test_stack.py",
    "redis-cli": "it looks at Redis and changes nothing; Redis's own tests do it",
    "kubectl": NO_CLUSTER,
    "helm": NO_CLUSTER,
    "docker": NO_DOCKER,
    "BACKENDS=python deploy/triton/smoke.sh": MINUTES,
    "deploy/triton/smoke.sh": "no GPU is at hand; make check-images runs its CPU part",
}
# What only Docker, a cluster or a GPU could run, and says itself that it was not.
NOT_RUN = (
    "Dockerfile",
    "docker-compose.yml",
    "deploy/README.md",
    "deploy/kubernetes/README.md",
    "deploy/kubernetes/prometheus-adapter.yaml",
    "deploy/kubernetes/chart/templates/batch.yaml",
    "deploy/kubernetes/chart/templates/training.yaml",
    "deploy/kubernetes/chart/values/gpu.yaml",
    "deploy/kubernetes/chart/values/gpu-tensorrt.yaml",
    "deploy/triton/README.md",
    "deploy/triton/build_engine.sh",
    "deploy/triton/smoke.sh",
    "docs/proxies.md",
    "docs/runbook.md",
    "docs/training.md",
)


def commands(page: str) -> list[str]:
    """A page's commands: those of its shell blocks, continued lines joined, and of sentences."""
    text = (ROOT / page).read_text()
    blocks = "".join(body for kind, body in BLOCK.findall(text) if kind == "sh")
    lines = [line.strip() for line in blocks.replace("\\\n", " ").splitlines() if line.strip()]
    return [
        line.removeprefix(".venv/bin/") for line in (*lines, *SPOKEN.findall(BLOCK.sub("", text)))
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_done_or_says_why_not(page: str) -> None:
    unknown = [line for line in commands(page) if not line.startswith(tuple(DONE_BY))]
    assert unknown == []


def test_what_does_the_commands_is_there_and_nothing_is_named_in_vain() -> None:
    named = [done for done in DONE_BY.values() if done.startswith("tests/")]
    assert [path for path in named if not (ROOT / path).is_file()] == []
    found = [line for page in PAGES for line in commands(page)]
    assert len(found) > 100
    assert [begin for begin in DONE_BY if not any(f.startswith(begin) for f in found)] == []


@pytest.mark.parametrize("file", NOT_RUN)
def test_what_was_not_run_says_so(file: str) -> None:
    text = (ROOT / file).read_text()
    assert re.search(r"\b[Nn]ot (yet )?(run|built)\b|[Nn]either was run yet", text), file


def test_the_runbook_gives_no_number_of_a_gpu() -> None:
    assert "No number: no GPU was at hand" in (ROOT / "docs" / "runbook.md").read_text()
