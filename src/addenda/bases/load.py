"""Loading a base by name: the embedded one, a folder, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from addenda import tiny
from addenda.core.errors import AddendaError


def load_model(name: str | Path, dtype: torch.dtype | str | None = None, **options: Any) -> tuple[Any, Any, str]:
    """The model, its tokenizer and the name under which cards will know it.

    `name` is `tiny`, a folder, or a hub id; `dtype` as transformers takes it, None for the checkpoint's own.

    Raises:
        AddendaError: nothing can be loaded under that name; says what was tried.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tiny.path() if str(name) == "tiny" else name
    label = "tiny" if str(name) == "tiny" else Path(name).name if Path(name).is_dir() else str(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype="auto" if dtype is None else dtype, **options)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise AddendaError(
            f"cannot load the base '{name}': it is not 'tiny', and neither a folder with a model nor a model on the hub "
            f"could be opened under that name ({first})"
        ) from error
    return model.eval(), tokenizer, label
