"""Path templates that a data set brings, such as `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet`."""

from __future__ import annotations

import re


def fill(template: str, **values: object) -> str:
    """Fill `{name}` and `{name:03d}` in a path template that a data set brought; nothing else is evaluated.

    Errors: ValueError for an unknown name, another kind of field, or a path that would leave the data set.
    """

    def put(match: re.Match) -> str:
        name, width = match[1], match[2]
        if name not in values:
            raise ValueError(f"path template {template!r} asks for {name!r}; possible: {', '.join(values)}")
        value = values[name]
        return f"{value:0{int(width)}d}" if width and isinstance(value, int) else str(value)

    text = re.sub(r"\{(\w+)(?::0?(\d{1,2})d)?\}", put, template)
    if "{" in text or "}" in text or "\\" in text or text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"path template {template!r} gives {text!r}, which is not a plain path inside the data set")
    return text
