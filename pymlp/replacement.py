"""Writing a file so that it is either the old one or the whole new one, whatever happens in between.

The bytes go to a temporary file in the same folder, to the disk, and then take the old file's place in one step.  An
error on the way (a full disk, Ctrl-C, an exception of the writer) leaves the old file and no litter.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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


def _open_beside(target: Path) -> tuple[BinaryIO, Path]:
    temporary = target.parent / f".pymlp-{secrets.token_hex(8)}.part"
    try:
        return open(temporary, "xb"), temporary
    except OSError as error:
        # the reader of the message knows the folder, not the temporary name
        raise type(error)(error.errno, error.strerror, str(target.parent)) from error


def previous_of(path: str | os.PathLike[str]) -> Path:
    """Where `replacing` keeps the file that `path` was before."""
    target = Path(os.path.realpath(path))
    return target.with_name(f"{target.name}.previous")


def _keep(target: Path) -> None:
    # a second name for the old file, not a move: at no moment is there none of that name
    spare = target.parent / f".pymlp-{secrets.token_hex(8)}.part"
    os.link(target, spare)
    try:
        os.replace(spare, previous_of(target))
    except BaseException:
        spare.unlink(missing_ok=True)
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
    stream, temporary = _open_beside(_target(path))
    stream.close()
    temporary.unlink()


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
    stream, temporary = _open_beside(target)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            if keep_previous:
                _keep(target)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            # an error of writing does not say which file it was
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_folder(target.parent)
