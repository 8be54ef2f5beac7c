"""The house rules that a machine can check: sizes, forbidden calls, docstrings, true links, a fast command line."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "polyclock"

FILE_LINES, FUNCTION_LINES, NESTING = 400, 80, 3
REPOSITORY_BYTES = 16 * 2**20
HELP_SECONDS = 1.5

# What runs, or may run, what a file says.
CALLS = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "dill.load", "joblib.load"),
    *("torch.load", "yaml.load", "yaml.unsafe_load", "eval", "exec", "os.system", "os.popen", "marshal.loads"),
}
SWITCHES = ("allow_pickle", "shell", "trust_remote_code")
FLOW = (ast.If, ast.For, ast.While, ast.Match, ast.AsyncFor)


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def sources(*folders: str) -> list[Path]:
    """All Python files below folders of the repository."""
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def nesting(node: ast.AST) -> int:
    """Levels of control flow inside a node; `elif` stays on the level of its `if`, an inner function starts anew."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            is_elif = isinstance(node, ast.If) and field == "orelse" and isinstance(child, ast.If) and len(value) == 1
            deepest = max(deepest, nesting(child) + (isinstance(child, FLOW) and not is_elif))
    return deepest


def size_faults(file: str, text: str) -> list[str]:
    """Files and functions that are too long or too deep, one sentence each."""
    lines = len(text.splitlines())
    faults = [f"{file}: {lines} lines, over {FILE_LINES}"] if lines > FILE_LINES else []
    for function in functions(ast.parse(text)):
        length, depth = function.end_lineno - function.lineno + 1, nesting(function)
        if length > FUNCTION_LINES:
            faults.append(f"{file}:{function.lineno}: {function.name} has {length} lines, over {FUNCTION_LINES}")
        if depth > NESTING:
            faults.append(f"{file}:{function.lineno}: {function.name} nests {depth} levels, over {NESTING}")
    return faults


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain; "" where it is something else."""
    if isinstance(node, ast.Name):
        return node.id
    head = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{head}.{node.attr}" if head else ""


def call_faults(file: str, text: str) -> list[str]:
    """Calls that run what a file says, imports of pickle, and switches that permit it, one sentence each."""
    faults = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = {f"{module}.{a.name}" if module else a.name for a in node.names}
            bad = [n for n in names if n in CALLS or n.split(".")[0] in ("pickle", "dill", "marshal", "shelve")]
            faults += [f"{file}:{node.lineno}: imports {n}" for n in bad]
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS:
                faults.append(f"{file}:{node.lineno}: calls {name}")
            for word in node.keywords:
                off = isinstance(word.value, ast.Constant) and word.value.value is False
                if word.arg in SWITCHES and not off:
                    faults.append(f"{file}:{node.lineno}: passes {word.arg}")
    return faults


def tracked() -> list[Path]:
    """The files git holds; skipped outside a checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_files_and_functions_stay_small() -> None:
    files = sources("src")
    assert len(files) > 10, "the package was not found"
    assert [f for p in files for f in size_faults(shown(p), p.read_text(encoding="utf-8"))] == []


def test_nothing_runs_what_a_file_says() -> None:
    files = sources("src", "examples", "benchmarks", "runs", "tools")
    assert [f for p in files for f in call_faults(shown(p), p.read_text(encoding="utf-8"))] == []


def test_modules_and_public_names_say_what_they_are() -> None:
    silent = []
    for path in sources("src"):
        text = path.read_text(encoding="utf-8")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(shown(path))
    assert silent == [], "a module opens with one sentence"

    import polyclock

    for name in getattr(polyclock, "__all__", ()):
        thing = getattr(polyclock, name)
        if callable(thing):
            # A dataclass without a docstring gets its signature for one.
            doc = (thing.__doc__ or "").strip()
            assert doc and not doc.startswith(f"{name}("), f"polyclock.{name} has no docstring"


def test_the_repository_stays_small() -> None:
    sizes = {shown(p): p.stat().st_size for p in tracked() if p.is_file()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert sum(sizes.values()) < REPOSITORY_BYTES, f"the largest files: {largest}"


def links(text: str) -> set[str]:
    """Paths of the repository that a Markdown page links to, shows or names in backticks."""
    linked = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    quoted = re.findall(r"`((?:src|docs|tests|examples|benchmarks|runs|tools|checkpoints)/[\w./-]*)`", text)
    return {path for path in (*linked, *quoted) if "://" not in path and not path.startswith("mailto:")}


def tree(text: str) -> set[str]:
    """Paths in a page's drawn tree: a line's first word, below the folders that are indented less."""
    found: set[str] = set()
    for block in re.findall(r"```text\n(.*?)```", text, re.S):
        trail: list[tuple[int, str]] = []
        for line in filter(str.strip, block.splitlines()):
            indent, name = len(line) - len(line.lstrip()), line.split()[0]
            trail = [(i, n) for i, n in trail if i < indent]
            found.add("".join(n for _, n in trail) + name)
            trail += [(indent, name)] if name.endswith("/") else []
    return found


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT) for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))), ids=str
)
def test_pages_name_only_files_that_exist(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    absent = {p for p in links(text) if not (ROOT / page.parent / p).exists() and not (ROOT / p).exists()}
    if str(page) == "README.md":
        absent |= {p for p in tree(text) if not (ROOT / p).exists()}
    assert absent == set()


def test_the_tree_in_the_readme_is_whole() -> None:
    drawn = tree((ROOT / "README.md").read_text(encoding="utf-8"))
    ours = {shown(p) for p in tracked() if p.is_file() and p.suffix == ".py" and p.is_relative_to(SOURCE)}
    absent = {p for p in ours if not p.endswith("__init__.py")} - drawn
    assert absent == set(), "run `make tree`"


def test_help_is_fast() -> None:
    """Best of five, warm: the libraries that take seconds are imported where they are used."""
    command = [sys.executable, "-c", "import sys; from polyclock.cli import main; sys.exit(main(['--help']))"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        assert "train" in done.stdout and "sample" in done.stdout
    assert min(seconds) < HELP_SECONDS, f"seconds: {[round(s, 2) for s in seconds]}"


@pytest.mark.slow
def test_the_wheel_holds_the_package(tmp_path: Path) -> None:
    # A copy: setuptools builds in place, where an older build's leftovers would slip in.
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("polyclock-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    assert inside == {str(p.relative_to(SOURCE.parent)) for p in sources("src")}
    assert wheel.stat().st_size < 2**20


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "from torch import load", "import torch\ntorch.load('x')", "eval('1')", "exec('1')"),
        *("yaml.load(f)", "np.load(f, allow_pickle=True)", "run(c, shell=True)", "f(trust_remote_code=flag)"),
    ],
)
def test_a_planted_call_is_found(text: str) -> None:
    assert call_faults("x.py", text)


def test_harmless_calls_are_left_alone() -> None:
    assert call_faults("x.py", "model.eval()\nnp.load(f, allow_pickle=False)\nre.compile('x')\nimport json") == []


def test_a_planted_giant_is_found() -> None:
    long_function = "def f():\n" + "    x = 1\n" * 80
    deep = "def g():\n for a in b:\n  if c:\n   while d:\n    if e: pass\n"
    chain = "def h():\n if a: pass\n elif b: pass\n elif c: pass\n elif d: pass\n elif e: pass\n"
    assert len(size_faults("x.py", long_function)) == 1
    assert len(size_faults("x.py", deep)) == 1
    assert len(size_faults("x.py", "x = 1\n" * 401)) == 1
    assert size_faults("x.py", chain) == []


def test_planted_links_and_trees_are_read() -> None:
    page = "[a](docs/a.md#part) ![b](docs/b.png) `src/c.py` [d](https" + "://example.org)\n"
    drawn = "```text\nsrc/\n  polyclock/   the package\n    path.py    paths\ntests/\n```\n"
    assert links(page) == {"docs/a.md", "docs/b.png", "src/c.py"}
    assert tree(drawn) == {"src/", "src/polyclock/", "src/polyclock/path.py", "tests/"}
