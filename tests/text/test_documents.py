"""Documents of every format: headings, paragraphs, lists and tables; and one clear sentence where one cannot be read."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from addenda.core.errors import DataError
from addenda.text.blocks import Block
from addenda.text.documents import documents, read
from teaching.studying import pdf, word


def blocks(path: Path) -> list[tuple[int, str]]:
    return [(block.level, block.text) for block in read(path).blocks]


def test_markdown_keeps_headings_lists_and_tables_and_drops_its_marks(tmp_path: Path) -> None:
    file = tmp_path / "rules.md"
    file.write_text(
        "---\ntitle: x\n---\n# The *club*\n\nA **year** costs\n87 euros, see [the list](http://x).\n\nFees\n----\n\n"
        "- one\n- two\n  1. inner\n\n| What | Price |\n|---|--:|\n| Kayak | 9 \\| 10 |\n\n```\na  = 1\n```\n\n> Quoted.\n\n"
        "<!-- hidden -->\n\nLine<br>break &amp; more\n"
    )
    assert blocks(file) == [
        (1, "The club"),
        (0, "A year costs 87 euros, see the list."),
        (2, "Fees"),
        (0, "- one\n- two\n  1. inner"),
        (0, "| What | Price |\n| --- | --- |\n| Kayak | 9 / 10 |"),
        (0, "a  = 1"),
        (0, "Quoted."),
        (0, "Line\nbreak & more"),
    ]


def test_plain_text_has_headings_where_a_line_can_be_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "rules.txt"
    file.write_text(
        "The club\n========\n\n"
        "A year costs 87 euros, and whoever joins after the first of\nJune pays half for the rest of it.\n\n"
        "2.1 Fees\n\nShort.\n\nHOUSE RULES\n\n- one\n- two\n\n"
        "This is a sentence.\n\n1. first, not a heading of its own\n2. second\n"
    )
    assert blocks(file) == [
        (1, "The club"),
        (0, "A year costs 87 euros, and whoever joins after the first of June pays half for the rest of it."),
        (2, "2.1 Fees"),
        (0, "Short."),
        (1, "HOUSE RULES"),
        (0, "- one\n- two"),
        (0, "This is a sentence."),
        (0, "1. first, not a heading of its own\n2. second"),
    ]


def test_html_leaves_out_what_leads_around_the_site(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(
        "<html><head><title>The club</title><style>p {}</style></head><body><nav><a href=/>Home</a></nav>"
        "<div>Loose <b>words</b><p>A year\ncosts 87&nbsp;euros.</p></div><h2>Fees<script>x()</script></h2>"
        "<ul><li>one<ul><li>inner</li></ul></li><li><p>two</p></li></ul><dl><dt>Kayak<dd>9 euros</dl>"
        "<table><tr><th>What</th><th>Price</th></tr>"
        "<tr><td>Oar</td><td>3</td></tr></table><pre>a\n  b</pre><!-- no --></body></html>"
    )
    assert blocks(file) == [
        (1, "The club"),
        (0, "Loose words"),
        (0, "A year costs 87 euros."),
        (2, "Fees"),
        (0, "- one\n  - inner\n- two"),
        (0, "- Kayak: 9 euros"),
        (0, "| What | Price |\n| --- | --- |\n| Oar | 3 |"),
        (0, "a\n  b"),
    ]


def test_word_keeps_headings_lists_and_tables_in_the_order_of_the_text(tmp_path: Path) -> None:
    def build(document) -> None:
        document.add_heading("The club", 0)
        document.add_heading("Fees", 2)
        paragraph = document.add_paragraph("A year costs ")
        paragraph.add_run("87 euros").bold = True
        document.add_paragraph("one", style="List Bullet")
        document.add_paragraph("two", style="List Bullet")
        table = document.add_table(rows=2, cols=2)
        for cell, text in zip((c for row in table.rows for c in row.cells), ("What", "Price", "Oar", "3"), strict=True):
            cell.text = text
        document.add_paragraph("")
        document.add_paragraph("The end.")

    assert blocks(word(tmp_path / "rules.docx", build)) == [
        (1, "The club"),
        (2, "Fees"),
        (0, "A year costs 87 euros"),
        (0, "- one\n- two"),
        (0, "| What | Price |\n| --- | --- |\n| Oar | 3 |"),
        (0, "The end."),
    ]


def test_pdf_tells_headings_by_size_and_paragraphs_by_gaps_and_drops_what_stands_on_every_page(tmp_path: Path) -> None:
    file = tmp_path / "rules.pdf"
    text = [
        [
            ("The club", 20, 760),
            ("Fees", 14, 720),
            ("A year costs 87 euros, which is tak-", 11, 700),
            ("en in June.", 11, 686),
        ],
        [("- Oars cost 3 euros", 11, 700), ("- Sails cost 9 euros", 11, 686), ("A last one that goes", 11, 650)],
        [("on over the page.", 11, 700), ("Keys", 14, 660), ("They hang there.", 11, 640), ("Second.", 11, 612)],
    ]
    pages = [[("Club rules 2025", 9, 800), *lines, (str(number), 9, 30)] for number, lines in enumerate(text, 1)]
    file.write_bytes(pdf(pages))
    assert blocks(file) == [
        (1, "The club"),
        (2, "Fees"),
        (0, "A year costs 87 euros, which is taken in June."),
        (0, "- Oars cost 3 euros\n- Sails cost 9 euros"),
        (0, "A last one that goes on over the page."),
        (2, "Keys"),
        (0, "They hang there."),
        (0, "Second."),
    ]


def test_the_whole_text_of_a_document_is_markdown(tmp_path: Path) -> None:
    made = documents({"rules.md": "Fees\n====\n\nA year costs *87* euros."})
    assert made[0].text == "# Fees\n\nA year costs 87 euros."
    assert made[0].blocks == (Block("Fees", 1), Block("A year costs 87 euros."))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_texts_are_read_in_the_encodings_that_people_have(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "règles.txt"
    file.write_bytes("Où est la clé ?\r\nElle est derrière.".encode(encoding))
    assert blocks(file) == [(0, "Où est la clé ?\nElle est derrière.")]


def encrypted(plain: bytes) -> bytes:
    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(plain))
    writer.encrypt("secret", algorithm="RC4-128")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


REFUSED = {
    "empty": ("a.md", b" \n", "is empty"),
    "headings alone": ("a.md", b"# One\n\n## Two\n", "no text in it but headings"),
    "another kind": ("a.xyz", b"text", r"documents are .*\.pdf files, and this is none"),
    "old Word": ("a.doc", b"text", r"save it as \.docx"),
    "another encoding": ("a.txt", "Где ключ от лодочного сарая".encode("cp1251"), "save it as UTF-8"),
    "no text": ("a.txt", bytes(range(256)), "no text"),
    "a broken PDF": ("a.pdf", b"%PDF-1.4 nothing", "broken, or no PDF"),
    "a scan": ("a.pdf", pdf([[], []]), "its 2 pages hold pictures and no text, as a scan does"),
    "an encrypted PDF": (
        "a.pdf",
        encrypted(pdf([[("x", 11, 700)]])),
        "it is encrypted: save a copy without a password",
    ),
    "a broken Word file": ("a.docx", b"PK nothing", "broken, or no Word file"),
    "an encrypted Word file": ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "without a password"),
    "an empty page": ("a.html", b"<html><body><script>x()</script></body></html>", "no text in it"),
    "too deep": ("a.html", b"<div>" * 5000 + b"x", "nested too deep"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_told_in_one_sentence_that_names_it(tmp_path: Path, what: str) -> None:
    name, data, message = REFUSED[what]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        documents(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("module", "name"), [("bs4", "a.html"), ("docx", "a.docx"), ("pypdf", "a.pdf")])
def test_a_missing_package_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=r"not installed: pip install 'addenda\[documents\]'"):
        documents(tmp_path / name)


def test_folders_are_read_by_name_and_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("a/rules.md", "b/rules.md", "b/more.txt", "b/data.csv", ".git/x.md"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(f"Of {place}.")
    assert [one.name for one in documents(tmp_path)] == ["a/rules.md", "b/more.txt", "b/rules.md"]
    assert [one.name for one in documents([tmp_path / "b", tmp_path / "b/more.txt"])] == ["more.txt", "rules.md"]
    with pytest.raises(DataError, match="holds no document"):
        documents(_empty(tmp_path))
    with pytest.raises(DataError, match="did you mean"):
        documents(tmp_path / "a" / "rule.md")
    with pytest.raises(DataError, match="there is no document"):
        documents([])


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_documents_are_corpora_too_but_not_beside_data(tmp_path: Path) -> None:
    from addenda.text.texts import texts

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("# Where it comes from\n\nFrom far away.")
    (tmp_path / "data" / "part.jsonl").write_text('{"text": "A year costs 87 euros."}\n')
    assert [one["text"] for one in texts(tmp_path / "data")] == ["A year costs 87 euros."]
    (tmp_path / "data" / "part.jsonl").unlink()

    def build(document) -> None:
        document.add_heading("Fees", 1)
        document.add_paragraph("87 euros.")

    made = word(tmp_path / "data" / "rules.docx", build)
    assert [one["text"] for one in texts(tmp_path / "data")] == [
        "# Where it comes from\n\nFrom far away.",
        "# Fees\n\n87 euros.",
    ]
    assert texts(made).continuous
    (tmp_path / "scan.pdf").write_bytes(pdf([[]]))
    with pytest.raises(DataError, match="scan.pdf: its 1 page hold"):
        list(texts(tmp_path / "scan.pdf"))
