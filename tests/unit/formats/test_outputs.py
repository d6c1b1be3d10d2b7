import errno
import os
import shutil
from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.outputs import whole_folder_or_nothing, whole_or_nothing


def test_renames_all_outputs_at_the_end(tmp_path: Path) -> None:
    outputs = [tmp_path / "a", tmp_path / "b"]
    with whole_or_nothing(outputs) as partials:
        for partial in partials:
            partial.write_text("whole")
        assert not any(output.exists() for output in outputs)
    assert [output.read_text() for output in outputs] == ["whole", "whole"]
    assert sorted(tmp_path.iterdir()) == outputs


def test_leaves_nothing_after_an_error_and_keeps_what_was_there(tmp_path: Path) -> None:
    output = tmp_path / "a"
    output.write_text("before")
    with pytest.raises(RuntimeError), whole_or_nothing([output]) as (partial,):
        partial.write_text("half")
        raise RuntimeError
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with whole_or_nothing([tmp_path / "link"]) as (partial,):
        partial.write_text("whole")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "whole"


def test_refuses_an_output_that_is_an_input(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("precious")
    with pytest.raises(UserError, match="also an input"), whole_or_nothing([path], inputs=[tmp_path / "." / "a"]):
        pass
    assert path.read_text() == "precious"


def test_refuses_two_outputs_in_one_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Two outputs"), whole_or_nothing([tmp_path / "a", tmp_path / "a"]):
        pass


def test_refuses_an_output_in_the_folder_of_an_input(tmp_path: Path) -> None:
    """A model may be a folder, and its weights must not become embeddings."""
    with pytest.raises(UserError, match="lies in the folder"), whole_or_nothing([tmp_path / "a"], inputs=[tmp_path]):
        pass


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with (
        pytest.raises(UserError, match=r"outputs cannot be written \(.*\); choose other names"),
        whole_or_nothing([tmp_path / "a"]),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("folder", r"folder' is not a regular file; choose another name"),
        (os.devnull, rf"'{os.devnull}' is not a regular file"),
        ("absent/a", r"absent' of the output 'a' does not exist; make it first"),
        ("x" * 240, rf"output name '{'x' * 40}…' is too long"),
    ],
)
def test_refuses_what_cannot_be_replaced(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=sentence), whole_or_nothing([tmp_path / name]):
        pass
    assert Path(os.devnull).is_char_device()


def test_outputs_of_one_run_in_two_folders(tmp_path: Path) -> None:
    outputs = [tmp_path / name / "x" for name in "ab"]
    for output in outputs:
        output.parent.mkdir()
    with whole_or_nothing(outputs) as partials:
        assert [partial.parent for partial in partials] == [output.parent for output in outputs]
        for partial in partials:
            partial.write_text("whole")
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == outputs


@pytest.mark.parametrize(("number", "kind"), [(errno.EROFS, UserError), (errno.ENOSPC, OSError)])
def test_a_folder_that_only_seems_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind, match="refused"), whole_or_nothing([tmp_path / "a"]):
        pass


def test_a_folder_that_vanishes_does_not_hide_the_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RuntimeError), whole_or_nothing([tmp_path / "folder" / "a"]) as (partial,):
        partial.write_text("half")
        shutil.rmtree(tmp_path / "folder")
        raise RuntimeError


def test_what_was_written_beside_an_output_is_removed(tmp_path: Path) -> None:
    with whole_or_nothing([tmp_path / "a"]) as (partial,):
        partial.write_text("whole")
        partial.with_name(f"{partial.name}.plain").write_text("an intermediate file")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "tracks"
    with whole_folder_or_nothing(target) as folder:
        (folder / "CDS.bw").write_text("track")
        assert not target.exists()
    assert (target / "CDS.bw").read_text() == "track"
    assert target.stat().st_mode & 0o777 == 0o755
    with pytest.raises(RuntimeError), whole_folder_or_nothing(tmp_path / "other") as folder:
        (folder / "CDS.bw").write_text("track")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_folder_gives_way(tmp_path: Path) -> None:
    (tmp_path / "tracks").mkdir()
    with whole_folder_or_nothing(tmp_path / "tracks") as folder:
        (folder / "CDS.bw").write_text("track")
    assert [path.name for path in (tmp_path / "tracks").iterdir()] == ["CDS.bw"]
