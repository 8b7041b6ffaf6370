"""lm-evaluation-harness through a base and its modules: a model class, and what it answers rightly of tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from torch.nn.utils.rnn import pad_sequence

from addenda.bases.devices import usable_device
from addenda.core.errors import AddendaError, DataError
from addenda.core.modes import evaluating
from addenda.measuring.asking.tasks import Task
from addenda.measuring.looking.canary import WasOn, proved
from addenda.plug import decoding
from addenda.plug.base import load_base
from addenda.plug.selection import Names, weights_of
from addenda.telling.progress import tick
from addenda.text import prompting

if TYPE_CHECKING:
    from addenda.plug.base import Base


#: what a base can be loaded in, by the usual names
DTYPES = {
    "float32": torch.float32, "fp32": torch.float32, "float": torch.float32,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float16": torch.float16, "fp16": torch.float16, "half": torch.float16,
    "float64": torch.float64, "fp64": torch.float64, "double": torch.float64,
}  # fmt: skip
#: its decorators hide its type
_HFLM: Any = HFLM


class AddendaLM(_HFLM):
    """A base with a selection of modules, as lm-eval asks it.

    `addenda lm-eval run --model addenda --model_args base=tiny,plug=runs/pubmed+runs/law,modules=pubmed+law@0.5`: `plug`
    are folders, joined by `+`; `modules` a selection, default: all that were plugged. `dtype` is a name as lm-eval takes it,
    or `fp32`, `fp16`, `bf16`; `device` as torch names it, default: a GPU if there is one; where there is none, any `cuda` is
    the CPU. In Python `base` may be a loaded one; it is shared, and stays where and as it is, its own selection too. All else
    goes to lm-eval's HFLM.

    Raises:
        AddendaError: there is no such dtype or device, or a loaded base has another; something cannot be loaded or did not run.
    """

    def __init__(
        self, base: Any = "tiny", plug: str = "", modules: Names = "", dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        base = _loaded(base, _dtype(dtype), None if device is None else _device(str(device)))
        plugged = [base.plug(folder).name for folder in filter(None, plug.split("+"))]
        self.base: Base = base
        self.weights: dict[str, float] = weights_of(modules) or dict.fromkeys(plugged, 1.0)
        self.canary: list[WasOn] = proved(self.base, self.weights)
        kwargs.pop("pretrained", None)
        with _quiet():
            super().__init__(
                pretrained=base.model, tokenizer=base.tokenizer, backend="causal", device=str(base.device), **kwargs
            )

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        tick(inps.numel())
        with self.base.using(self.weights), evaluating(self.base.model):
            return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.base.using(self.weights), evaluating(self.base.model):
            return super()._model_generate(*args, **(decoding.form(self.base.model) | kwargs))

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        """As HFLM's, without the eos that some tokenizers close a text with; ids beyond the embeddings are refused."""
        ids = prompting.unclosed(self.tokenizer, super().tok_encode(string, add_special_tokens, **kwargs), string)
        prompting.check_ids(np.array(ids), self.base.vocabulary)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As HFLM's, each row as `tok_encode` gives it: ids and mask, both [B, T]."""
        if not prompting.marks(self.tokenizer)[1]:
            return super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)
        rows = [torch.tensor(self.tok_encode(string)) for string in strings]
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=padding_side)
        ids = pad_sequence(
            rows, batch_first=True, padding_side=padding_side, padding_value=self.tokenizer.pad_token_id or 0
        )
        last = slice(-left_truncate_len if left_truncate_len else None, None)
        return ids[:, last], mask[:, last]


register_model("addenda")(AddendaLM)


@contextmanager
def _quiet() -> Iterator[None]:
    """In this block HFLM tells errors alone: that it was given a loaded model is meant so."""
    log = logging.getLogger(HFLM.__module__)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _loaded(base: Any, dtype: torch.dtype | None, device: torch.device | None) -> Base:
    """A base by its name, in a precision and on a device; or the loaded one that was given, if it is so.

    HFLM places and casts only what it loads itself.
    """
    if isinstance(base, str):
        loaded = load_base(base, dtype=dtype)
        loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return loaded
    is_in, is_on = base.model.dtype, base.device
    if dtype not in (None, is_in):
        raise AddendaError(f"the base is loaded already, in {is_in}, not {dtype}: load it so, or leave dtype out")
    if device is not None and (device.type != is_on.type or device.index not in (None, is_on.index or 0)):
        raise AddendaError(f"the base is on {is_on} already, not on {device}: move it there first, or leave device out")
    return base


def _device(name: str) -> torch.device:
    """The device of a name; the CPU, with a warning, for a GPU of a machine that has none: `cuda:0` is lm-eval's own default."""
    if name.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        logging.getLogger(__name__).warning("there is no GPU for device '%s': the base runs on the CPU", name)
        return torch.device("cpu")
    return usable_device(name)


def _dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    """A dtype by any of its usual names; None is the checkpoint's own."""
    if not isinstance(name, str):
        return name
    if name == "auto":
        return None
    dtype = DTYPES.get(name.removeprefix("torch."))
    if dtype is None:
        raise AddendaError(f"there is no dtype '{name}' to load a base in; there are: auto, {', '.join(DTYPES)}")
    return dtype


def answered(model: LM, tasks: Sequence[Task], limit: int | None) -> dict[str, dict[str, np.ndarray]]:
    """Whether each question was answered rightly, by task and metric."""
    # not its `simple_evaluate`, which seeds every generator of the process, and asks git for a commit of the working folder
    loaded: Any = TaskManager(include_defaults=False).load([task.config for task in tasks])
    results: Any = evaluate(lm=model, task_dict=loaded, limit=limit, bootstrap_iters=0, log_samples=True)
    scores: dict[str, dict[str, np.ndarray]] = {}
    for task in tasks:
        samples = sorted(results["samples"][task.config["task"]], key=lambda sample: sample["doc_id"])
        if not samples:
            raise DataError(f"task '{task.name}' holds no question")
        metrics = [entry["metric"] for entry in task.config["metric_list"]]
        scores[task.name] = {name: np.array([float(sample[name]) for sample in samples]) for name in metrics}
    return scores
