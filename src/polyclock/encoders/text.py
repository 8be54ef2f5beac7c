"""Frozen pretrained text encoders, through transformers: only a linear on top of them, if any, is trained and saved.

Weights and tokenizer are read from local folders in transformers' format (config.json, safetensors, tokenizer files);
nothing is downloaded and no code of a folder is run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..codecs.codec import Shape
from ..errors import missing, unknown
from ..plain import PATH
from ..recent import Recent
from .bytes import pooled
from .text_store import TextStore, fingerprint

# "model_type" of a config -> classes of the model and its tokenizer in transformers.
CLASSES = {
    "t5": ("T5EncoderModel", "T5Tokenizer"),
    "mt5": ("MT5EncoderModel", "T5Tokenizer"),
    "umt5": ("UMT5EncoderModel", "T5Tokenizer"),
    "clip_text_model": ("CLIPTextModel", "CLIPTokenizer"),
    "clip": ("CLIPTextModel", "CLIPTokenizer"),
}
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")
KEPT = 2**30  # bytes of texts' features that stay in memory, on the device
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """b strings -> features (b, L, width) and mask (b, L).

    folder      holds config.json and safetensors
    tokenizer   folder of the tokenizer; None: the same
    width       of the features, behind the trained linear; 0: the frozen model's own, as they are
    max_length  tokens; what is longer is cut
    pool        True: the mean over the tokens, (b, 1, width), which the global route needs
    fill        True: features are filled up with zeros to max_length tokens, which are looked at like the others, as
                Wan was trained
    precision   "fp32", or "bf16" for half the memory: the frozen model's weights
    store       folder that keeps features by the text's hash, so that the frozen model is loaded for new texts alone
    """

    types: ClassVar[tuple[str, ...]]  # the model types that this class reads
    folder: str = field(metadata=PATH)
    tokenizer: str | None = field(default=None, metadata=PATH)
    width: int = 256
    max_length: int = 77
    pool: bool = False
    fill: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    store: str | None = field(default=None, metadata=PATH)

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ValueError(f"max_length={self.max_length} must be at least 2 tokens")
        if self.pool and self.fill:
            raise ValueError("pool takes the mean over the tokens and fill looks at zeros beside them; choose one")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)

    @property
    def length(self) -> int | None:
        """Tokens of a text: 1 where pooled, max_length where filled up, else unknown."""
        return 1 if self.pool else self.max_length if self.fill else None

    @property
    def folders(self) -> tuple[str, str]:
        """Where the model and the tokenizer lie."""
        model, words = (str(Path(p).expanduser()) for p in (self.folder, self.tokenizer or self.folder))
        return model, words

    def build(self, shape: Shape = ()) -> nn.Module:
        """The trainable part; reads config.json alone. Errors: ValueError where it describes another model."""
        config = read_config(self.folder, self.types)
        return PretrainedNet(self, int(config.get("d_model") or config.get("hidden_size") or 0))


@dataclass(frozen=True, kw_only=True)
class T5(Pretrained):
    """A frozen T5, mT5 or UMT5 encoder (Wan was trained with UMT5); the fields are those of `Pretrained`."""

    types: ClassVar[tuple[str, ...]] = ("t5", "mt5", "umt5")
    max_length: int = 128


@dataclass(frozen=True, kw_only=True)
class CLIPText(Pretrained):
    """The last hidden states of a frozen text tower of CLIP; the fields are those of `Pretrained`."""

    types: ClassVar[tuple[str, ...]] = ("clip_text_model", "clip")


@lru_cache(maxsize=64)
def read_config(folder: str, types: tuple[str, ...]) -> dict[str, Any]:
    """config.json of a folder; of a whole CLIP, its text part. Errors: ValueError for none, or another model."""
    file = Path(folder).expanduser() / "config.json"
    if not file.is_file():
        raise ValueError(f"{file} does not exist; folder must hold a model in transformers' format")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in types:
        raise ValueError(f"{file} describes {found!r}; possible here: {', '.join(types)}")
    return {"model_type": found} | config.get("text_config", config)


class Reader:
    """A frozen model and its tokenizer on one device, and the features of the texts it was asked for."""

    def __init__(self, spec: Pretrained, device: torch.device) -> None:
        try:
            import transformers
        except ImportError as error:
            raise missing("transformers", "hf") from error
        config = read_config(spec.folder, spec.types)
        model_class, tokenizer_class = (getattr(transformers, n) for n in CLASSES[config["model_type"]])
        folder, words = spec.folders
        if not any((Path(words) / name).is_file() for name in TOKENIZER_FILES):
            # transformers would go on with an empty vocabulary, in which all texts are alike.
            raise ValueError(f"{words} holds none of {', '.join(TOKENIZER_FILES)}; give the tokenizer's folder")
        try:
            self.tokenizer = tokenizer_class.from_pretrained(words, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{words} holds no readable {tokenizer_class.__name__}: {error}") from error
        try:
            model, info = model_class.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=PRECISIONS[spec.precision],
                output_loading_info=True,
            )
        except OSError as error:
            raise ValueError(f"{folder} holds no readable safetensors weights: {error}") from error
        if info["missing_keys"]:
            raise ValueError(f"weights in {folder} lack {sorted(info['missing_keys'])[:3]}")
        self.model = model.requires_grad_(False).eval().to(device)
        self.device = device
        self.limit = min(spec.max_length, config.get("max_position_embeddings") or spec.max_length)

    def read(self, text: str) -> Tensor:
        """(L, D) float32, L at least 1."""
        # One text at a time, so that its features are the same to the bit whatever it is batched with, in a fresh run
        # or a resumed one; and outside inference mode and autocast, whose tensors would be kept for training.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            ids = self.tokenizer(text, truncation=True, max_length=self.limit).input_ids
            if not ids:
                raise ValueError(f"the tokenizer makes no token of {text!r}: it must add an end or start token")
            out: Tensor = self.model(input_ids=torch.tensor([ids], device=self.device)).last_hidden_state[0]
            return out.float()


class Library:
    """The features of texts: those in memory, then those on disk, and the frozen model for what neither has."""

    def __init__(self, spec: Pretrained, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.kept: Recent[Tensor] = Recent(KEPT)
        self.store: TextStore | None = None
        if spec.store is not None:
            # The frozen model's device is left out: features differ by rounding between machines anyway.
            self.store = TextStore(
                spec.store, fingerprint(dict.fromkeys(spec.folders), spec.max_length, spec.precision)
            )
        self.reader: Reader | None = None

    def features(self, text: str) -> Tensor:
        """(L, D) float32, L at least 1."""
        return self.kept.get(text, lambda: self._find(text))

    @torch.inference_mode(False)  # its tensors could not be trained behind
    def _find(self, text: str) -> Tensor:
        stored = self.store.get(text) if self.store else None
        if stored is not None:
            return stored.to(self.device)
        if self.reader is None:
            self.reader = Reader(self.spec, self.device)
        features = self.reader.read(text)
        if self.store:
            self.store.put(text, features)
        return features


@lru_cache(maxsize=4)
def library(spec: Pretrained, device: str) -> Library:
    """The one library of a description on a device."""
    return Library(spec, torch.device(device))


class PretrainedNet(nn.Module):
    """The trained linear, if any. The frozen model is shared by all copies of this module and no part of its state."""

    def __init__(self, spec: Pretrained, inputs: int) -> None:
        super().__init__()
        self.spec, self.inputs = spec, inputs
        self.length, self.width = spec.length, spec.width or inputs
        self.out: nn.Module = nn.Linear(inputs, spec.width) if spec.width else nn.Identity()
        self.register_buffer("place", torch.zeros(0), persistent=False)  # says which device this is on

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """b strings -> features (b, L, width), mask (b, L) bool; L = 1 where pooled, max_length where filled up."""
        device = self.get_buffer("place").device
        texts_here = library(self.spec, str(device)) if len(texts) else None
        read = [texts_here.features(text) for text in texts] if texts_here else []
        length = self.spec.max_length if self.spec.fill else max(map(len, read), default=1)
        h = torch.zeros(len(read), length, self.inputs, device=device)
        mask = torch.full(h.shape[:2], self.spec.fill, dtype=torch.bool, device=device)
        for i, features in enumerate(read):
            h[i, : len(features)] = features
            mask[i, : len(features)] = True
        dtype = next(self.parameters(), h).dtype
        if self.spec.pool:
            return self.out(pooled(h, mask).to(dtype)), mask[:, :1]
        return self.out(h.to(dtype)) * mask[..., None], mask
