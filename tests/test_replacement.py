"""A file is the old one or the whole new one: errors while writing, links, folders, devices, permissions, litter."""

import errno
import importlib.util
import os
import stat
import sys

import pytest

from pymlp import replacement
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


def test_a_check_does_not_mind_who_removes_its_file(tmp_path, monkeypatch):
    opened = replacement._open_beside

    def removed_at_once(target):
        stream, temporary = opened(target)
        temporary.unlink()
        return stream, temporary

    monkeypatch.setattr(replacement, "_open_beside", removed_at_once)
    check_replaceable(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_a_check_holds_its_lock_until_the_file_is_gone(tmp_path, monkeypatch):
    unlink, seen = type(tmp_path).unlink, []

    def after_another(self, missing_ok=False):
        monkeypatch.undo()
        replacement._remove_stale(tmp_path / "file")
        seen.append(self.exists())
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(type(tmp_path), "unlink", after_another)
    check_replaceable(tmp_path / "file")
    assert seen == [True]
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


def keep(path, content):
    with replacing(path, keep_previous=True) as stream:
        stream.write(content)


@pytest.fixture
def no_links(monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def test_the_previous_file_is_kept_without_hard_links(tmp_path, no_links):
    path = tmp_path / "file"
    for content in (b"one", b"two", b"three"):
        keep(path, content)
    assert path.read_bytes() == b"three"
    assert previous_of(path).read_bytes() == b"two"
    assert sorted(os.listdir(tmp_path)) == ["file", "file.previous"]


def test_without_hard_links_a_failed_renaming_is_undone(tmp_path, no_links, monkeypatch):
    path = tmp_path / "file"
    keep(path, b"one")
    replace, calls = os.replace, []

    def fail_at_the_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_second)
    with pytest.raises(OSError, match="Input/output"):
        keep(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


def test_other_errors_of_linking_are_errors(tmp_path, monkeypatch):
    path = tmp_path / "file"
    keep(path, b"one")

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="Input/output"):
        keep(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


def test_another_process_that_has_just_kept_the_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    keep(path, b"one")
    link = os.link

    def after_another(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", after_another)
    keep(path, b"two")
    assert (path.read_bytes(), previous_of(path).read_bytes()) == (b"two", b"one")


@pytest.fixture
def stale(tmp_path):
    """What a process that was killed has left."""
    path = tmp_path / "file"
    child = os.fork()
    if child == 0:
        with replacing(path):
            os._exit(9)
    os.waitpid(child, 0)
    (name,) = os.listdir(tmp_path)
    return tmp_path / name


def test_what_killed_processes_left_is_removed(tmp_path, stale):
    _write(tmp_path / "another")
    check_replaceable(tmp_path / "file")
    assert stale.exists()
    _write(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["another", "file"]


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link", "unreadable"])
def test_what_only_has_such_a_name_stops_nobody(tmp_path, stale, kind, monkeypatch):
    stale.unlink()
    if kind == "folder":
        stale.mkdir()
    elif kind == "FIFO":
        os.mkfifo(stale)
    elif kind == "link":
        stale.symlink_to(tmp_path)
    else:
        stale.write_bytes(b"")
        real = open

        def fail(path, mode):
            if path == stale:
                raise OSError(errno.EIO, "Input/output error")
            return real(path, mode)

        monkeypatch.setattr("builtins.open", fail)
    _write(tmp_path / "file")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == [stale.name, "file"]


def test_what_is_being_written_stays(tmp_path):
    with replacing(tmp_path / "file") as stream:
        stream.write(b"one")
        _write(tmp_path / "file", b"two")
        assert (tmp_path / "file").read_bytes() == b"two"
    assert (tmp_path / "file").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


def test_nothing_is_removed_where_nothing_can_be_locked(tmp_path, stale, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(replacement.fcntl, "flock", refuse)
    _write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stale.exists()
    # nor where there are no such locks at all
    monkeypatch.setattr(replacement, "fcntl", None)
    _write(tmp_path / "file", b"newer")
    assert (tmp_path / "file").read_bytes() == b"newer"
    assert stale.exists()


def test_systems_without_locks_and_folders_to_open(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(os, "name", "another")
    spec = importlib.util.find_spec("pymlp.replacement")
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    for content in (b"one", b"two"):
        with elsewhere.replacing(tmp_path / "file", keep_previous=True) as stream:
            stream.write(content)
    assert (tmp_path / "file").read_bytes() == b"two"
    assert sorted(os.listdir(tmp_path)) == ["file", "file.previous"]


@pytest.mark.parametrize("moment", ["locked", "removed"])
def test_a_file_that_is_taken_for_a_stale_one_is_made_anew(tmp_path, monkeypatch, moment):
    flock, taken = replacement.fcntl.flock, []

    def faster(stream, operation):
        if not taken:
            taken.append(stream.name)
            if moment == "locked":
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            os.unlink(stream.name)
        flock(stream, operation)

    monkeypatch.setattr(replacement.fcntl, "flock", faster)
    _write(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_no_memory_for_a_stream_leaves_no_litter(tmp_path, monkeypatch):
    def fail_late(path, mode):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        raise MemoryError

    monkeypatch.setattr("builtins.open", fail_late)
    with pytest.raises(MemoryError):
        _write(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_ctrl_c_before_the_first_byte_leaves_no_litter(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(replacement.fcntl, "flock", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "file")
    assert os.listdir(tmp_path) == []
