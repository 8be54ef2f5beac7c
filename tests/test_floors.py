"""The plan of the house, read off the imports: nothing imports upward or in a circle, and no paper is named below."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = "polyclock"
SOURCE = Path(__file__).resolve().parents[1] / "src" / PACKAGE

# docs/concepts.md says what lives where. A folder stands for all of its files.
FLOORS = {
    0: "path errors dice plain recent",
    1: "modality adapter batch codecs encoders query",
    2: "timesteps density augment views layout nn backbones conditioning sequence relations",
    3: "model",
    4: "auxiliary objective guidance schedule schedulers intake solver",
    5: "recipe pretrained",
    6: "train evaluate rollout report",
    7: "cli commands flags recipes interop",
}
WING = "data experts envs"  # imports floors 0 and 1 and itself; only floors 5 and up may import it
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
ROOT_FLOOR = 8  # polyclock/__init__.py gathers the public names; nothing inside may lean on it

PAPERS = ("uwm", "unityvideo", "dreamworld", "videojam", "diffusionpolicy", "gr1", "videorepa")
MAY_NAME_PAPERS = ("recipes", "interop")


# ---------------------------------------------------------------- reading the imports


def module_name(file: str) -> str:
    """ "codecs/scale.py" -> "codecs.scale"; "codecs/__init__.py" -> "codecs"; "__init__.py" -> ""."""
    parts = file.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: str, tree: ast.AST, modules: set[str]) -> Iterator[tuple[int, str]]:
    """(line, module) of each import of our own, wherever it stands; "" is the package's root."""
    here = module_name(file).split(".") if module_name(file) else []
    package = here if file.endswith("__init__.py") else here[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from ((node.lineno, ".".join(n[1:])) for n in names if n[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            target = (node.module or "").split(".") if node.module else []
            if node.level:
                base = package[: len(package) - (node.level - 1)] + target
            elif target and target[0] == PACKAGE:
                base = target[1:]
            else:
                continue
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                # The version is the root's first line, before it imports anything.
                if whole in modules or (whole != "__version__" and base == []):
                    yield node.lineno, whole if whole in modules else ""
                elif whole != "__version__":
                    yield node.lineno, ".".join(base)


def place(module: str) -> int | str | None:
    """A module's floor, "wing", or None where the plan has no place for it."""
    top = module.split(".")[0]
    if not top:
        return ROOT_FLOOR
    return "wing" if top in WING.split() else FLOOR.get(top)


def allowed(importer: str, target: str) -> bool:
    """Whether one module may import another by their floors alone."""
    a, b = place(importer), place(target)
    if a is None or b is None:
        return False
    if a == "wing":
        return b == "wing" or b in (0, 1)
    if b == "wing":
        return a >= 5
    return b <= a and target != ""


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, first one repeated at the end; empty if there is none."""
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph.get(node, ())):
            found = walk(following, [*trail, node])
            if found:
                return found
        done.add(node)
        return []

    return next(filter(None, (walk(node, []) for node in sorted(graph))), [])


def import_faults(files: Mapping[str, str]) -> list[str]:
    """Faults in the imports of `files` (path inside the package -> text), one sentence each."""
    modules = {module_name(file) for file in files}
    faults, graph = [], {}
    for file, text in files.items():
        name = module_name(file)
        if place(name) is None:
            faults.append(f"{file}: no floor; give it one in tests/test_floors.py and docs/concepts.md")
            continue
        targets = [(line, t) for line, t in imported(file, ast.parse(text), modules) if t != name]
        graph[name] = {t for _, t in targets}
        if name == "":
            continue
        faults += [
            f"{file}:{line}: floor {place(name)} imports {t or 'the package root'} of floor {place(t)}"
            for line, t in targets
            if not allowed(name, t)
        ]
    round_trip = circle(graph)
    if round_trip:
        faults.append("imports in a circle: " + " -> ".join(m or PACKAGE for m in round_trip))
    return faults


# ---------------------------------------------------------------- reading the names


def words(identifier: str) -> list[str]:
    """ "PadMask_2" -> ["pad", "mask", "2"]."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower())


def paper_in(text: str) -> str | None:
    """The paper that an identifier or a string names, if any."""
    joined = re.sub(r"[^a-z0-9]", "", text.lower())
    for paper in PAPERS:
        if len(paper) > 3 and paper in joined:
            return paper
        if len(paper) <= 3 and re.search(rf"(?<![a-z0-9]){paper}(?![a-z0-9])", text.lower().replace("_", " ")):
            return paper
    return None


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the strings that stand alone as statements."""
    lone = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {id(value) for value in lone if isinstance(value, ast.Constant) and isinstance(value.value, str)}


def named(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """(identifier, is it our own choice) of a node. What another library calls its own is not our choice."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name, True
    elif isinstance(node, ast.arg):
        yield node.arg, True
    elif isinstance(node, ast.Name):
        yield node.id, isinstance(node.ctx, ast.Store)
    elif isinstance(node, ast.Attribute):
        yield node.attr, isinstance(node.ctx, ast.Store)
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, False
    elif isinstance(node, ast.alias):
        yield node.asname or node.name, True


def name_faults(file: str, text: str) -> list[str]:
    """Papers named in a file's path, identifiers and strings, one sentence each.

    "pad" is also a verb, so only names that we give and strings that are nothing else count as that paper.
    """
    tree = ast.parse(text)
    faults = [f"{file}: the file is named after {paper}" for paper in filter(None, [paper_in(file)])]
    if "pad" in [w for part in file.removesuffix(".py").split("/") for w in words(part)]:
        faults.append(f"{file}: the file is named after pad")
    lone = docstrings(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for name, ours in named(node):
            paper = paper_in(name) or ("pad" if ours and "pad" in words(name) else None)
            if paper:
                faults.append(f"{file}:{line}: the identifier {name} names the paper {paper}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in lone:
            paper = paper_in(node.value) or ("pad" if node.value.strip().lower() == "pad" else None)
            if paper:
                faults.append(f"{file}:{line}: the string {node.value!r} names the paper {paper}")
    return faults


def sources() -> dict[str, str]:
    return {str(p.relative_to(SOURCE)): p.read_text(encoding="utf-8") for p in sorted(SOURCE.rglob("*.py"))}


# ---------------------------------------------------------------- the tests


def test_no_import_goes_up_or_round() -> None:
    files = sources()
    assert len(files) > 10, "the package was not found"
    assert import_faults(files) == []


def test_no_paper_is_named_below_the_recipes() -> None:
    files = {f: t for f, t in sources().items() if f.split("/")[0] not in MAY_NAME_PAPERS}
    assert [fault for file, text in files.items() for fault in name_faults(file, text)] == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"path.py": "from .model import WorldModel", "model.py": ""}, "path.py:1: floor 0 imports model of floor 3"),
        ({"path.py": "def f():\n    from . import model", "model.py": ""}, "path.py:2: floor 0 imports model"),
        ({"path.py": "import polyclock.model", "model.py": ""}, "path.py:1: floor 0 imports model"),
        ({"nn/block.py": "from ..model import M", "model.py": ""}, "nn/block.py:1: floor 2 imports model"),
        ({"nn/__init__.py": "from ..model import M", "model.py": ""}, "nn/__init__.py:1: floor 2 imports model"),
        ({"data/window.py": "from ..layout import Layout", "layout.py": ""}, "data/window.py:1: floor wing imports"),
        ({"model.py": "from .data import Windows", "data/__init__.py": ""}, "model.py:1: floor 3 imports data"),
        ({"cli.py": "from . import sample", "__init__.py": ""}, "cli.py:1: floor 7 imports the package root"),
        ({"codecs/a.py": "from . import b", "codecs/b.py": "from .a import x"}, "circle: codecs.a -> codecs.b"),
        ({"novelty.py": ""}, "novelty.py: no floor"),
    ],
)
def test_a_planted_import_is_found(files: dict[str, str], fault: str) -> None:
    assert [f for f in import_faults(files) if fault in f]


def test_a_lawful_house_has_no_fault() -> None:
    files = {
        "__init__.py": "__version__ = '1'\nfrom .model import M",
        "path.py": "import torch",
        "codecs/codec.py": "",
        "codecs/scale.py": "from .codec import Codec\nfrom ..path import Path",
        "modality.py": "from .codecs.scale import Identity\nfrom polyclock.path import Path",
        "model.py": "from .modality import Modality",
        "data/formats/folder.py": "from ..window import Windows\nfrom ...modality import Signal",
        "data/window.py": "from .. import errors",
        "errors.py": "",
        "train/loop.py": "from ..data.window import Windows\nfrom .. import __version__",
        "train/__init__.py": "",
    }
    assert import_faults(files) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model.py", "if recipe == 'uwm': pass"),
        ("model.py", "def uwm_loss(): pass"),
        ("model.py", "class UnityVideoBlock: pass"),
        ("model.py", "f(diffusion_policy=1)"),
        ("model.py", "x = f'the {y} of DreamWorld'"),
        ("model.py", "x = {'gr1': 1}"),
        ("model.py", "def step(pad): pass"),
        ("model.py", "kinds = ('pad',)"),
        ("model.py", "from torch.nn.functional import pad"),
        ("nn/videojam.py", ""),
        ("nn/pad.py", ""),
    ],
)
def test_a_planted_name_is_found(file: str, text: str) -> None:
    assert name_faults(file, text)


@pytest.mark.parametrize(
    "text",
    [
        '"""As in UWM (section 3)."""\n# and VideoJAM\nx = 1',
        "padding = F.pad(x, (0, 1))",
        "raise ValueError('windows pad both ends')",
        "wan = keypad = 1",
        "class A:\n    x: int = 1\n    'as DreamWorld has it'",
    ],
)
def test_citations_and_plain_words_are_left_alone(text: str) -> None:
    assert name_faults("model.py", text) == []
