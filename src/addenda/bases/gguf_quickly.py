"""Let transformers read a GGUF file without its bars, and without parsing a vocabulary three times, number by number.

It takes a third of the time. What no longer fits a newer version of either package is simply not asked for by it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from addenda.bases.gguf_header import step_over

_one_at_a_time = threading.RLock()


@contextmanager
def quickly() -> Iterator[None]:
    """For a block in which transformers reads a GGUF file: quietly, parsing the file once. One thread at a time."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    legacy: Any = modeling_gguf_pytorch_utils
    with _one_at_a_time:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        wanted: list[tuple[Any, str, Callable[[Any], Any]]] = [
            (gguf, "GGUFReader", lambda reader: cache(_reader(gguf, reader))),
            (gguf, "get_tensor_name_map", cache),  # asked for again for every submodule
            (legacy, "tqdm", lambda bar: partial(bar, disable=True)),  # no setting of transformers' reaches this bar
        ]
        before = [(place, name, getattr(place, name)) for place, name, _ in wanted if hasattr(place, name)]
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            for place, name, quicker in wanted:
                if hasattr(place, name):
                    setattr(place, name, quicker(getattr(place, name)))
            yield
        finally:
            for place, name, old in before:
                setattr(place, name, old)
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def _reader(gguf: Any, reader: Any) -> type:
    """The package's reader, which steps over long arrays: nobody asks it for the vocabulary."""

    class Reader(reader):
        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            end = step_over(self.data, int(orig_offs)) if raw_type == gguf.GGUFValueType.ARRAY else None
            if end is not None:
                return end - orig_offs, [], [], [gguf.GGUFValueType.ARRAY]
            return super()._get_field_parts(orig_offs, raw_type)

    return Reader
