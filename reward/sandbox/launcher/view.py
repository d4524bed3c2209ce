"""The file system of a namespaced program: what it may read, a few devices, and its scratch folder, all in memory."""

import os

from . import kernel
from .kernel import MS_BIND, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC
from .scratch import most_entries

_OLD = "/.old"
_ROOT_BYTES = 1 << 20  # for folders and mount points


def build_view(readable: list[str], devices: list[str], scratch: str, scratch_bytes: int) -> None:
    """Makes it the root of this process, which must be in a mount namespace of its own. Raises `OSError`.

    `readable` may name symbolic links; they are copied as they are.
    """
    kernel.mount("none", "/", None, MS_REC | MS_PRIVATE)
    # Any folder would do: the old root comes back into sight at _OLD, with what was in that folder.
    kernel.mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={_ROOT_BYTES},mode=755")
    os.mkdir("/tmp" + _OLD)
    kernel.pivot_root("/tmp", "/tmp" + _OLD)
    os.chdir("/")
    for path in readable:
        _copy(path, MS_RDONLY | MS_NOSUID | MS_NODEV)
    for path in devices:
        _copy(path, MS_NOSUID)
    os.mkdir(scratch)
    options = f"size={scratch_bytes},nr_inodes={most_entries(scratch_bytes)},mode=700"
    kernel.mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, options)
    kernel.unmount(_OLD)
    os.rmdir(_OLD)
    kernel.restrict_mount("/", MS_RDONLY, recursive=False)


def _copy(path: str, flags: int) -> None:
    source = _OLD + path
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), path)
    elif os.path.lexists(path):  # comes with a folder above it
        return
    elif os.path.isdir(source):
        os.mkdir(path)
        kernel.mount(source, path, None, MS_BIND | MS_REC)
        kernel.restrict_mount(path, flags, recursive=True)
    elif os.path.exists(source):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o444))
        kernel.mount(source, path, None, MS_BIND)
        kernel.restrict_mount(path, flags, recursive=False)
