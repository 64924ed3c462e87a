"""The Job of the chart that tracks a manifest: shards, claims, what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.deploy import check
from scripts.deploy.check import CheckFailed
from tests.deploy.conftest import Render
from tests.support.manifests import Resource, container, environment, mounts, value, volume
from tests.support.running import run_tamvt

ON = "batch.enabled=true"


def test_a_batch_runs_only_where_it_is_asked_for(rendered: Render) -> None:
    assert rendered("cpu").of("Job") == []
    job = rendered("cpu", ON).job("batch")
    assert "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]


def test_every_shard_is_tracked_by_a_pod_of_its_own(rendered: Render) -> None:
    chart = rendered("cpu", ON, "batch.shards=12", "batch.parallelism=3", "batch.retries=5")
    spec = chart.job("batch")["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"]) == (12, 3)
    assert spec["backoffLimitPerIndex"] == 5  # a shard that fails ends no other
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # which that needs
    batch = container(spec["template"]["spec"], "batch")
    assert batch["args"][-2:] == ["--shard", "index/12"]


def test_the_command_reads_the_words_of_the_job(rendered: Render, tmp_path: Path) -> None:
    """Run as a pod of it would be, it wants only for the manifest."""
    pod = rendered("cpu", ON, "batch.manifest=monday/cars.jsonl").job("batch")["spec"]["template"]
    program, *words = container(pod["spec"], "batch")["args"]
    assert program == "tamvt"
    assert "/results" in words
    here = [str(tmp_path / word[1:]) if word.startswith("/") else word for word in words]
    done = run_tamvt(*here, settings={"JOB_COMPLETION_INDEX": "7"})
    assert done.returncode == 1
    missing = tmp_path / "videos/monday/cars.jsonl"
    assert done.stderr == f"tamvt batch: No such file or directory: {missing}\n"


def test_videos_are_read_and_results_are_kept(rendered: Render) -> None:
    claims = ("batch.claims.videos=footage", "batch.claims.results=masks")
    pod = rendered("cpu", ON, *claims).job("batch")["spec"]["template"]["spec"]
    found = mounts(container(pod, "batch"))
    footage = volume(pod, found["/videos"])["persistentVolumeClaim"]
    assert footage == {"claimName": "footage", "readOnly": True}
    assert volume(pod, found["/results"])["persistentVolumeClaim"] == {"claimName": "masks"}


def test_a_queue_of_kueue_is_named_where_there_is_one(rendered: Render) -> None:
    job = rendered("cpu", ON, "batch.queue=videos").job("batch")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "videos"


def test_a_batch_has_its_own_settings_and_threads(rendered: Render) -> None:
    def one(*settings: str) -> Resource:
        pod = rendered("cpu", ON, *settings).job("batch")["spec"]["template"]["spec"]
        return container(pod, "batch")

    source = {"resourceFieldRef": {"containerName": "batch", "resource": "requests.cpu"}}
    assert environment(one())["TAMVT_ENGINE_THREADS"]["valueFrom"] == source
    chosen = one("batch.settings.TAMVT_MODEL=tamvt-r50", "batch.settings.TAMVT_ENGINE_THREADS=4")
    assert value(chosen, "TAMVT_MODEL") == "tamvt-r50"
    assert value(chosen, "TAMVT_ENGINE_THREADS") == "4"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("batch.shards=0", "shards"),
        ("batch.manifest=videos.txt", "manifest"),
        ("batch.manifest=../videos.csv", "manifest"),
        ("batch.queue=Videos!", "queue"),
        ("batch.claims.results=", "results"),
        ("batch.settings.TAMVT_ENGINE=triton", "TAMVT_ENGINE"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused(setting: str, said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        check.render("cpu", "--set", ON, "--set", setting)
