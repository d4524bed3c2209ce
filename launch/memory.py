"""How much memory the whole job holds."""

import psutil


def job_bytes() -> int:
    """Proportional set size, in bytes, of this process and everything it started: shared pages are counted once.

    Processes of other nodes are not seen.
    """
    total = 0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # It ended while we were looking, or belongs to another user, as on a shared cluster.
            continue
    return total
