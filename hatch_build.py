"""Build hook: what lets lm-evaluation-harness find `--model addenda`, a module beside the package and the .pth that loads it."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface):
    """Puts both into site-packages; an editable install has the module in `src` already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each wheel is built; `version` is `editable` for `pip install -e`."""
        if version == "editable":
            build_data["force_include_editable"]["addenda_lm_eval.pth"] = "addenda_lm_eval.pth"
        else:
            build_data["force_include"] |= {
                "addenda_lm_eval.pth": "addenda_lm_eval.pth",
                "src/addenda_lm_eval.py": "addenda_lm_eval.py",
            }
