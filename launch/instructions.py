"""Prompts with verifiable instructions to train on: `python -m launch.instructions --rows 1000 --seed 0 --out FILE`.

Writes JSON lines in IFEval's form, which `data=instructions data.path=FILE` trains on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from reward.instructions.generate import rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m launch.instructions", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, required=True, help="number of prompts to write")
    parser.add_argument("--seed", type=int, required=True, help="the same seed writes the same rows")
    parser.add_argument("--out", type=Path, required=True, help="file to write, named .jsonl")
    given = parser.parse_args(arguments)
    if given.rows < 1:
        parser.error(f"--rows {given.rows} is less than 1")
    if given.out.suffix != ".jsonl":
        parser.error(f"--out {given.out} does not end in .jsonl, by which it is read later")
    if not given.out.parent.is_dir():
        parser.error(f"--out {given.out}: there is no folder {given.out.parent}")
    with given.out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(given.rows, given.seed))
    print(f"{given.rows} prompts in {given.out}; train on them with data=instructions data.path={given.out}")


if __name__ == "__main__":
    main()
