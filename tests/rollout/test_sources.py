"""Every format gives the same rows, and every way a file can be broken is one sentence."""

import csv
import gzip
import json
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from rollout.sources import DataError, read_rows, unusable

ROWS = [
    {"question": f"what is {i}?\nü", "answer": str(i), "meta": {"level": i, "tags": ["a", str(i)]}} for i in range(7)
]
FLAT = [{"question": row["question"], "answer": row["answer"]} for row in ROWS]
COLUMNS = ["question", "answer"]


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(FLAT)


def write_stream(path: Path, rows: list[dict]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_arrow_file(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def saved_to_disk(folder: Path) -> None:
    """The layout of datasets.Dataset.save_to_disk: stream shards that state.json lists in their order."""
    folder.mkdir(exist_ok=True)
    names = ["data-00001-of-00002.arrow", "data-00000-of-00002.arrow"]
    for name, rows in zip(names, (ROWS[:3], ROWS[3:]), strict=True):
        write_stream(folder / name, rows)
    (folder / "dataset_info.json").write_text("{}")
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))


def shards(folder: Path) -> None:
    folder.mkdir()
    for number, rows in enumerate((ROWS[:4], ROWS[4:])):
        parquet.write_table(pa.Table.from_pylist(rows), folder / f"train-{number}.parquet")


WRITERS = {
    "rows.jsonl": lambda path: path.write_text("\n\n".join(map(json.dumps, ROWS))),
    "rows.json": lambda path: path.write_text("\ufeff" + json.dumps(ROWS, indent=1), encoding="utf-8"),
    "rows.csv": write_csv,
    "rows.parquet": lambda path: parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2),
    "rows.arrow": write_arrow_file,
    "stream.arrow": lambda path: write_stream(path, ROWS),
    "saved": saved_to_disk,
    "shards": shards,
}
ZIPPED = ("rows.jsonl", "rows.json", "rows.csv", "rows.parquet")


def written(folder: Path, name: str) -> Path:
    path = folder / name.removesuffix(".gz")
    WRITERS[path.name](path)
    if name.endswith(".gz"):
        (folder / name).write_bytes(gzip.compress(path.read_bytes()))
    return folder / name


@pytest.mark.parametrize("name", [*WRITERS, *(f"{name}.gz" for name in ZIPPED)])
def test_every_format_gives_the_rows_with_their_numbers(tmp_path, name):
    path = written(tmp_path, name)
    assert unusable(path) is None
    rows = list(read_rows(path, 0, None, COLUMNS))
    assert [{key: row.fields[key] for key in COLUMNS} for row in rows] == FLAT
    assert [(row.number, row.where) for row in rows] == [(i, f"{path}, row {i}") for i in range(7)]
    part = list(read_rows(path, 2, 3, COLUMNS))
    assert [(row.number, row.fields["answer"]) for row in part] == [(2, "2"), (3, "3"), (4, "4")]
    assert [row.number for row in read_rows(path, 6, None, COLUMNS)] == [6]
    assert list(read_rows(path, 7, None, COLUMNS)) == []


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "rows.csv"])
def test_nested_fields_keep_their_form(tmp_path, name):
    path = written(tmp_path, name)
    assert [row.fields["meta"] for row in read_rows(path, 0, None, ["meta.level"])] == [row["meta"] for row in ROWS]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "stream.arrow", "saved"])
def test_only_the_columns_asked_for_are_read_where_that_saves_time(tmp_path, name):
    [row] = read_rows(written(tmp_path, name), 0, 1, ["answer", "meta.tags.0"])
    assert row.fields.keys() == {"answer", "meta"}


def test_a_column_with_a_dot_in_its_name(tmp_path):
    parquet.write_table(pa.Table.from_pylist([{"a.b": "1", "c": "2"}]), tmp_path / "a.parquet")
    [row] = read_rows(tmp_path / "a.parquet", 0, None, ["a.b"])
    assert row.fields["a.b"] == "1"


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.arrow", "stream.arrow", "saved", "rows.csv.gz"])
def test_a_missing_column_is_answered_with_those_there_are(tmp_path, name):
    path = written(tmp_path, name)
    with pytest.raises(DataError, match=r"has no column 'problem'; its columns are question, answer(, meta)?\.$"):
        list(read_rows(path, 0, None, ["problem.0"]))


BROKEN = [
    ("a.jsonl", b'{"q": 1}\n{"q": \n', "{file}, line 2 is not JSON: Expecting value at column 6."),
    ("a.jsonl", b'{"q": 1}\n3\n', "{file}, line 2 is not a JSON object but int."),
    ("a.json", b'[{"q": 1},\n {"q" 2}]', "{file} is not JSON: Expecting ':' delimiter at line 2, column 7."),
    ("a.json", b'{"q": 1}', "{file} is not a JSON list of objects but dict; one object a line is .jsonl."),
    ("a.json", b'[{"q": 1}, "q"]', "{file}, row 1 is not a JSON object but str."),
    ("a.json", b'["\xff"]', "{file} is not UTF-8: invalid start byte at byte 2."),
    ("a.csv", b"q,a\n1,2\n3\n", "{file}, line 3 has 1 cells, and the first line names 2 columns."),
    ("a.csv", b'q,a\n1,2\n"3"x,4\n', "{file}, line 3 is not CSV: ',' expected after '\"'."),
    ("a.csv", b"q,a,q\n1,2,3\n", "{file} names a column twice in its first line: q, a, q."),
    ("a.csv", b"q,a\n1,2\n\xff,2\n", "{file} is not UTF-8: invalid start byte."),
    ("a.parquet", b"PAR1 no such thing", "{file} cannot be read as parquet: Parquet magic bytes not found"),
    ("a.arrow", b"no arrow", "{file} cannot be read as arrow: "),
    ("a.jsonl.gz", b'{"q": 1}\n', "{file} is not a whole gzip file: Not a gzipped file"),
    (
        "a.jsonl.gz",
        gzip.compress(b'{"q": 1}\n' * 9, mtime=0)[:-9],
        "{file} is not a whole gzip file: Compressed file ended",
    ),
    ("a.pkl", b"", "{file} is not in a known format; the name has to end in .jsonl, .json, .csv, .parquet, .arrow"),
    ("a.gz", b"", "{file} is not in a known format; the name has to end in .jsonl, .json, .csv, .parquet, .arrow"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BROKEN)
def test_a_broken_file_is_one_sentence(tmp_path, name, content, sentence):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_rows(file, 0, None, ["q"]))
    assert str(caught.value).startswith(sentence.replace("{file}", str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b""), ("a.csv", b"q,a\n"), ("a.json", b"[]"), ("a.jsonl", b"\n")]
)
def test_an_empty_file_has_no_rows(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert list(read_rows(tmp_path / name, 0, None, ["q"])) == []


def test_a_folder_that_is_no_data_set_says_what_it_is(tmp_path):
    assert unusable(tmp_path) == (
        f"{tmp_path} is neither a folder written by save_to_disk of datasets nor one of .parquet or .arrow files"
    )
    saved_to_disk(tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert unusable(tmp_path) == f"{tmp_path} holds the splits train; give the folder of one"
    assert unusable(tmp_path / "train") is None
    (tmp_path / "train" / "data-00000-of-00002.arrow").unlink()
    assert unusable(tmp_path / "train") == (
        f"{tmp_path / 'train'} lacks data-00000-of-00002.arrow, which its state.json names"
    )
    (tmp_path / "train" / "state.json").write_text('{"_data_files": [], "_indices_data_files": [{"filename": "i"}]}')
    assert "flatten_indices()" in str(unusable(tmp_path / "train"))
    (tmp_path / "train" / "state.json").write_text("[]")
    assert "is not what save_to_disk of datasets writes" in str(unusable(tmp_path / "train"))


def test_a_saved_data_set_cannot_point_out_of_its_folder(tmp_path):
    saved_to_disk(tmp_path / "train")
    write_stream(tmp_path / "other.arrow", ROWS)
    (tmp_path / "train" / "state.json").write_text('{"_data_files": [{"filename": "../other.arrow"}]}')
    assert unusable(tmp_path / "train") == f"{tmp_path / 'train'} lacks other.arrow, which its state.json names"


def test_twenty_thousand_rows_of_parquet_take_about_a_second(tmp_path):
    rows = [{"problem": f"{'word ' * 60}{i}", "answer": str(i), "solution": "long " * 200} for i in range(20_000)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    start = time.process_time()
    assert sum(1 for _ in read_rows(tmp_path / "a.parquet", 0, None, ["problem", "answer"])) == 20_000
    assert time.process_time() - start < 2.0
