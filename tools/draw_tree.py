"""Draws the README's tree: every file that git holds, with the first sentence of what it says of itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?<=<!-- tree -->\n).*?(?=<!-- /tree -->)", re.S)

# What cannot speak for itself.
REMARKS = {
    ".ci/run": "all checks in a fresh environment",
    "CHANGELOG.md": "what changed",
    "CITATION.cff": "how to cite",
    "CONTRIBUTING.md": "how to add a modality, a law, a format, a paper",
    "LICENSE": "Apache-2.0",
    "Makefile": "set-up, check, test, demo",
    "README.md": "this page",
    "SECURITY.md": "what is not trusted, and what is promised",
    "constraints.txt": "the versions that were run",
    "pyproject.toml": "the package, its extras, and the tools' settings",
    "docs/concepts.md": "the ideas, and every part, with an example each",
    "docs/conventions.md": "shapes, time, names, errors, saving",
    "docs/data.md": "which data are read and written, and how",
    "docs/evaluation.md": "what is measured, beside what, and what each number means",
    "docs/experts.md": "modalities read off videos, and the command that does it",
    "docs/features.md": "features of networks as latents, and the store they lie in",
    "docs/results.md": "what was measured, generated from committed JSON",
    "docs/wan.md": "Wan networks: read, trained, written",
    "docs/worlds.md": "the two simulated worlds: what is exact in them, and what is not",
    "src/polyclock/__init__.py": "the public names",
    "src/polyclock/envs/metaworld_starts.json": "the published starts of seven tasks",
    "src/polyclock/report/player.js": "moves the clips of a page",
    "src/polyclock/report/style.css": "the look of a page, light and dark",
    "tools/demo.sh": "what `make demo` runs",
}
FOLDERS = {
    "benchmarks/": "side-by-side measurements: each prints a ratio and writes JSON",
    "checkpoints/": "a small trained model",
    "docs/": "",
    "docs/pictures/": "made by the program, looked at by a person",
    "examples/": "",
    "runs/": "one script for each published number, and the JSON it wrote",
    "src/": "",
    "src/polyclock/": "",
    "tests/": "mirrors the package file by file; beside that",
    "tests/fixtures/": "small files that other programs wrote",
    "tools/": "",
}
# Folders shown as one line: their files are many and named after what they test or hold.
WHOLE = ("tests/", "docs/pictures/", "runs/", "checkpoints/")
SHOWN = ("test_exact.py", "test_known_world.py", "test_floors.py", "test_repository.py", "test_docs.py", "conftest.py")


def tracked() -> list[str]:
    """Paths of the files that git holds and that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def shown(path: str) -> bool:
    """Whether a file has a line of its own."""
    if path.endswith("__init__.py"):
        return path == "src/polyclock/__init__.py"
    if path.startswith("tests/"):
        return path.removeprefix("tests/") in SHOWN
    return path != ".gitignore" and not path.startswith(WHOLE)


def remark(path: str) -> str:
    """The first sentence of a file's docstring or opening comment."""
    if path in REMARKS:
        return REMARKS[path]
    text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
    if path.endswith(".py"):
        text = ast.get_docstring(ast.parse(text)) or ""
    elif path.endswith(".sh"):
        text = " ".join(line.lstrip("# ") for line in text.splitlines()[1:4] if line.startswith("#"))
    else:
        return ""
    sentence = re.split(r"(?<! al)[.](?:\s|$)", " ".join(text.split("\n\n")[0].split()), maxsplit=1)[0]
    return sentence.rstrip(".")


def draw(paths: list[str]) -> str:
    """The tree as indented lines, files before folders."""
    lines: list[tuple[str, str]] = []

    def walk(folder: str, depth: int) -> None:
        inside = [p.removeprefix(folder) for p in paths if p.startswith(folder)]
        for name in (n for n in inside if "/" not in n and shown(folder + n)):
            lines.append(("  " * depth + name, remark(folder + name)))
        for name in sorted({n.split("/")[0] + "/" for n in inside if "/" in n}):
            path = folder + name
            package = path + "__init__.py"
            has_lines = any(p.startswith(path) and shown(p) for p in paths)
            if not has_lines and path not in FOLDERS:
                continue
            lines.append(("  " * depth + name, FOLDERS.get(path, remark(package) if package in paths else "")))
            walk(path, depth + 1)

    walk("", 0)
    width = max(len(name) for name, _ in lines) + 2
    return "".join(f"{name:{width}}{text}".rstrip() + "\n" for name, text in lines)


def main() -> int:
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        print("README.md has no <!-- tree --> block to draw into")
        return 1
    tree = f"```text\n{draw(tracked())}```\n"
    page.write_text(BLOCK.sub(lambda _: tree, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
