"""What a manifest says, and what is told where it is wrong."""

import fcntl
from pathlib import Path
from typing import IO

import pytest

from service.commands.batch import read_shard
from service.commands.batch_videos import Claimed, claim
from service.commands.manifest import read_manifest
from service.errors import BadOption


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    table = written(
        tmp_path, "m.csv", "video,mask,clip_length,name\na b.mp4,a.png,2,\nc,c.png,,x\n"
    )
    lines = '{"video": "a b.mp4", "mask": "a.png", "clip_length": 2}\n\n'
    lines += '{"video": "c", "mask": "c.png", "name": "x"}\n'
    found = [read_manifest(table), read_manifest(written(tmp_path, "m.jsonl", lines))]
    assert [each.entry for each in found[0]] == [each.entry for each in found[1]]
    assert [each.name for each in found[0]] == ["000000-a_b", "x"]
    assert [[each.number for each in lines] for lines in found] == [[2, 3], [1, 3]]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"video": "a"}', "mask: Field required"),
        ('{"video": "a", "mask": "b", "hue": 1}', "hue: Extra inputs"),
        ('{"video": "a", "mask": "b", "name": "../up"}', "name: String should match"),
        ('{"video": "a", "mask": "b", "clip_length": 0}', "clip_length: Input should be greater"),
        ("video.mp4", "it is no JSON"),
        ("[]", "it: Input should be"),
        ('"' + 30_000 * "a" + '"', "it is longer than"),
    ],
)
def test_a_wrong_line_is_told_and_the_others_stand(tmp_path: Path, line: str, problem: str) -> None:
    right = '{"video": "c", "mask": "c.png"}'
    wrong, other = read_manifest(written(tmp_path, "m.jsonl", f"{line}\n{right}\n"))
    assert wrong.entry is None
    assert wrong.problem.startswith(problem)
    assert (wrong.number, wrong.index) == (1, 0)
    assert other.entry is not None
    assert (other.number, other.index) == (2, 1)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("m.txt", "video,mask\n", "neither"),
        ("m.csv", "", "names no column"),
        ("m.csv", "video,mask\n", "names no video"),
        ("m.csv", "video,frames\na,b\n", "names no column mask"),
        ("m.jsonl", "\n", "names no video"),
        ("m.csv", "video,mask,name\na,b,X\nc,d,x\n", "lines 2 and 3 have one name"),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    with pytest.raises(BadOption, match=problem):
        read_manifest(written(tmp_path, name, text))


def test_a_csv_line_with_too_many_fields_is_told(tmp_path: Path) -> None:
    lines = read_manifest(written(tmp_path, "m.csv", "video,mask\na,b,c\nd,e\n"))
    assert [line.entry is None for line in lines] == [True, False]


def test_a_shard_is_one_of_n(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert [read_shard(text) for text in ("0/1", "2/8", "index/8")] == [(0, 1), (2, 8), (3, 8)]
    for text in ("8/8", "1", "a/b", "-1/2", "index/3", "0/0"):
        with pytest.raises(BadOption, match="shard"):
            read_shard(text)
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    with pytest.raises(BadOption, match="is not set"):
        read_shard("index/8")


def test_a_lock_that_its_holder_removed_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "video.lock"
    flock = fcntl.flock

    def lock_late(file: IO[str], how: int) -> None:
        lock.unlink()  # its holder goes between our opening and our locking
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with pytest.raises(Claimed), claim(lock):
        pass
    monkeypatch.undo()
    with claim(lock), pytest.raises(Claimed), claim(lock):
        pass
    assert not lock.exists()
