"""The scratch folder of a program that shares the machine's file system."""

import os

_BYTES_PER_ENTRY = 4096


def most_entries(most_bytes: int) -> int:
    """Files and folders in a scratch folder of this size: those without content take space too."""
    return 1024 + most_bytes // _BYTES_PER_ENTRY


def make(parent: str, uid: int | None) -> str:
    """A folder that only `uid` (None: this user) and root can enter."""
    folder = os.path.join(os.path.realpath(parent), f"entrain-sandbox-{os.urandom(8).hex()}")
    os.mkdir(folder, 0o700)
    if uid is not None:
        os.chown(folder, uid, uid)
    return folder


def is_too_large(folder: str, most_bytes: int) -> bool:
    """Whether it holds more bytes or entries, or hides what it holds."""
    most = most_entries(most_bytes)
    held_bytes = entries = 0
    ahead = [folder]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as listing:
                for entry in listing:
                    entries += 1
                    held_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
                    if held_bytes > most_bytes or entries > most:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):  # the program is at work in it
            continue
        except (PermissionError, OSError):  # closed to us, or a path beyond all lengths
            return True
    return False


def remove(folder: str) -> None:
    """With everything in it, at any depth. Only when no program is at work in it any more."""
    number = 0
    os.chmod(folder, 0o700)
    while names := os.listdir(folder):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            # What a folder holds moves up: no path grows long, however deep the program dug.
            for below in os.listdir(path):
                inner = os.path.join(path, below)
                if os.path.islink(inner) or not os.path.isdir(inner):
                    os.unlink(inner)
                    continue
                os.chmod(inner, 0o700)  # moving a folder writes to it
                number += 1
                os.rename(inner, os.path.join(folder, f".{number}.removed"))
            os.rmdir(path)
    os.rmdir(folder)
