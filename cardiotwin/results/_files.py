"""Writing whole files or none: a temporary neighbour, then one atomic rename."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HDF5_SLACK = 1 << 18  # bytes a write may add beside its data: chunk index, offsets, headers
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFull(OSError):
    """No room is left for an output file (disk, quota or the process's file-size limit)."""


def disk_full(path: Path, error: OSError, kept: str) -> DiskFull:
    """The error to raise when `path` did not fit.

    Args:
        path: the file that could not be written.
        error: what the operating system said.
        kept: what is still on the disk and usable.

    Returns:
        A `DiskFull` that carries the original errno.
    """
    reason = os.strerror(error.errno or errno.ENOSPC)
    return DiskFull(
        error.errno or errno.ENOSPC,
        f"cannot write {path}: {reason}. {kept} Free space or choose another disk.",
    )


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed onto it when the block ends well.

    The temporary name keeps the suffix, since many writers choose the format by it.

    Args:
        path: the final file; its folder is made when it does not exist.

    Yields:
        The path to write to.

    Raises:
        DiskFull: when the device, the quota or the file-size limit is exhausted.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL_ERRNOS and not isinstance(error, DiskFull):
            raise disk_full(path, error, "An earlier file of that name is unchanged.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def reserve(path: Path, end: int, size: int) -> None:
    """Claim disk space for a write of up to `size` bytes behind the first `end` of an HDF5 file.

    Args:
        path: the existing file; it may grow by the room claimed, which HDF5 then fills.
        end: bytes in use.
        size: uncompressed size of the data to come.

    Raises:
        OSError: when there is no room; the file is as it was.
    """
    needed = size + size // 1000 + _HDF5_SLACK  # deflate may add 0.03 %
    before = path.stat().st_size
    if before >= end + needed:
        return
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    try:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), end, needed)
    except OSError:
        os.truncate(path, before)
        raise
