"""Sphinx: Markdown pages, API pages from docstrings, no network. Built by `make docs`, warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import addenda

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import api_reference

project = "Addenda"
author = "The Addenda authors"
copyright = "The Addenda authors, Apache-2.0"
version = release = addenda.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "Addenda"
html_static_path = ["images"] if (Path(__file__).parent / "images").is_dir() else []

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
default_role = "literal"  # `x` in a docstring is code
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False
python_use_unqualified_type_names = True


def public(group: str) -> list[tuple[str, str]]:
    """Dotted name and autodoc's directive of every public object of a group."""
    directive = "autofunction" if group == "functions" else "autoclass"
    return [(f"{value.__module__}.{value.__qualname__}", directive) for _, value in api_reference.public()[group]]


class Public(SphinxDirective):
    """`{public} functions|classes|errors`: the public objects of that group, from `addenda.__all__`."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Let autodoc describe each object."""
        group = self.arguments[0]
        options = "   :members:\n   :exclude-members: model_config\n" if group == "classes" else ""
        rows = [f".. {directive}:: {name}\n{options}" for name, directive in public(group)]
        if not rows:
            raise self.error(f"addenda.__all__ names no {group}")
        return self.parse_text_to_nodes("```{eval-rst}\n" + "\n".join(rows) + "\n```\n")


def setup(app: Any) -> None:
    """Add the directive."""
    app.add_directive("public", Public)
