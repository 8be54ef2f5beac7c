"""RECIPE on the command line: a name of `polyclock.recipes`, or `path/to/file.py:function`."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from ..errors import unknown

FOLDER = Path(__file__).parents[1] / "recipes"


def own_recipes() -> dict[str, str]:
    """{name: its first sentence} of the recipes that come with the package, read without importing them."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem != "__init__":
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = text.split("\n", 1)[0]
    return found


def find_recipe(word: str) -> Callable:
    """The function that makes the recipe.

    `path/to/file.py:function` runs that file: it is the user's own program, named by its path on the command line.
    Errors: `ValueError` for an unknown name, a file that is not there, or a function that it does not have.
    """
    path, colon, name = word.rpartition(":")
    if not colon and word.endswith(".py"):
        path, name = word, ""
    if not path:
        recipes = importlib.import_module("polyclock.recipes")
        if word not in recipes.__all__:
            raise ValueError(f"{unknown('recipe', word, recipes.__all__)} Your own: path/to/file.py:function.")
        return getattr(recipes, word)
    if not Path(path).is_file():
        raise ValueError(f"recipe {word!r}: the file {path} is not there")
    module = load_file(Path(path))
    functions = {
        n: f for n, f in vars(module).items()
        if inspect.isfunction(f) and f.__module__ == module.__name__ and not n.startswith("_")
    }  # fmt: skip
    if name not in functions:
        raise unknown(f"function in {path}", name, functions)
    return functions[name]


def recipe_of(folder: Path) -> Callable | None:
    """The function of this package that makes the recipe of a model folder; None for a user's own."""
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["recipe"]["name"]
    except (OSError, ValueError, KeyError, TypeError):  # what is wrong is said where the model is read
        return None
    return find_recipe(name) if name in own_recipes() else None


def load_file(path: Path) -> ModuleType:
    """A Python file of the user as a module; imports beside it work as they would for a script."""
    name = f"user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec.loader.exec_module(module)
    return module
