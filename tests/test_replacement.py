"""A file is the old one or the whole new one: errors while writing, links, folders, devices, permissions."""

import errno
import os
import stat

import pytest

from pymlp.replacement import check_replaceable, previous_of, replacing


def _write(path, content=b"new"):
    with replacing(path) as stream:
        stream.write(content)


def test_new_and_old_files(tmp_path):
    path = tmp_path / "file"
    _write(path, b"one")
    assert path.read_bytes() == b"one"
    _write(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_error_of_the_writer_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half():
        with replacing(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_error_of_the_system_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="Input/output") as caught:
        _write(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_data_then_folder_reach_the_disk(tmp_path, monkeypatch):
    kinds = []
    real = os.fsync

    def record(descriptor):
        kinds.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    _write(tmp_path / "file")
    assert kinds == [False, True]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    _write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("attempt", [_write, check_replaceable])
def test_places_that_cannot_be_written(tmp_path, attempt):
    with pytest.raises(IsADirectoryError):
        attempt(tmp_path)
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        attempt(tmp_path / "missing" / "file")
    with pytest.raises(OSError, match="not a regular file"):
        attempt(os.devnull)


def test_a_check_changes_nothing(tmp_path):
    check_replaceable(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_no_permission_names_the_folder(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError) as caught:
        check_replaceable(tmp_path / "file")
    assert caught.value.filename == str(tmp_path)


def test_permissions_follow_the_umask_and_the_old_file(tmp_path):
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        _write(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    _write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_the_previous_file_is_kept_if_asked_for(tmp_path):
    path = tmp_path / "file"
    for content in (b"one", b"two", b"three"):
        with replacing(path, keep_previous=True) as stream:
            stream.write(content)
    assert path.read_bytes() == b"three"
    assert previous_of(path).read_bytes() == b"two"
    assert sorted(os.listdir(tmp_path)) == ["file", "file.previous"]
