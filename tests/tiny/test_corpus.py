"""The corpus of the base: overlaps go, everything else stays."""

import gzip
import json

import numpy as np
import pytest

from addenda.tiny import corpus

SHARED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def hashes(*texts):
    hasher = corpus.RunHasher()
    runs = np.concatenate([hasher.runs(hasher.codes(t)) for t in texts])
    return np.unique(runs), hasher


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in records).encode()))


def test_paragraph_with_a_kept_out_run_is_dropped():
    forbidden, hasher = hashes(f"Before. {SHARED}. After.")
    text = f"A first paragraph.\n\nIt says: {SHARED.title()}!\n\nA last paragraph."
    kept, paragraphs, dropped = corpus.drop_overlaps(text, forbidden, hasher)
    assert kept == "A first paragraph.\n\nA last paragraph."
    assert (paragraphs, dropped) == (3, 1)


def test_twelve_shared_words_are_kept():
    forbidden, hasher = hashes("x " + SHARED)
    short = " ".join(SHARED.split()[:12])
    text = f"Here: {short} and no more."
    assert corpus.drop_overlaps(text, forbidden, hasher) == (text, 1, 0)


def test_run_across_paragraphs_drops_all_it_touches():
    forbidden, hasher = hashes(SHARED)
    words = SHARED.split()
    text = "\n\n".join(["start", " ".join(words[:5]), " ".join(words[5:8]), " ".join(words[8:]), "end"])
    kept, _, dropped = corpus.drop_overlaps(text, forbidden, hasher)
    assert kept == "start\n\nend"
    assert dropped == 3


def test_every_word_of_a_run_counts():
    base = SHARED.split()[:13]
    forbidden, hasher = hashes(" ".join(base))
    for i in range(13):
        changed = " ".join([*base[:i], "other", *base[i + 1 :]])
        assert corpus.drop_overlaps(changed, forbidden, hasher)[2] == 0
    swapped = " ".join([base[1], base[0], *base[2:]])
    assert corpus.drop_overlaps(swapped, forbidden, hasher)[2] == 0


def test_kept_out_is_every_other_file(tmp_path):
    write(tmp_path / "a/train.jsonl.gz", {"id": 1, "text": f"Good text.\n\n{SHARED}"})
    write(tmp_path / "a/valid.jsonl.gz", {"id": 2, "text": "nothing"})
    write(tmp_path / "b/all.jsonl.gz", {"id": 3, "deep": [{"context": f"{SHARED} more"}]})
    (tmp_path / "b/SOURCE.md").write_text("Good text.")
    files = corpus.kept_out_files(tmp_path, ["a/train.jsonl.gz"])
    assert [f.name for f in files] == ["valid.jsonl.gz", "all.jsonl.gz"]
    work = tmp_path / "work"
    work.mkdir()
    counts = corpus.clean_documents(tmp_path, work, ["a/train.jsonl.gz"])
    assert counts["sources"]["a/train.jsonl.gz"]["dropped"] == 1
    assert [d["text"] for d in corpus.read_documents(work)] == ["Good text."]
    (manifest,) = corpus.read_jsonl(work / "documents.jsonl.gz")
    assert manifest["dropped"] == 1
    assert len(manifest["sha256"]) == 16


@pytest.mark.parametrize("name", ["csv", "json.gz", "txt.gz"])
def test_other_formats_are_read(tmp_path, name):
    path = tmp_path / f"x.{name}"
    body = {"csv": b"q,a\n", "json.gz": b'{"k": ["q", {"z": "a"}]}', "txt.gz": b"q\na"}[name]
    path.write_bytes(gzip.compress(body) if name.endswith("gz") else body)
    assert " ".join(corpus.texts_of(path)).split() == ["q", "a"]
