"""Published networks from a local folder or a hub's name, through transformers: safetensors alone, nothing left out."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.source import load_json
from ..errors import missing, unknown
from .expert import fingerprint

if TYPE_CHECKING:
    from torch import nn

HUB = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Published:
    """An expert that is a published network.

    weights  a folder with config.json and *.safetensors, or a hub's name
    device   cpu, cuda, ...
    """

    weights: str
    device: str = "cpu"

    @cached_property
    def folder(self) -> Path:
        return folder_of(self.weights)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self, digest(self.folder))


def folder_of(weights: str) -> Path:
    """A folder with config.json and *.safetensors, here or (fetched once) on a hub.

    Errors: ValueError where neither is found, ImportError where a hub's name is given without the package for it.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} holds no config.json; the folder of a published network is needed")
        return path
    if path.exists() or not HUB.fullmatch(weights):
        raise ValueError(f"{weights!r} is neither a folder that is here nor a hub's name such as OWNER/NAME")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing("huggingface_hub", "hf") from None
    try:
        return Path(snapshot_download(weights, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # each of the hub's own errors, of which there are many, means the same here
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{weights!r} is no folder here and could not be fetched from the hub: {first}") from None


def digest(folder: Path) -> str:
    """sha256 over config, preprocessing and weights, whatever the folder is called."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors"))
    return _digest(tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in files))


@lru_cache(maxsize=64)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    found = hashlib.sha256()
    for path, size, _ in files:
        found.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            while piece := file.read(2**22):
                found.update(piece)
    return found.hexdigest()


def network(kind: str, folder: Path, types: tuple[str, ...], device: str) -> nn.Module:
    """The transformers class `kind` with the folder's weights, on `device`, for inference.

    Errors: ValueError where the folder is of another type than `types`, or lacks weights that the network has.
    """
    said = load_json(folder / "config.json").get("model_type")
    if types and said not in types:
        raise unknown(f"model_type in {folder / 'config.json'}:", said, types)
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds no .safetensors file; other files of weights are not opened")
    try:
        import transformers
    except ImportError:
        raise missing("transformers", "hf") from None
    made: Any = getattr(transformers, kind)
    log = transformers.utils.logging
    log.disable_progress_bar()  # it would draw over the one of whoever asks
    loud = log.get_verbosity()
    log.set_verbosity_error()  # what matters of what it says is looked at below
    try:
        # Not said, `trust_remote_code` is a question to whoever sits at the keyboard.
        how = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        model, told = made.from_pretrained(folder, trust_remote_code=False, **how)
    finally:
        log.set_verbosity(loud)
    lacking = sorted(told["missing_keys"])
    if lacking or told["mismatched_keys"]:
        what = lacking[0] if lacking else sorted(map(str, told["mismatched_keys"]))[0]
        raise ValueError(f"{folder} does not hold all weights of {kind}: {what} is missing or has another shape")
    return model.eval().requires_grad_(False).to(device)


def preprocessing(folder: Path) -> dict[str, Any]:
    """What preprocessor_config.json says; {} where it lacks."""
    path = folder / "preprocessor_config.json"
    return load_json(path) if path.is_file() else {}
