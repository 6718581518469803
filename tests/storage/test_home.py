import pytest

from warmray.errors import InputError
from warmray.storage.home import build_folder, home, make_folder


def test_a_relative_home_is_refused(monkeypatch):
    monkeypatch.setenv("WARMRAY_HOME", "somewhere")
    with pytest.raises(InputError, match="relative path 'somewhere'"):
        home()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file/below"):
        make_folder(tmp_path / "file" / "below")


def test_a_folder_that_could_not_be_built_leaves_nothing(tmp_path):
    def build():
        with build_folder(tmp_path / "built") as building:
            (building / "first").touch()
            (building / "missing" / "second").touch()

    with pytest.raises(InputError, match=f"cannot write to {tmp_path} "):
        build()
    assert list(tmp_path.iterdir()) == []


def test_of_two_builders_the_first_to_finish_wins(tmp_path):
    with build_folder(tmp_path / "built") as slower:
        (slower / "slower").touch()
        with build_folder(tmp_path / "built") as faster:
            (faster / "faster").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["built", "faster"]
