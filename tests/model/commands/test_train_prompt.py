"""`tamvt-model train prompt`: what it is told."""

from pathlib import Path

import pytest

from model.__main__ import main


def test_a_set_of_stills_that_is_not_known_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "prompt", "--sets", "birds,voc_animals", "-o", str(tmp_path / "run")]
    assert main(words) == 2
    assert "no birds" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
