"""`polyclock import FORMAT FILE --out DIR`: a foreign checkpoint as a model folder."""

from __future__ import annotations

from collections.abc import Sequence

from .. import flags
from ..interop import FORMATS, loader

TEXT = """Read a foreign checkpoint, without running anything of it, and write it as a model folder of this package.
What a file does not say is asked for and never guessed.

{formats}"""


def run(words: Sequence[str]) -> int:
    """Import; the exit status is 0."""
    width = max(map(len, FORMATS))
    text = TEXT.format(formats="\n".join(f"  {name:<{width}}  {about}" for name, about in FORMATS.items()))
    if not words or words[0].startswith("-"):
        usage = "usage: polyclock import FORMAT FILE --out DIR [flags]"
        print(f"{usage}\n\n{text}\n\npolyclock import FORMAT --help says more.")
        return 0 if words else 2
    load = loader(words[0])
    parser = flags.Parser(f"import {words[0]}", text, usage=f"polyclock import {words[0]} FILE --out DIR [flags]")
    parser.add_argument("file", metavar="FILE", help="the checkpoint")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_flags("checkpoint", [f for f in flags.of_function(load) if f.name not in ("path", "folder")])
    given = parser.take(words[1:])
    out = given.pop("out")
    model = load(given.pop("file"), folder=out, **given)
    million = sum(p.numel() for p in model.parameters()) / 1e6
    names = f"given: {', '.join(model.conditions)}; modelled: {', '.join(model.modalities)}"
    print(f"wrote {out}: {million:.1f} M parameters; {names}; polyclock info {out} says more")
    return 0
