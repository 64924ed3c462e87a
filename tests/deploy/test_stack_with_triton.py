"""`make stack TRITON=1`: both gateways ask one Triton, and answer as with the model inside."""

from __future__ import annotations

from pathlib import Path

from model.export.triton.repository import write_repository
from scripts.deploy.stack import running_stack
from tests.deploy.test_stack import calling, send
from tests.support.running import ROOT, Api


def test_two_gateways_share_a_triton_behind_the_proxy(
    tmp_path: Path, toy_folder: Path, api: Api
) -> None:
    """The stack's Triton is a `local_triton`: no other test of one runs meanwhile."""
    repository = tmp_path / "triton"
    write_repository(toy_folder, "toy", repository, threads=1)
    settings = {
        "TAMVT_MODEL": "toy",
        "TAMVT_WEIGHTS": str(tmp_path / "no weights of its own"),
        "TAMVT_SHUTDOWN_DELAY_S": "0",
    }
    with (
        running_stack(tmp_path / "stack", triton=repository, settings=settings) as stack,
        calling(stack) as http,
    ):
        (model,) = http.get("/v1/models").json()["models"]
        assert model["runtime"] == "triton"
        assert [gateway.is_ready() for gateway in stack.gateways] == [True, True]
        session = Api(http).start()
        found = [send(Api(http), session, number) for number in range(1, 5)]
    alone = api.start()
    assert found == [send(api, alone, number) for number in range(1, 5)]


def test_one_command_runs_it() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nstack:")[2].partition("\n\n")[0]
    assert "export --triton .state/triton" in recipe
    assert "$(if $(TRITON),--triton .state/triton)" in recipe
