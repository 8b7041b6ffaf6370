"""Loading a base by name: the embedded one, a named one, a GGUF file, a folder, or a hub id."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from addenda import tiny
from addenda.bases.gguf_file import float32_unless, load_gguf, reason
from addenda.bases.named import NAMED, file_of, names
from addenda.core.errors import AddendaError

#: options that say where and how files are fetched: the tokenizer's are to be the model's
HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code")

_told: set[str] = set()


def load_model(name: str | Path, dtype: torch.dtype | str | None = None, **options: Any) -> tuple[Any, Any, str]:
    """The model, its tokenizer and the name under which cards will know it.

    `name` is `tiny`, one of `named.NAMED`, a `.gguf` file, a folder, or a hub id; `dtype` as transformers takes it, None
    for the checkpoint's own, of `tiny` and of GGUF files for float32, which every CPU computes fast.

    Raises:
        AddendaError: nothing can be loaded under that name, its weights are not all there, or it has no tokenizer.
    """
    with _quietly(str(name) == "tiny"):
        return _loaded(name, dtype, options)


@contextmanager
def _quietly(alone: bool) -> Iterator[None]:
    """For a block, no chatter of libraries that transformers brings along; where `alone` no bar of its own either."""
    from transformers.utils import logging as bars

    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    before, shown = [logger.level for logger in loggers], bars.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(max(logging.ERROR, logger.level))
        if alone:
            bars.disable_progress_bar()
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        if alone and shown:
            bars.enable_progress_bar()


def _loaded(name: str | Path, dtype: Any, options: dict[str, Any]) -> tuple[Any, Any, str]:
    """As `load_model`."""
    path = Path(name)
    # wrong shapes are told below, in one error with what is missing
    options = {"ignore_mismatched_sizes": True, **options, "output_loading_info": True}
    is_named = isinstance(name, str) and name in NAMED  # a Path is a folder or file of that name
    if is_named or _is_file(path):
        given = {key: value for key, value in options.items() if key not in HUB}
        file = file_of(str(name)) if is_named else path
        _tell(str(name), file)
        model, tokenizer, info = load_gguf(file, str(name), float32_unless(dtype), given)
        _check_weights(name, info, "its head")
        return model.eval(), tokenizer, str(name) if is_named else path.name
    return _checkpoint(name, dtype, options)


def _is_file(path: Path) -> bool:
    """Whether a name can only mean a file: one that is there, or one that is called `.gguf`."""
    return path.is_file() or (path.suffix.lower() == ".gguf" and not (path / "config.json").exists())


def _tell(name: str, file: Path) -> None:
    """One line for each base and process: whose it is, and that it takes a while."""
    if name in _told or not file.is_file():
        return
    _told.add(name)
    named = NAMED.get(name)
    whose = (
        f"{named.model}; licence: {named.licence}" if named is not None else f"{file.stat().st_size / 2**20:,.0f} MiB"
    )
    sys.stderr.write(f"reading {name} ({whose}); turning it into plain numbers takes some seconds\n")
    sys.stderr.flush()


def _checkpoint(name: str | Path, dtype: Any, options: dict[str, Any]) -> tuple[Any, Any, str]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    embedded = str(name) == "tiny"
    source = tiny.path() if embedded else name
    folder = Path(source).is_dir()
    dtype = torch.float32 if dtype is None and embedded else dtype
    label = "tiny" if embedded else Path(name).name if folder else str(name)
    loader: Any = AutoModelForCausalLM
    if folder and (Path(source) / "module.safetensors").exists() and not (Path(source) / "config.json").exists():
        raise AddendaError(f"cannot load the base '{name}': that folder is a module's; plug it into a base (--plug)")
    try:
        model, info = loader.from_pretrained(source, dtype="auto" if dtype is None else dtype, **options)
    except Exception as error:  # a foreign config.json or weight file can make transformers raise anything
        if folder:
            told = "transformers cannot load what is in that folder as a causal language model"
            raise AddendaError(f"cannot load the base '{name}': {told} ({reason(error)})") from error
        raise AddendaError(f"cannot load the base '{name}': {_nowhere(str(name), error)}") from error
    _check_weights(name, info)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **{k: v for k, v in options.items() if k in HUB})
    except Exception as error:
        raise AddendaError(
            f"cannot load the tokenizer of the base '{name}': its model is there, but no tokenizer that transformers "
            f"can load ({reason(error)}); put one beside it, or load both yourself: addenda.attach(model, tokenizer)"
        ) from error
    return model.eval(), tokenizer, label


def _nowhere(name: str, error: Exception) -> str:
    """What to say of a name under which there is nothing here and nothing that the hub gave."""
    path = Path(name)
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(name, names(), n=1)
    near += [str(path.with_name(entry)) for entry in difflib.get_close_matches(path.name, beside, n=1)]
    hint = f"; did you mean {' or '.join(repr(guess) for guess in near)}?" if near else ""
    told = f"it is not one of {', '.join(names())}, there is no such folder or file"
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name:
        return told + hint
    return f"{told}, and the hub gave no such model ({reason(error)}){hint}"


def _check_weights(name: str | Path, info: dict[str, Any], wanted: str = "config.json") -> None:
    """Refuse a model of which transformers has made up a part."""
    shapes = [f"{key} {list(has)} for {list(wants)}" for key, has, wants in info["mismatched_keys"]]
    problems = [f"no values for {_some(info['missing_keys'])}"] if info["missing_keys"] else []
    problems += [f"other shapes than {wanted} wants in {_some(shapes)}"] if shapes else []
    if problems:
        raise AddendaError(f"cannot load the base '{name}': its weight files have {' and '.join(problems)}")


def _some(tensors: Iterable[str]) -> str:
    listed = sorted(tensors)
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"{len(listed)} tensors: {', '.join(listed[:10])}{more}"
