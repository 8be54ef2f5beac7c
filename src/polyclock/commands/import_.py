"""`polyclock import uwm models.pt --views A,B --resize 240,240 --out DIR`: a foreign checkpoint as a model folder."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import unknown
from ..flags import Parser

FORMATS = {"uwm": "models.pt of the authors' Unified World Models code, its autoencoder included"}
TEXT = """Read a foreign checkpoint, without running anything of it, and write it as a model folder of this package.

{formats}

What a file does not say is asked for and never guessed."""


def run(words: Sequence[str]) -> int:
    """Import; the exit status is 0."""
    width = max(map(len, FORMATS))
    text = TEXT.format(formats="\n".join(f"  {name:<{width}}  {about}" for name, about in FORMATS.items()))
    if not words or words[0].startswith("-"):
        print(
            f"usage: polyclock import FORMAT FILE --out DIR ...\n\n{text}\n\npolyclock import FORMAT --help says more."
        )
        return 0 if words else 2
    if words[0] not in FORMATS:
        raise unknown("format", words[0], FORMATS)
    args = _parser(words[0], text).take(words[1:])

    from ..interop.uwm import load

    state = dict(one.split("=", 1) if "=" in one else (one, "") for one in _names(args["state"]))
    for name, count in state.items():
        if not count.isdecimal():
            raise ValueError(f"--state names {name!r} without its width; write name=width,name=width")
    model = load(
        args["file"],
        views=_names(args["views"]),
        resize=_size("resize", args["resize"]) if args["resize"] else None,
        crop=_size("crop", args["crop"]),
        heads=args["heads"],
        state={name: int(count) for name, count in state.items()},
        rate=args["rate"],
        folder=args["out"],
    )
    million = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"wrote {args['out']}: {million:.1f} M parameters; given: {', '.join(model.conditions)}; "
          f"modelled: {', '.join(model.modalities)}; polyclock info {args['out']} says more")  # fmt: skip
    return 0


def _names(words: str | None) -> list[str]:
    return [w for word in (words or "").split(",") if (w := word.strip())]


def _size(flag: str, words: str) -> tuple[int, int]:
    """ "240,320" -> (240, 320). Errors: ValueError for anything else."""
    parts = words.replace("x", ",").split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--{flag} {words}: two whole numbers are needed, height,width")
    return int(parts[0]), int(parts[1])


def _parser(name: str, text: str) -> Parser:
    parser = Parser(
        f"import {name}", text, usage=f"polyclock import {name} FILE --views A,B --resize H,W --out DIR [flags]"
    )
    parser.add_argument("file", metavar="FILE", help="the checkpoint")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--views", metavar="A,B", help="the cameras, sorted by name: columns observation.images.NAME")
    parser.add_argument("--resize", metavar="H,W", help="size of the pictures before they are cropped")
    parser.add_argument("--crop", default="224,224", metavar="H,W", help="[224,224]")
    parser.add_argument("--heads", type=int, metavar="N", help="of the attention [heads of 64 numbers]")
    parser.add_argument(
        "--state", metavar="NAME=N,..", help="columns observation.NAME that it reads, sorted, and widths"
    )
    parser.add_argument("--rate", type=float, default=20.0, metavar="HZ", help="frames and actions a second [20]")
    return parser
