"""Writing small RLDS data sets with other people's code: protobuf for the messages, tensorboard for the framing."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image
from tensorboard.summary.writer.record_writer import RecordWriter

PYTHON = "tensorflow_datasets.core.features."


def _message_class() -> Any:
    """`tf.train.Example`, declared as TensorFlow declares it."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    kinds = {"BytesList": "TYPE_BYTES", "FloatList": "TYPE_FLOAT", "Int64List": "TYPE_INT64"}
    for name, kind in kinds.items():
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, label="LABEL_REPEATED", type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (field, kind) in enumerate(zip(("bytes_list", "float_list", "int64_list"), kinds, strict=True), 1):
        feature.field.add(
            name=field, number=number, label="LABEL_OPTIONAL", type="TYPE_MESSAGE",
            type_name=f".tensorflow.{kind}", oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label="LABEL_OPTIONAL", type="TYPE_STRING")
    entry.field.add(
        name="value", number=2, label="LABEL_OPTIONAL", type="TYPE_MESSAGE", type_name=".tensorflow.Feature"
    )
    features.field.add(
        name="feature", number=1, label="LABEL_REPEATED", type="TYPE_MESSAGE",
        type_name=".tensorflow.Features.FeatureEntry",
    )  # fmt: skip
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features", number=1, label="LABEL_OPTIONAL", type="TYPE_MESSAGE", type_name=".tensorflow.Features"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


EXAMPLE = _message_class()


def png(picture: np.ndarray) -> bytes:
    """(H, W, C) or (H, W) -> a PNG."""
    out = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(out, "PNG")
    return out.getvalue()


def message(features: Mapping[str, Any]) -> bytes:
    """{name: strings, or an array of numbers} -> a serialized Example."""
    example = EXAMPLE()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            feature.float_list.value.extend(value.ravel().tolist())
        elif isinstance(value, np.ndarray):
            feature.int64_list.value.extend(value.astype(np.int64).ravel().tolist())
        else:
            feature.bytes_list.value.extend(value)
    return example.SerializeToString()


def tensor(*shape: int, dtype: str = "float32", encoding: str = "none") -> dict:
    return {"tensor": {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": dtype, "encoding": encoding}}


def image(*shape: int, encoding: str = "png", dtype: str = "uint8") -> dict:
    return {
        "image": {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": dtype, "encodingFormat": encoding},
    }


def group(features: Mapping[str, Any]) -> dict:
    return {"pythonClassName": f"{PYTHON}features_dict.FeaturesDict", "featuresDict": {"features": dict(features)}}


def declare(steps: Mapping[str, Any], episode: Mapping[str, Any] | None = None) -> dict:
    """features.json of steps and what is said once for an episode."""
    sequence = {
        "pythonClassName": f"{PYTHON}dataset_feature.Dataset",
        "sequence": {"feature": group(steps), "length": "-1"},
    }
    return group({"steps": sequence} | ({"episode_metadata": group(episode)} if episode else {}))


def write(root: Path, features: dict, shards: Sequence[Sequence[bytes]], name: str = "arm", **info: Any) -> Path:
    """A split "train" of serialized records."""
    root.mkdir(parents=True, exist_ok=True)
    split = {"name": "train", "shardLengths": [str(len(s)) for s in shards]}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    (root / "features.json").write_text(json.dumps(features))
    whole = {"name": name, "fileFormat": "tfrecord", "splits": [split], "version": "1.0.0"} | info
    (root / "dataset_info.json").write_text(json.dumps(whole))
    for i, records in enumerate(shards):
        with (root / f"{name}-train.tfrecord-{i:05d}-of-{len(shards):05d}").open("wb") as file:
            writer = RecordWriter(file)
            for record in records:
                writer.write(record)
    return root
