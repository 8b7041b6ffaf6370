"""Module folders made to deceive: each is refused with one FileError that names the cause."""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from addenda.core.errors import AddendaError, FileError
from addenda.modulefile.building import build_module
from addenda.modulefile.storage import load_folder, load_module
from hostile.forge import (
    CARD,
    TENSORS,
    anatomy,
    edit_card,
    edit_header,
    paper_base,
    put_together,
    sign,
    sound,
    take_apart,
)

A, B = "layers.0.self_attn.q_proj.a", "layers.0.self_attn.q_proj.b"
Forgery = Callable[[Path], object]


def _hole(header: dict[str, Any]) -> None:
    last = max((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"][1])
    del header[next(k for k in header if k not in ("__metadata__", last))]


def _overlap(header: dict[str, Any]) -> None:
    names = sorted((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"][0])
    one, other = header[names[0]], header[names[1]]
    width = other["data_offsets"][1] - other["data_offsets"][0]
    other["data_offsets"] = [one["data_offsets"][1] - 4, one["data_offsets"][1] - 4 + width]


def _claim(header: dict[str, Any]) -> None:
    last = max((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"][1])
    begin = header[last]["data_offsets"][0]
    header[last] = {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [begin, begin + 10_000_000_000]}


def _rename(to: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header[to] = header.pop(A)

    return change


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Forgery:
    def forge(folder: Path) -> None:
        tensors = load_file(folder / TENSORS)
        change(tensors)
        save_file(tensors, folder / TENSORS, metadata={"format": "addenda", "schema": "1"})
        sign(folder)

    return forge


def _raw(header: bytes | str) -> Forgery:
    def forge(folder: Path) -> None:
        put_together(folder / TENSORS, header, take_apart(folder / TENSORS)[1])
        sign(folder)

    return forge


def _twice(folder: Path) -> None:
    header, data = take_apart(folder / TENSORS)
    text = json.dumps(header)
    put_together(folder / TENSORS, text[:-1] + f", {json.dumps(A)}: {json.dumps(header[A])}}}", data)
    sign(folder)


def _cut(share: float) -> Forgery:
    def forge(folder: Path) -> None:
        raw = (folder / TENSORS).read_bytes()
        (folder / TENSORS).write_bytes(raw[: int(len(raw) * share)])
        sign(folder)

    return forge


def _outside(name: str) -> Forgery:
    def forge(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(Path("..") / "elsewhere")

    return forge


def _fifo(folder: Path) -> None:
    (folder / CARD).unlink()
    os.mkfifo(folder / CARD)


def _folder(folder: Path) -> None:
    (folder / TENSORS).unlink()
    (folder / TENSORS).mkdir()


def _loop(folder: Path) -> None:
    (folder / CARD).unlink()
    (folder / CARD).symlink_to(CARD)


def _card(text: bytes) -> Forgery:
    return lambda folder: (folder / CARD).write_bytes(text)


def _pickle(folder: Path) -> None:
    # what torch would write, and unpickling would run
    (folder / TENSORS).write_bytes(b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.")


FORGERIES: dict[str, tuple[Forgery, str]] = {
    # the folder
    "no card": (lambda f: (f / CARD).unlink(), "card.json is missing"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), "module.safetensors is missing"),
    "card linked from outside": (_outside(CARD), "card.json is a link that points outside"),
    "tensors linked from outside": (_outside(TENSORS), "module.safetensors is a link that points outside"),
    "dangling link": (lambda f: ((f / CARD).unlink(), (f / CARD).symlink_to("gone")), "card.json is a dangling link"),
    "link to itself": (_loop, "card.json"),
    "a pipe": (_fifo, "card.json is not a regular file"),
    "a folder for a file": (_folder, "module.safetensors is not a regular file"),
    # the header
    "empty file": (lambda f: (f / TENSORS).write_bytes(b""), "0 bytes are too few"),
    "a pickle": (_pickle, "header claims"),
    "truncated in the header": (_cut(0.2), "truncated"),
    "truncated in the data": (_cut(0.95), "claim .* bytes, the file holds .*: truncated"),
    "bytes after the end": (
        lambda f: ((f / TENSORS).write_bytes((f / TENSORS).read_bytes() + b"\0" * 64), sign(f)),
        "64 bytes after the last tensor",
    ),
    "header of 2**63 bytes": (
        lambda f: (f / TENSORS).write_bytes(struct.pack("<Q", 1 << 63) + b"{}"),
        "header claims 9,223,372,036,854,775,808 bytes; the limit",
    ),
    "header longer than the file": (
        lambda f: (f / TENSORS).write_bytes(struct.pack("<Q", 1 << 20) + b"{}"),
        "header claims 1,048,576 bytes, the file has 10",
    ),
    "header is no JSON": (_raw(b"{nothing"), "module.safetensors: Expecting"),
    "header is a list": (_raw(b"[1, 2]"), "does not begin with '{'"),
    "header is not UTF-8": (_raw(b'{"\xff": 1}'), "not UTF-8"),
    "header nested without end": (_raw(b'{"a":' + b"[" * 100_000), "nested deeper"),
    "header nested a little": (_raw(b'{"a":[[[[[[]]]]]]}'), "nested deeper"),
    "duplicate key": (_twice, f"duplicate key '{A}'"),
    "a hole": (edit_header(_hole), "a hole of"),
    "an overlap": (edit_header(_overlap), "overlaps"),
    "a claim of 10 GB": (edit_header(_claim), r"claim 10,000,000,\d+ bytes, the file holds"),
    "shape and offsets at odds": (edit_header(lambda h: h[A].update(shape=[9, 9])), "324 bytes, but its offsets span"),
    "negative shape": (edit_header(lambda h: h[A].update(shape=[-2, -4])), "whole numbers"),
    "shape of floats": (edit_header(lambda h: h[A].update(shape=[2.0, 4.0])), "whole numbers"),
    "shape of truths": (edit_header(lambda h: h[A].update(shape=[True, 8])), "whole numbers"),
    "shape that overflows": (edit_header(lambda h: h[A].update(shape=[1 << 40, 1 << 40])), "offsets span"),
    "shape of a million axes": (edit_header(lambda h: h[A].update(shape=[1] * 9)), "at most 8 whole numbers"),
    "offsets backwards": (edit_header(lambda h: h[A]["data_offsets"].reverse()), "a begin and an end"),
    "three offsets": (edit_header(lambda h: h[A]["data_offsets"].append(0)), "a begin and an end"),
    "unknown dtype": (edit_header(lambda h: h[A].update(dtype="F33")), "dtype 'F33'; allowed are"),
    "dtype that a module has not": (edit_header(lambda h: h[A].update(dtype="C64")), "dtype 'C64'; allowed are"),
    "an entry that is a number": (edit_header(lambda h: h.update({A: 7})), "not described by dtype"),
    "an entry with more": (edit_header(lambda h: h[A].update(extra=1)), "not described by dtype"),
    "path traversal": (edit_header(_rename("../../etc/cron.d/x")), "refused, as a path would be"),
    "an absolute path": (edit_header(_rename("/etc/passwd")), "refused, as a path would be"),
    "a name with a null": (edit_header(_rename("a\0b")), "refused, as a path would be"),
    "a name without end": (edit_header(_rename("a" * 300)), "refused, as a path would be"),
    "metadata of numbers": (edit_header(lambda h: h["__metadata__"].update(schema=1)), "map of strings"),
    "metadata is a list": (edit_header(lambda h: h.update(__metadata__=["addenda"])), "map of strings"),
    "another format": (edit_header(lambda h: h["__metadata__"].update(format="pt")), "format 'pt', not 'addenda'"),
    "no metadata": (edit_header(lambda h: h.pop("__metadata__")), "format None, not 'addenda'"),
    "newer schema of the tensors": (edit_header(lambda h: h["__metadata__"].update(schema="9")), "schema 9, .*upgrade"),
    "schema in words": (edit_header(lambda h: h["__metadata__"].update(schema="one")), "schema 'one'"),
    # the tensors
    "missing tensor": (_tensors(lambda t: t.pop(A)), f"missing 1 tensor: {A}"),
    "extra tensor": (_tensors(lambda t: t.update(more=torch.ones(2))), "not known .*1 tensor: more"),
    "wrong shape": (_tensors(lambda t: t.update({A: torch.ones(3, 4)})), rf"{A} is \[3, 4\] and should be \[2, 4\]"),
    "wrong dtype": (
        _tensors(lambda t: t.update({A: torch.ones(2, 4, dtype=torch.int32)})),
        f"{A} is int32 and should be float32",
    ),
    "NaN": (_tensors(lambda t: t[A].view(-1)[3].fill_(float("nan"))), f"NaN or infinite values in 1 tensor: {A}"),
    "infinity": (_tensors(lambda t: t[B].view(-1)[0].fill_(float("inf"))), f"NaN or infinite values in 1 tensor: {B}"),
    "another file than the card's": (
        lambda f: (_tensors(lambda t: t[A].zero_())(f), edit_card(lambda c: c.update(sha256="0" * 64))(f)),
        "not the file that card.json describes",
    ),
    # the card
    "card is no JSON": (_card(b"kind: LoRA"), "card.json is malformed"),
    "card is empty": (_card(b""), "card.json is malformed"),
    "card is a list": (_card(b"[]"), "card.json holds a list"),
    "card nested without end": (_card(b'{"config": ' + b"[" * 100_000), "nested deeper"),
    "card nested forty deep": (_card(b'{"config": ' + b"[" * 40 + b"]" * 40 + b"}"), "nested deeper than 32"),
    "card of two megabytes": (
        _card(b'{"name": "' + b"a" * (2 << 20) + b'"}'),
        r"2,097,\d+ bytes; the limit is 1,048,576",
    ),
    "card with NaN": (_card(b'{"parameters": NaN}'), "NaN is no JSON number"),
    "card with a number without end": (_card(b'{"parameters": 1' + b"0" * 9999 + b"}"), "card.json is malformed"),
    "card with 1e999": (_card(b'{"value": 1e999}'), "too large for a float"),
    "card with a duplicate key": (_card(b'{"kind": "LoRA", "kind": "Other"}'), "duplicate key 'kind'"),
    "newer schema": (edit_card(lambda c: c.update(schema_version=99)), "schema 99, .*upgrade addenda"),
    "no schema": (edit_card(lambda c: c.pop("schema_version")), "schema_version is None"),
    "schema that is a truth": (edit_card(lambda c: c.update(schema_version=True)), "schema_version is True"),
    "field of the wrong type": (edit_card(lambda c: c.update(parameters="many")), "parameters: .*valid integer"),
    "missing field": (edit_card(lambda c: c.pop("base")), "base: Field required"),
    "probe without end": (edit_card(lambda c: c.update(probe=[1] * 5000)), "probe: .*at most 4096"),
    "probe below zero": (edit_card(lambda c: c.update(probe=[-1])), "probe.0: .*greater than or equal to 0"),
    "unknown kind": (edit_card(lambda c: c.update(kind="LoRAs")), "no kind is called 'LoRAs'.*did you mean 'LoRA'"),
    "kind that is a path": (edit_card(lambda c: c.update(kind="os.system")), "no kind is called 'os.system'"),
    "unknown option": (edit_card(lambda c: c["config"].update(rnak=2)), "no option 'rnak'.*did you mean 'rank'"),
    "option of the wrong type": (edit_card(lambda c: c["config"].update(rank="two")), "rank: .*valid integer"),
    "option out of range": (edit_card(lambda c: c["config"].update(rank=-1)), "rank must be positive"),
    "target that is not there": (
        edit_card(lambda c: c["config"].update(targets=["k_proj"])),
        "no linear layer is called 'k_proj'",
    ),
    "a rank that fills the memory": (edit_card(lambda c: c["config"].update(rank=10**12)), "wrong shape of 4 tensors"),
    "a rank beyond all numbers": (edit_card(lambda c: c["config"].update(rank=10**30)), "does not fit this base"),
    "a name that is a path": (edit_card(lambda c: c.update(name="../../etc")), "a module's name is"),
    "a reserved name": (edit_card(lambda c: c.update(name="base")), "'base' is reserved"),
    "wrong base": (edit_card(lambda c: c["base"].update(fingerprint="cd" * 32)), "wrong base: .*'paper'"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_folder_is_refused_with_its_cause(name: str, tmp_path: Path) -> None:
    forge, cause = FORGERIES[name]
    folder = sound(tmp_path / "note")
    forge(folder)
    with pytest.raises(FileError, match=cause) as caught:
        load_module(folder, paper_base())
    message = str(caught.value)
    assert str(folder) in message
    assert message.isprintable() or set(message) - {"\n"} == {c for c in message if c.isprintable()}


def test_the_sound_folder_loads(tmp_path: Path) -> None:
    assert load_module(sound(tmp_path / "note"), paper_base()).size() == 2 * (4 + 4) + 2 * (4 + 8)


ONLY_WITH_A_BASE = {
    "missing tensor",
    "extra tensor",
    "wrong shape",
    "wrong dtype",
    "target that is not there",
    "a rank that fills the memory",
    "a rank beyond all numbers",
    "a name that is a path",
    "a reserved name",
    "wrong base",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_it_is_refused_without_a_base_too_where_none_is_needed(name: str, tmp_path: Path) -> None:
    forge, cause = FORGERIES[name]
    folder = sound(tmp_path / "note")
    forge(folder)
    if name not in ONLY_WITH_A_BASE:
        with pytest.raises(FileError, match=cause):
            load_folder(folder)
        return
    saved = load_folder(folder)
    card, tensors = saved.card, saved.tensors
    if name != "wrong base":
        with pytest.raises(FileError, match=cause):
            build_module(card, tensors, anatomy())


def test_one_error_lists_everything(tmp_path: Path) -> None:
    folder = sound(tmp_path / "note")
    tensors = load_file(folder / TENSORS)
    tensors["more"] = tensors.pop(A)
    tensors["layers.0.mlp.up_proj.a"] = torch.ones(1, 1)
    tensors[B][0, 0] = float("nan")
    save_file(tensors, folder / TENSORS, metadata={"format": "addenda", "schema": "7"})
    edit_card(lambda c: (c.update(schema_version=7), c["base"].update(fingerprint="0"), c["config"].update(r=2)))(
        folder
    )
    with pytest.raises(FileError) as caught:
        load_module(folder, paper_base())
    message = str(caught.value)
    for cause in (
        "9 things are wrong",
        f"missing 1 tensor: {A}",
        "1 tensor: more",
        "layers.0.mlp.up_proj.a is [1, 1] and should be [2, 4]",
        f"NaN or infinite values in 1 tensor: {B}",
        "card.json has schema 7",
        "module.safetensors has schema 7",
        "no option 'r'",
        "wrong base",
        "not the file that card.json describes",
    ):
        assert cause in message


FRUGAL = """
    import resource, sys
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    from addenda.core.errors import FileError
    from addenda.modulefile.storage import load_module
    from hostile.forge import paper_base, sound

    folder = Path(sys.argv[2])
    load_module(folder / "sound", paper_base())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
    for name in ("claims", "sparse", "card"):
        try:
            load_module(folder / name, paper_base())
        except FileError as error:
            print(name, error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory in use is read from /proc")
def test_ten_gigabytes_are_refused_without_allocating(tmp_path: Path) -> None:
    sound(tmp_path / "sound")
    edit_header(_claim)(sound(tmp_path / "claims"))
    edit_card(lambda c: c["config"].update(rank=10**9))(sound(tmp_path / "card"))
    sparse = sound(tmp_path / "sparse") / TENSORS  # ten gigabytes of zeros on paper, and the header is sound
    header, _ = take_apart(sparse)
    _claim(header)
    raw = json.dumps(header).encode()
    with sparse.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + max(header[key]["data_offsets"][1] for key in header if key != "__metadata__"))
    command = [sys.executable, "-c", textwrap.dedent(FRUGAL), str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search("claims .*the tensors claim 10,000,", done.stdout)
    assert re.search(r"sparse (.|\n)*should be", done.stdout)
    assert re.search(r"card (.|\n)*wrong shape of 4 tensors", done.stdout)


def test_a_links_target_inside_the_folder_is_read(tmp_path: Path) -> None:
    folder = sound(tmp_path / "note")
    (folder / TENSORS).rename(folder / "blob")
    (folder / TENSORS).symlink_to("blob")
    load_module(folder, paper_base())


def test_the_hubs_cache_may_link_to_its_blobs_and_nowhere_else(tmp_path: Path) -> None:
    folder = sound(tmp_path / "models--me--note" / "snapshots" / ("0" * 40))
    blobs = tmp_path / "models--me--note" / "blobs"
    blobs.mkdir()
    for name in (CARD, TENSORS):
        (folder / name).rename(blobs / name)
        (folder / name).symlink_to(Path("../../blobs") / name)
    load_module(folder, paper_base())
    (blobs / CARD).rename(tmp_path / "elsewhere")
    (blobs / CARD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match=r"card\.json is a link that points outside"):
        load_module(folder, paper_base())


def test_what_a_card_says_is_printed_without_its_control_characters(tmp_path: Path) -> None:
    folder = sound(tmp_path / "note")
    edit_card(
        lambda c: (c["base"].update(fingerprint="x", name="\x1b[2J" + "n" * 500), c["config"].update({"\x1b": 1}))
    )(folder)
    with pytest.raises(FileError) as caught:
        load_module(folder, paper_base())
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_bytes_overwritten_anywhere_never_raise_another_error(tmp_path_factory, at: int, what: bytes) -> None:
    folder = sound(tmp_path_factory.mktemp("fuzz") / "note")
    for name in (TENSORS, CARD):
        raw = bytearray((folder / name).read_bytes())
        place = at % len(raw)
        raw[place : place + len(what)] = what
        (folder / name).write_bytes(bytes(raw))
    with contextlib.suppress(AddendaError):
        load_module(folder, paper_base())
