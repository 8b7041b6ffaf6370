"""Makes `--model addenda` known to lm-evaluation-harness, which has no plugin mechanism; loaded as Python starts, by a .pth file.

All that happens then is that the import of `lm_eval.models` is watched for: Addenda itself is not imported, and where lm-eval is
not either, nothing more happens. Nothing but `sys` is imported here, for every start of Python waits for it.
"""

from __future__ import annotations

import sys

WATCHED = "lm_eval.models"
TARGET = "addenda.measuring.harness:AddendaLM"


class Watcher:
    """Finds `lm_eval.models` once, as others find it, and adds the model's name to its registry after it has run."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Called for every import that is not loaded yet."""
        if name != WATCHED:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        found = find_spec(name)
        loader = None if found is None else found.loader
        if loader is not None:
            run = loader.exec_module

            def exec_module(module: object) -> None:
                run(module)
                register()

            loader.exec_module = exec_module
        return found


def register() -> None:
    """Add the model to lm-eval's registry, to be imported when it is asked for."""
    from lm_eval.api.registry import model_registry

    if "addenda" not in model_registry:
        model_registry.register("addenda", target=TARGET)


if WATCHED not in sys.modules:
    sys.meta_path.insert(0, Watcher())
