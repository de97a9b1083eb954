"""README's map is wiring's own drawing, which another test holds against the code."""

import ast
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]


def test_the_map_of_the_readme_is_the_one_of_wiring() -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / "hawk/wiring.py").read_text())) or ""
    drawing = docstring[docstring.index("    application") : docstring.index("The Connector's own children")]
    assert dedent(drawing).strip() in (ROOT / "README.md").read_text()
