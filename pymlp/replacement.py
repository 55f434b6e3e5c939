"""Writing a file so that it is either the old one or the whole new one, whatever happens in between.

The bytes go to a temporary file in the same folder, to the disk, and then take the old file's place in one step.  An
error on the way (a full disk, Ctrl-C, an exception of the writer) leaves the old file and no litter.

A process that is killed does leave its temporary file, which the next one to write the same file removes.  It tells
such a file from that of a process still writing by a lock, which the system takes off when a process ends.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:
    # not on Windows: there the files of killed processes stay
    fcntl = None

# what systems say of hard links where a file system has none
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)


def _target(path: str | os.PathLike[str]) -> Path:
    # a symbolic link stays: what it points to is replaced
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "is not a regular file, so it cannot be replaced", str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder does not exist", str(target.parent))
    return target


def _prefix(target: Path) -> str:
    # of a length that fits where the file's own name does
    return f".pymlp-{hashlib.sha256(target.name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}-"


def _open_new(target: Path) -> tuple[BinaryIO, Path]:
    temporary = target.parent / f"{_prefix(target)}{secrets.token_hex(8)}.part"
    try:
        return open(temporary, "xb"), temporary
    except OSError as error:
        # the reader of the message knows the folder, not the temporary name
        raise type(error)(error.errno, error.strerror, str(target.parent)) from error
    except BaseException:
        # there was no memory for the stream: the file may be there all the same
        temporary.unlink(missing_ok=True)
        raise


def _open_beside(target: Path) -> tuple[BinaryIO, Path]:
    while True:
        stream, temporary = _open_new(target)
        try:
            if _locked(stream):
                return stream, temporary
        except BaseException:
            _discard(stream, temporary)
            raise
        # somebody has taken it for a stale one just before it was locked
        _discard(stream, temporary)


def _locked(stream: BinaryIO) -> bool:
    """Lock a temporary file, so that nobody removes it; false if somebody is about to, or has."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # a file system without locks: whoever looks for stale files there can lock none, and removes none
        return True
    return os.fstat(stream.fileno()).st_nlink > 0


def _discard(stream: BinaryIO, temporary: Path) -> None:
    temporary.unlink(missing_ok=True)
    stream.close()


def _remove_stale(target: Path) -> None:
    """Remove what killed processes have left on the way to `target`, as far as that is possible."""
    if fcntl is None:
        return
    prefix = _prefix(target)
    for name in os.listdir(target.parent):
        if not (name.startswith(prefix) and name.endswith(".part")):
            continue
        temporary = target.parent / name
        # gone in the meantime, another user's, in use, or on a file system without locks: no reason not to write
        with suppress(OSError):
            # a FIFO, say, is none of ours, and could keep whoever opens it waiting
            if not stat.S_ISREG(os.lstat(temporary).st_mode):
                continue
            with open(temporary, "r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()


def previous_of(path: str | os.PathLike[str]) -> Path:
    """Where `replacing` keeps the file that `path` was before."""
    target = Path(os.path.realpath(path))
    return target.with_name(f"{target.name}.previous")


def _replace(temporary: Path, target: Path) -> None:
    """Give the temporary file the name of the target, which keeps its old file under the name of `previous_of`."""
    previous = previous_of(target)
    previous.unlink(missing_ok=True)
    try:
        # a second name for the old file, not a move: at no moment is there none of the target's name
        with suppress(FileExistsError):  # another process has kept it just now
            os.link(target, previous)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.replace(target, previous)
    try:
        os.replace(temporary, target)
    except BaseException:
        if not target.exists():
            os.replace(previous, target)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and renaming is written through
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise OSError if `replacing` could not write `path` now: a missing folder, no permission, not a regular file.

    Meant for before the work whose result is to be written.
    """
    # under its lock, without which another process could take it for a stale one and remove it first
    _discard(*_open_beside(_target(path)))


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep_previous: bool = False) -> Iterator[BinaryIO]:
    """Give a binary stream whose content becomes the file `path` when the body ends without an exception.

    Parameters
    ----------
    path : str or path-like
        An existing file keeps its permissions; a new one gets what the process's umask leaves.
    keep_previous : bool, default=False
        Whether the old file stays under the name that `previous_of` gives, in place of the one before it.

    Raises
    ------
    OSError
        Whatever the system says, or `path` is a folder or a device.  The old file is untouched.
    """
    target = _target(path)
    _remove_stale(target)
    stream, temporary = _open_beside(target)
    lock: int | None = None
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if fcntl is not None:
                # closing takes the lock off, unless the file is open once more
                lock = os.dup(stream.fileno())
        there = target.exists()
        if there:
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        if there and keep_previous:
            _replace(temporary, target)
        else:
            os.replace(temporary, target)
        _sync_folder(target.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            # an error of writing does not say which file it was
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if lock is not None:
            os.close(lock)
