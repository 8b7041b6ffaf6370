"""Sources of text: what can be read, in which order, and how an unreadable one is told."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from addenda import tiny
from addenda.core.errors import DataError
from addenda.measuring.asking.facts import biographies
from addenda.text.files import PIECE
from addenda.text.texts import texts

RECORDS = [{"id": n, "text": f"text number {n}"} for n in range(5)]
WANTED = [{"text": record["text"]} for record in RECORDS]


def lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines(name: str, tmp_path: Path) -> None:
    source = texts(write(tmp_path / name, lines(RECORDS)))
    assert list(source) == WANTED == list(source)  # again and again
    assert (source.name, source.count(), len(source.sha256() or "")) == (name, 5, 64)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_text_file_is_one_document(name: str, tmp_path: Path) -> None:
    assert list(texts(write(tmp_path / name, "One.\n\nTwo: é.\n".encode()))) == [{"text": "One.\n\nTwo: é.\n"}]


def test_a_long_text_file_comes_in_pieces_at_line_ends(tmp_path: Path) -> None:
    line = "x" * 99 + "\n"
    whole = line * (PIECE // 100 + 500)
    pieces = [record["text"] for record in texts(write(tmp_path / "a.txt", whole.encode()))]
    assert len(pieces) == 2
    assert all(piece.endswith("\n") for piece in pieces)
    assert "".join(pieces) == whole


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "a.parquet")
    assert list(texts(tmp_path / "a.parquet")) == WANTED


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", lines(RECORDS[2:]))
    write(tmp_path / "a.jsonl.gz", lines(RECORDS[:2]))
    write(tmp_path / "README.md", b"not text to learn")
    (tmp_path / ".hidden").mkdir()
    write(tmp_path / ".hidden" / "c.jsonl", lines(RECORDS))
    source = texts(str(tmp_path))
    assert list(source) == WANTED
    before = source.sha256()
    write(tmp_path / "b.jsonl", lines(RECORDS[3:]))
    assert texts(tmp_path).sha256() != before


def test_lists_and_data_sets() -> None:
    import datasets

    assert list(texts([r["text"] for r in RECORDS])) == WANTED == list(texts(RECORDS))
    whole = datasets.Dataset.from_list(RECORDS)
    for given in (whole, whole.to_iterable_dataset()):
        source = texts(given, name="set")
        assert list(source) == WANTED == list(source)
        assert source.name == "set"
        assert source.sha256() is None  # hashing would read it whole
        assert source.identity() == texts(given).identity() != texts(whole.select([1])).identity()
    assert texts(whole).count() == 5
    assert texts(whole.to_iterable_dataset()).count() is None
    with pytest.raises(DataError, match=r"choose one of the splits train"):
        texts(datasets.DatasetDict({"train": whole}))


def test_the_licences_of_records_go_into_their_record(tmp_path: Path) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [
        {"text": "a", "license": "CC0"},
        {"text": "b", "license": " CC BY\n4.0"},
        {"text": " ", "license": "of no text"},
        {"text": "c", "license": "CC0"},
    ]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    for given in (records, write(tmp_path / "a.jsonl", lines(records)), tmp_path / "a.parquet"):
        found = texts(given).record("corpus")
        assert (found.licence, found.documents) == ("CC BY 4.0; CC0", 3)
    assert texts(datasets.Dataset.from_list(records[:2])).record("corpus").licence == "CC BY 4.0; CC0"
    assert texts([{"text": "a", "licence": "CC0"}]).record("corpus").licence == "CC0"
    assert texts([{"text": "a", "licence": "CC0"}, "b"]).record("corpus").licence == "CC0; some not stated"
    assert texts(["a"]).record("corpus").licence is None
    assert texts(["a"]).record("corpus", "CC0").licence == "CC0"
    many = texts([{"text": "a", "license": f"L{n}"} for n in range(7)]).record("corpus").licence
    assert many == "L0; L1; L2; L3; L4; 2 more"


def test_a_hub_name_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(RECORDS).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    whole = texts("owner/name")
    assert list(whole) == WANTED
    assert texts("owner/name:validation").identity() != whole.identity()
    texts("owner/name:de:test")
    assert asked == [
        (("owner/name", None), {"split": "train", "streaming": True}),
        (("owner/name", None), {"split": "validation", "streaming": True}),
        (("owner/name", "de"), {"split": "test", "streaming": True}),
    ]


def test_a_hub_name_that_does_not_exist() -> None:
    with pytest.raises(DataError, match="no data set on the hub, can be read as 'owner/nothing'"):
        texts("owner/nothing")


def test_other_fields_and_empty_texts() -> None:
    assert list(texts([{"body": "a"}, {"body": " \n"}], field="body")) == [{"text": "a"}]


def test_messages_and_pairs_pass_through() -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "id": 1}
    pair = {"prompt": "a", "completion": "b", "id": 2}
    assert list(texts([chat, pair])) == [{"messages": chat["messages"]}, {"prompt": "a", "completion": "b"}]


BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "not JSON": ("a.jsonl", lambda p: p.write_bytes(b'{"text": "a"}\n{"text": \n'), r"a\.jsonl, line 2: not JSON"),
    "no object": ("a.jsonl", lambda p: p.write_bytes(b'"a"\n'), "line 1: expected a JSON object, got str"),
    "no field": ("a.jsonl", lambda p: p.write_bytes(b'\n{"body": "a", "n": 1}\n'), "line 2: no field 'text'.*body, n"),
    "a number": ("a.jsonl", lambda p: p.write_bytes(b'{"text": 3}\n'), "line 1: field 'text' holds int"),
    "not UTF-8": (
        "a.jsonl",
        lambda p: p.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n'),
        r"line 2: not JSON \(not UTF-8 at byte 11\)",
    ),
    "text not UTF-8": ("a.txt", lambda p: p.write_bytes(b"one\ntwo\n\xff"), r"a\.txt, at or after line 3: not UTF-8"),
    "half a pair": (
        "a.jsonl",
        lambda p: p.write_bytes(rb'{"text": "ab\ud800"}'),
        r"line \d: not JSON \(a text has half a surrogate pair",
    ),
    "no gzip": ("a.jsonl.gz", lambda p: p.write_bytes(lines(RECORDS)), r"a\.jsonl\.gz, after line 0: broken gzip"),
    "cut gzip": (
        "a.txt.gz",
        lambda p: p.write_bytes(gzip.compress(b"text\n" * 99999)[:-20]),
        r"a\.txt\.gz, after line \d+: broken gzip",
    ),
    "damaged gzip": (
        "a.jsonl.gz",
        lambda p: p.write_bytes((lambda raw: raw[:60] + bytes(8) + raw[68:])(gzip.compress(lines(RECORDS * 50)))),
        r"(broken gzip|not JSON|not UTF-8)",
    ),
    "no parquet": ("a.parquet", lambda p: p.write_bytes(b"PAR1 no"), r"a\.parquet: broken parquet"),
    "unknown kind": ("a.mp3", lambda p: p.write_bytes(b"ID3"), r"a\.mp3: unknown kind of file; readable are \.txt"),
    "a broken document": ("a.pdf", lambda p: p.write_bytes(b"%PDF"), r"a\.pdf: it is broken, or no PDF file"),
    "empty folder": ("a", lambda p: p.mkdir(), "holds no .txt"),
    "no role": ("a.jsonl", lambda p: p.write_bytes(b'{"messages": [{"content": "a"}]}'), "a message needs 'role'"),
    "a bare pair": (
        "a.jsonl",
        lambda p: p.write_bytes(b'{"prompt": 3, "completion": "a"}'),
        "'prompt' is text or a list",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_told_with_its_place(case: str, tmp_path: Path) -> None:
    name, make, told = BROKEN[case]
    make(tmp_path / name)
    with pytest.raises(DataError, match=told) as caught:
        list(texts(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("missing.jsonl", "no file, folder or data set is called 'missing.jsonl'"),
        ("./missing", "no file, folder or data set"),
        ("Some words to learn.", "to give a text itself, put it in a list"),
        ({"text": "a"}, "put it in a list"),
        ((t for t in "ab"), "a generator can be read only once"),
        (3, "got int"),
    ],
)
def test_what_is_no_source(source: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        texts(source)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", lines(RECORDS))

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    source = texts(path)
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read \(Permission denied\)"):
        list(source)
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read"):
        source.sha256()


def test_samples_go_by_name_and_misspelt_ones_are_not_looked_for_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # whoever asks the hub fails otherwise
    found = texts("pubmed_valid")
    assert (found.name, len(list(found)) > 10) == (tiny.sample("pubmed_valid").name, True)
    with pytest.raises(DataError, match="did you mean the sample 'pubmed_train'"):
        texts("pubmed_trian")


def test_a_file_called_as_a_sample_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pubmed_valid").mkdir()
    (tmp_path / "pubmed_valid" / "a.txt").write_text("mine")
    assert [record["text"] for record in texts("pubmed_valid")] == ["mine"]


@pytest.mark.parametrize("source", ["", "  \n"])
def test_an_empty_name_is_not_the_folder_one_stands_in(source: str) -> None:
    with pytest.raises(DataError, match="name of a text is empty"):
        texts(source)


def test_a_file_of_facts_is_a_corpus_and_its_questions_are_not_read(tmp_path: Path) -> None:
    facts = biographies(5)
    facts.save(tmp_path / "people.jsonl")
    source = texts(tmp_path / "people.jsonl")
    assert [record["text"] for record in source] == list(facts.documents)
    assert source.record("corpus").documents == len(facts.documents)
