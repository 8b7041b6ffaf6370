"""Loading a base by name: the embedded one, a folder, or a hub id."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from addenda import tiny
from addenda.core.errors import AddendaError

#: options that say where and how files are fetched: the tokenizer's are to be the model's
HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code")


def load_model(name: str | Path, dtype: torch.dtype | str | None = None, **options: Any) -> tuple[Any, Any, str]:
    """The model, its tokenizer and the name under which cards will know it.

    `name` is `tiny`, a folder, or a hub id; `dtype` as transformers takes it, None for the checkpoint's own, of `tiny` for
    float32, which every CPU computes fast.

    Raises:
        AddendaError: nothing can be loaded under that name, its weights are not all there, or it has no tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    embedded = str(name) == "tiny"
    source = tiny.path() if embedded else name
    folder = Path(source).is_dir()
    dtype = torch.float32 if dtype is None and embedded else dtype
    label = "tiny" if embedded else Path(name).name if folder else str(name)
    loader: Any = AutoModelForCausalLM
    # wrong shapes are told below, in one error with what is missing
    options = {"ignore_mismatched_sizes": True, **options, "output_loading_info": True}
    if folder and (Path(source) / "module.safetensors").exists() and not (Path(source) / "config.json").exists():
        raise AddendaError(f"cannot load the base '{name}': that folder is a module's; plug it into a base (--plug)")
    try:
        model, found = loader.from_pretrained(source, dtype="auto" if dtype is None else dtype, **options)
    except Exception as error:  # a foreign config.json or weight file can make transformers raise anything
        if folder:
            where = "transformers cannot load what is in that folder as a causal language model"
        else:
            where = (
                "it is not 'tiny', and neither a folder with a model nor a model on the hub could be opened under that "
                "name"
            )
        raise AddendaError(f"cannot load the base '{name}': {where} ({_reason(error)})") from error
    _check_weights(name, found)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **{k: v for k, v in options.items() if k in HUB})
    except Exception as error:
        raise AddendaError(
            f"cannot load the tokenizer of the base '{name}': its model is there, but no tokenizer that transformers "
            f"can load ({_reason(error)}); put one beside it, or load both yourself: addenda.attach(model, tokenizer)"
        ) from error
    return model.eval(), tokenizer, label


def _check_weights(name: str | Path, found: dict[str, Any]) -> None:
    """Refuse a model of which transformers has made up a part."""
    shapes = [f"{key} {list(has)} for {list(wants)}" for key, has, wants in found["mismatched_keys"]]
    problems = [f"no values for {_some(found['missing_keys'])}"] if found["missing_keys"] else []
    problems += [f"other shapes than config.json wants in {_some(shapes)}"] if shapes else []
    if problems:
        raise AddendaError(f"cannot load the base '{name}': its weight files have {' and '.join(problems)}")


def _some(tensors: Iterable[str]) -> str:
    names = sorted(tensors)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{len(names)} tensors: {', '.join(names[:10])}{more}"


def _reason(error: Exception) -> str:
    """An error in one line; its type too, where the words alone would not tell."""
    first = next(iter(str(error).strip().splitlines()), "").strip().rstrip(":. ")
    return first if isinstance(error, OSError | ValueError | ImportError) else f"{type(error).__name__}: {first}"
