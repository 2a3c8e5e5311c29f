"""Files of this host, gathered to lie at the same places on a disk."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path


class HostTree:
    """A set of the host's files, each with what leads to it, and files of the lab's own beside them.

    Paths stay what they are, so that a virtual environment, its scripts, and caches of compiled modules hold in the
    machine too.
    """

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}
        self._made: dict[str, tuple[bytes, int]] = {}

    def make(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Adds a file that the host does not have."""
        self._made[path] = content, stat.S_IFREG | mode

    def make_directory(self, path: str) -> None:
        """Adds an empty directory that the host may not have."""
        self._made[path] = b"", stat.S_IFDIR | 0o755

    def make_link(self, path: str, target: str) -> None:
        """Adds a symbolic link, where the host's own file of that name is not added."""
        self._made[path] = target.encode(), stat.S_IFLNK | 0o777

    def add(self, path: Path) -> None:
        """Adds a file or an empty directory, and the symbolic links on the way to it; raises OSError where it is
        missing."""
        current = Path("/")
        parts = path.parts[1:]
        for index, part in enumerate(parts):
            current /= part
            if current.is_symlink():
                self._paths[str(current)] = current
                target = os.path.normpath(current.parent / current.readlink())
                self.add(Path(target, *parts[index + 1 :]))
                return
        current.lstat()
        self._paths[str(current)] = current

    def add_below(self, directory: Path, skip: Callable[[Path], bool] = lambda path: False) -> None:
        """Adds everything below; of what is skipped, a directory stays as an empty one, so that listings agree."""
        self.add(directory)
        for path in sorted(directory.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if skip(path):
                    self.add(path)
                else:
                    self.add_below(path, skip)
            elif not skip(path):
                self.add(path)

    def key(self) -> str:
        """A digest of names, kinds, sizes and times: another one means that something changed."""
        digest = hashlib.sha256()
        for name, path in sorted(self._paths.items()):
            status = path.lstat()
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            time = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            digest.update(f"{name}\0{status.st_mode}\0{size}\0{time}\n".encode(errors="surrogateescape"))
        for name, (content, mode) in sorted(self._made.items()):
            digest.update(f"{name}\0{mode}\0{len(content)}\n".encode() + content)
        return digest.hexdigest()[:32]

    def write_tar(self, output: Path) -> None:
        """Writes an uncompressed tar, everything in it root's, times to the nanosecond."""
        with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, path in sorted(self._paths.items()):
                info = tar.gettarinfo(path, arcname=name)
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                seconds, nanoseconds = divmod(path.lstat().st_mtime_ns, 10**9)
                # A float would lose the last digits, by which caches tell whether a file has changed.
                info.pax_headers = {"mtime": f"{seconds}.{nanoseconds:09d}"}
                if info.isreg():
                    with path.open("rb") as file:
                        tar.addfile(info, file)
                else:
                    tar.addfile(info)
            for name, (content, mode) in sorted(self._made.items()):
                if name not in self._paths:
                    _add_made(tar, name, content, mode)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._paths, *self._made}))


def _add_made(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name.lstrip("/"))
    info.mode = stat.S_IMODE(mode)
    if stat.S_ISLNK(mode):
        info.type, info.linkname = tarfile.SYMTYPE, content.decode()
    elif stat.S_ISDIR(mode):
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(content)
    tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
