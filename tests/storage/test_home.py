import pytest

from warmray.errors import InputError
from warmray.storage.home import home, make_folder


def test_a_relative_home_is_refused(monkeypatch):
    monkeypatch.setenv("WARMRAY_HOME", "somewhere")
    with pytest.raises(InputError, match="relative path 'somewhere'"):
        home()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file/below"):
        make_folder(tmp_path / "file" / "below")
