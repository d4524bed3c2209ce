"""Runs `program.py` beside it as a script.

python script.py JSON-of-{paths}
"""

import builtins
import json
import os
import sys

if __name__ == "__main__":
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
    sys.path += json.loads(sys.argv[1])["paths"]
    sys.argv = ["program.py"]
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # which Python has by `site`, and this one runs without
    with open(path, "rb") as file:
        code = compile(file.read(), "program.py", "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__", "__builtins__": builtins})
