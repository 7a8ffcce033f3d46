"""Folders of results: whole or not at all."""

import pytest

from tempscale.files import check_new_folder, new_folder


def test_a_folder_is_there_as_a_whole_or_not_at_all(tmp_path):
    def fail(out):
        with new_folder(out) as folder:
            (folder / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "out") as folder:
        (folder / "whole").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]
    with pytest.raises(ValueError, match="out exists and is not an empty folder: name a new one"):
        check_new_folder(tmp_path / "out")
