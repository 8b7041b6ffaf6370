"""Build hook: the .pth file that lets lm-evaluation-harness find `--model addenda`, in wheels and in editable installs."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "addenda_lm_eval.pth"


class Hook(BuildHookInterface):
    """Puts the file beside the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each wheel is built; `version` is `editable` for `pip install -e`."""
        where = "force_include_editable" if version == "editable" else "force_include"
        build_data[where][NAME] = NAME
