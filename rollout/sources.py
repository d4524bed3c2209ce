"""Rows of a file or folder, whatever its format, as dictionaries. Nothing is downloaded and nothing is unpickled."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast


class DataError(ValueError):
    """A source of prompts that cannot be used as it is. The message names the file and the row."""


@dataclass(frozen=True)
class Row:
    """Row `number` of a source, counted from 0, with its place in words for error messages."""

    number: int
    where: str
    fields: dict[str, Any]


Record = dict[str, Any]
# Rows of text are parsed when they are asked for.
Reader = Callable[[Path, IO[bytes], Sequence[str]], Iterator[Record] | Iterator[Callable[[], Record]]]


def unusable(path: Path) -> str | None:
    """Why rows cannot be read from `path`, as far as its name and place say it; None where they do not."""
    if path.is_dir():
        return _unusable_folder(path)
    if not path.is_file():
        return f"there is no file {path}"
    if _ending(path) not in _READERS:
        return f"{path} is not in a known format; the name has to end in {', '.join(_READERS)} or one of these and .gz"
    return None


def read_rows(path: Path, first_row: int, rows: int | None, columns: Sequence[str]) -> Iterator[Row]:
    """Rows `first_row` to `first_row + rows` of the file or folder, in its order; all from `first_row` on for None.

    Of formats that are stored by column only the `columns` are read; dotted names stand for what is within a column.
    Raises DataError.
    """
    if reason := unusable(path):
        raise DataError(f"{reason}.")
    end = None if rows is None else first_row + rows
    for number, record in islice(enumerate(_records(path, columns)), first_row, end):
        # Rows before the first are not parsed, so mistakes in them do no harm.
        yield Row(number, f"{path}, row {number}", record() if callable(record) else record)


def _records(path: Path, columns: Sequence[str]) -> Iterator[Record | Callable[[], Record]]:
    if path.is_dir():
        for shard in _files_of(path):
            yield from _records(shard, columns)
        return
    try:
        with _open(path) as file:
            yield from _READERS[_ending(path)](path, file, columns)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _ending(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _jsonl(path: Path, file: IO[bytes], _columns: Sequence[str]) -> Iterator[Callable[[], Record]]:
    # Blank lines are no rows, so rows are counted without them and lines with them.
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield partial(_line, path, line, number)


def _json(path: Path, file: IO[bytes], _columns: Sequence[str]) -> Iterator[Callable[[], Record]]:
    rows = _json_value(path, file.read(), None)
    if not isinstance(rows, list):
        raise DataError(f"{path} is not a JSON list of objects but {type(rows).__name__}; one object a line is .jsonl.")
    for number, row in enumerate(rows):
        yield partial(_object, f"{path}, row {number}", row)


def _line(path: Path, line: bytes, number: int) -> Record:
    return _object(f"{path}, line {number}", _json_value(path, line, number))


def _json_value(path: Path, text: bytes, line: int | None) -> Any:
    where = f"{path}" if line is None else f"{path}, line {line}"
    try:
        return json.loads(text.decode("utf-8-sig" if line in (None, 1) else "utf-8").strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8: {error.reason} at byte {error.start}.") from error
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if line is not None else f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{where} is not JSON: {error.msg} at {place}.") from error


def _object(where: str, value: Any) -> Record:
    if not isinstance(value, dict):
        raise DataError(f"{where} is not a JSON object but {type(value).__name__}.")
    return value


def _csv(path: Path, file: IO[bytes], columns: Sequence[str]) -> Iterator[Callable[[], Record]]:
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long solution
    lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(lines, None)
        if header is None:
            return
        if len(set(header)) < len(header):
            raise DataError(f"{path} names a column twice in its first line: {', '.join(header)}.")
        _present(path, header, columns)
        for cells in lines:
            if cells:
                yield partial(_cells, path, header, cells, lines.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num} is not CSV: {error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason}.") from error


def _cells(path: Path, header: list[str], cells: list[str], line: int) -> Record:
    if len(cells) != len(header):
        raise DataError(f"{path}, line {line} has {len(cells)} cells, and the first line names {len(header)} columns.")
    return dict(zip(header, cells, strict=True))


def _parquet(path: Path, file: IO[bytes], columns: Sequence[str]) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        # A gzip stream seeks by reading all over again, so it is unpacked first.
        table = parquet.ParquetFile(pyarrow.BufferReader(file.read()) if path.suffix == ".gz" else file)
        wanted = _present(path, table.schema_arrow.names, columns)
        for batch in table.iter_batches(columns=wanted):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} cannot be read as parquet: {_first_line(error)}.") from error


def _arrow(path: Path, file: IO[bytes], columns: Sequence[str]) -> Iterator[Record]:
    import pyarrow

    try:
        if file.read(6) == b"ARROW1":
            file.seek(0)
            shard = pyarrow.ipc.open_file(pyarrow.BufferReader(file.read()))
            batches: Any = (shard.get_batch(index) for index in range(shard.num_record_batches))
        else:
            file.seek(0)
            batches = shard = pyarrow.ipc.open_stream(file)
        wanted = _present(path, shard.schema.names, columns)
        for batch in batches:
            yield from batch.select(wanted).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} cannot be read as arrow: {_first_line(error)}.") from error


def _present(path: Path, names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Of each (dotted) column the name that the file has. Raises DataError with all names for one it has not."""
    found: list[str] = []
    for column in columns:
        name = column if column in names else column.partition(".")[0]
        if name not in names:
            raise DataError(f"{path} has no column {name!r}; its columns are {', '.join(names)}.")
        found.append(name)
    return list(dict.fromkeys(found))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


_READERS: dict[str, Reader] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet, ".arrow": _arrow}


def _unusable_folder(folder: Path) -> str | None:
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in folder.iterdir() if child.is_dir())
        return f"{folder} holds the splits {', '.join(splits)}; give the folder of one"
    if (folder / "state.json").is_file():
        state = _state(folder)
        if isinstance(state, str):
            return state
        if state.get("_indices_data_files"):
            return f"{folder} holds a selection of rows that was not written out; save flatten_indices() of it"
        missing = [file.name for file in _files_of(folder) if not file.is_file()]
        return f"{folder} lacks {', '.join(missing)}, which its state.json names" if missing else None
    if not _files_of(folder):
        return f"{folder} is neither a folder written by save_to_disk of datasets nor one of .parquet or .arrow files"
    return None


def _files_of(folder: Path) -> list[Path]:
    """The shards of a folder: those that `save_to_disk` of Hugging Face datasets lists, else by name."""
    if (folder / "state.json").is_file():
        state = _state(folder)
        listed = state["_data_files"] if isinstance(state, dict) else []
        # Only the name: a list that pointed out of the folder would read something else.
        return [folder / Path(entry["filename"]).name for entry in listed]
    return sorted([*folder.glob("*.parquet"), *folder.glob("*.arrow")])


def _state(folder: Path) -> Record | str:
    """The content of state.json, or a sentence without its full stop that says what is wrong with it."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        [Path(entry["filename"]) for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"{folder / 'state.json'} is not what save_to_disk of datasets writes: {type(error).__name__}: {error}"
    return state
