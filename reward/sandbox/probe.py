"""Runs inside a fresh sandbox to see whether it holds. Prints what the Python inside is, as JSON.

Arguments: the level, its memory limit in bytes, a file outside that every user could read, then folders of packages.
"""

import json
import os
import resource
import socket
import sys


def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False


level, memory_bytes, outside, *folders = sys.argv[1:]
with open("written", "w") as file:
    file.write("the scratch folder can be written")
holds = {"memory": resource.getrlimit(resource.RLIMIT_AS)[0] <= int(memory_bytes)}
if level != "LIMITS":
    holds["files"] = refused(open, outside)
    holds["folders"] = refused(open, "/tmp/entrain-sandbox-probe", "w")
    holds["sockets"] = refused(socket.socket, socket.AF_INET) and refused(socket.socket, socket.AF_UNIX)
    holds["processes"] = refused(open, "/proc/self/status")
if level == "NAMESPACED":
    holds["process ids"] = os.getpid() == 2
found = {
    "broken": sorted(name for name, held in holds.items() if not held),
    "version": list(sys.version_info[:2]),
    "packages": [folder for folder in folders if os.access(folder, os.R_OK | os.X_OK)],
}
print(json.dumps(found))
