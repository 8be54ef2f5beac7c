"""Experts by published networks: tiny random weights in the real format, against the published processors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from moving_clips import shifting

from polyclock.experts.expert import settings

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow  # importing transformers alone takes seconds
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def saved(folder: Path, model: torch.nn.Module, preprocessing: dict | None = None) -> str:
    model.save_pretrained(folder)
    if preprocessing is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return str(folder)


def depth_network(folder: Path, **more) -> str:
    import transformers as tf

    torch.manual_seed(0)
    backbone = tf.Dinov2Config(
        **SMALL, image_size=70, patch_size=14, out_features=["stage1", "stage2"], reshape_hidden_states=False
    )
    config = tf.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, patch_size=14, reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8], fusion_hidden_size=8, head_hidden_size=8, **more,
    )  # fmt: skip
    says = {"size": {"height": 70, "width": 70}, "keep_aspect_ratio": True, "ensure_multiple_of": 14, "resample": 3}
    numbers = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    model = tf.DepthAnythingForDepthEstimation(config)
    for p in model.parameters():  # as it is made, it says the same everywhere
        torch.nn.init.normal_(p, std=(2 / max(1, p[0].numel())) ** 0.5 if p.ndim > 1 else 0.3)
    torch.nn.init.constant_(model.head.conv3.bias, 1.0)
    return saved(folder, model, says | numbers)


def test_depth_is_that_of_the_published_processor(weights: Path) -> None:
    from transformers import DepthAnythingForDepthEstimation
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    from polyclock.experts.depth_anything import DepthAnything

    path, clip = depth_network(weights / "depth"), shifting(3, (2, 1), (50, 80))
    expert = DepthAnything(weights=path, batch=2)
    processor, network = (
        DPTImageProcessorPil.from_pretrained(path),
        DepthAnythingForDepthEstimation.from_pretrained(path),
    )
    with torch.no_grad():
        told = network(**processor(images=list(clip), return_tensors="pt"))
    theirs = processor.post_process_depth_estimation(told, [clip.shape[1:3]] * 3)
    theirs = torch.stack([t["predicted_depth"] for t in theirs])
    ours = torch.cat([expert.told(clip[:2]), expert.told(clip[2:])])
    assert theirs.std() > 0.01 and (ours - theirs).abs().max() < 0.02 * (theirs.max() - theirs.min())
    depth = expert(clip)
    assert depth.shape == (3, 50, 80, 1) and depth.min() == pytest.approx(0.05) and depth.max() == pytest.approx(1)
    line = np.polyfit(theirs.flatten().numpy(), 1 / depth.flatten(), 1)
    left = 1 / depth.flatten() - np.polyval(line, theirs.flatten().numpy())
    assert line[0] > 0 and np.abs(left).max() < 0.5, "linear in 1 / depth, of a range of 19"
    assert expert.note["unit"] == "relative" and expert.after is None


def test_metric_weights_give_metres_and_another_fingerprint(weights: Path) -> None:
    from polyclock.experts.depth_anything import DepthAnything

    relative = DepthAnything(weights=depth_network(weights / "depth"))
    path = depth_network(weights / "metric", depth_estimation_type="metric", max_depth=20)
    metric = DepthAnything(weights=path)
    depth = metric(shifting(2, (0, 0), (50, 80)))
    assert metric.note == {"kind": "depth", "unit": "m", "scale": 0.001} and metric.after == 0
    assert (depth >= 0).all() and (depth <= 20).all() and depth.std() > 0
    assert relative.fingerprint != metric.fingerprint
    shutil.copytree(path, weights / "copy")
    assert DepthAnything(weights=str(weights / "copy"), batch=1).fingerprint == metric.fingerprint, "wherever it lies"
    assert DepthAnything(weights=path, side=140).fingerprint != metric.fingerprint


def test_weights_that_are_not_what_is_needed_are_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from polyclock.experts.depth_anything import DepthAnything
    from polyclock.experts.dino import Dino

    path, clip = depth_network(weights / "depth"), shifting(1, (0, 0))
    for bad, message in (
        ("no/such/folder", "neither a folder that is here nor a hub's name"),
        (str(weights), "holds no config.json"),
    ):
        with pytest.raises(ValueError, match=message):
            _ = DepthAnything(weights=bad).fingerprint
    with pytest.raises(ValueError, match="unknown model_type .*'depth_anything'"):
        Dino(weights=path)(clip)
    torn = weights / "torn"
    shutil.copytree(path, torn)
    from safetensors.torch import load_file, save_file

    tensors = load_file(torn / "model.safetensors")
    del tensors["head.conv3.weight"]
    save_file(tensors, torn / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="does not hold all weights .* head.conv3.weight"):
        DepthAnything(weights=str(torn))(clip)
    (torn / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no .safetensors file"):
        DepthAnything(weights=str(torn))(clip)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="could not be fetched from the hub"):
        _ = DepthAnything(weights="nobody/nothing").fingerprint


def test_code_in_a_folder_is_not_even_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    from polyclock.experts.weights import network

    theirs = {"AutoConfig": "code.C", "AutoModelForObjectDetection": "code.M"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": theirs}))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match="custom code"):
        network("AutoModelForObjectDetection", tmp_path, (), "cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
def test_features_are_the_patch_tokens(weights: Path, kind: str) -> None:
    import transformers as tf

    from polyclock.experts.dino import Dino

    torch.manual_seed(0)
    model = getattr(tf, f"{kind}Model")(getattr(tf, f"{kind}Config")(**SMALL, image_size=28, patch_size=14)).eval()
    expert, clip = Dino(weights=saved(weights / kind, model), size=(42, 56)), shifting(3, (1, 0), (42, 56))
    found = expert(clip)
    assert found.shape == (3, 3, 4, 16) and found.dtype == np.float32
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.from_numpy(clip) / 255 - mean) / std).movedim(-1, 1)
    with torch.no_grad():
        tokens = model(pixel_values=x).last_hidden_state
    first = 1 + (4 if "Registers" in kind else 0)
    assert np.abs(found.reshape(3, 12, 16) - tokens[:, first:].numpy()).max() < 1e-5
    assert Dino(weights=expert.weights)(shifting(1, (0, 0), (45, 61))).shape == (1, 3, 4, 16)
    with torch.no_grad():
        inner = model(pixel_values=x, output_hidden_states=True).hidden_states[1][:, first:]
        for norm, wanted in ((False, inner), (True, model.layernorm(inner))):
            told = replace(expert, layer=1, norm=norm)(clip).reshape(3, 12, 16)
            assert np.abs(told - wanted.numpy()).max() < 1e-5 < np.abs(told - found.reshape(3, 12, 16)).max()
    with pytest.raises(ValueError, match=f"layer=9 of DINOv2 with {SMALL['num_hidden_layers']}; possible: 0 to"):
        replace(expert, layer=9)(clip)
    # What was made before these settings came keeps its name.
    assert "layer" not in settings(expert) and settings(replace(expert, layer=1))["layer"] == 1
    with pytest.raises(ValueError, match="multiples of its patch, 14"):
        Dino(weights=expert.weights, size=(40, 56))(clip)


def pose_network(folder: Path) -> str:
    import transformers as tf

    torch.manual_seed(0)
    backbone = tf.VitPoseBackboneConfig(**SMALL, image_size=[64, 48], patch_size=[16, 16], out_indices=[2])
    config = tf.VitPoseConfig(backbone_config=backbone, id2label={i: str(i) for i in range(17)})
    return saved(folder, tf.VitPoseForPoseEstimation(config), {"size": {"height": 64, "width": 48}})


def test_joints_are_those_of_the_published_processor(weights: Path) -> None:
    from transformers import VitPoseForPoseEstimation
    from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

    from polyclock.experts.vitpose import VitPose

    path, clip = pose_network(weights / "pose"), shifting(2, (3, 1), (60, 80))
    processor, network = VitPoseImageProcessorPil.from_pretrained(path), VitPoseForPoseEstimation.from_pretrained(path)
    boxes = [[[10.0, 5.0, 40.0, 50.0]]] * 2
    inputs = processor(list(clip), boxes=boxes, return_tensors="pt")
    with torch.no_grad():
        told = network.eval()(**inputs)
    # Peaks of a random network are flat, where the step to the parabola's top is arbitrary; sharp ones are compared.
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
    at = torch.rand(2, 17, 2) * torch.tensor([11.0, 15.0])
    near = (columns - at[..., 0, None, None]).square() + (rows - at[..., 1, None, None]).square()
    told.heatmaps = torch.exp(-near / 8)
    theirs = processor.post_process_pose_estimation(told, boxes=boxes)
    expert = VitPose(weights=path, least=0.0)
    seen: list[torch.Tensor] = []

    class Network:
        def __call__(self, pixel_values: torch.Tensor):
            seen.append(pixel_values)
            told_here = type("Told", (), {"heatmaps": told.heatmaps[len(seen) - 1 : len(seen)]})
            return told_here

    expert.__dict__["_network"] = Network()
    for t in range(2):
        ours = expert.joints(clip[t], np.array(boxes[t][0], np.float32))
        assert np.abs(ours[:, :2] - theirs[t][0]["keypoints"].numpy()).max() < 0.05, "px"
    # The same box of the picture; they leave the row black in which the picture ends.
    assert ((torch.cat(seen) - inputs["pixel_values"]).abs() < 0.02).float().mean() > 0.96


def test_figures_come_from_a_detector_and_keep_their_places(weights: Path) -> None:
    import transformers as tf

    from polyclock.experts.vitpose import VitPose, placed

    torch.manual_seed(0)
    detector = tf.YolosForObjectDetection(
        tf.YolosConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[64, 96],
            patch_size=16, num_detection_tokens=5, id2label={0: "N/A", 1: "person"},
        )
    )  # fmt: skip
    finder = saved(weights / "finder", detector, {"size": {"height": 64, "width": 96}})
    expert = VitPose(weights=pose_network(weights / "pose"), detector=finder, figures=2, found=0.0, least=-9.0)
    joints = expert(shifting(2, (3, 1), (60, 80)))
    assert joints.shape == (2, 34, 3) and (joints[..., 2] == 1).all()
    assert expert.note["joints"][17] == "nose 2" and ["left knee 2", "left ankle 2"][::-1] in expert.note["limbs"]
    none = VitPose(weights=expert.weights, detector=finder, found=1.1)
    assert (none(shifting(2, (3, 1), (60, 80))) == 0).all(), "nobody is found"
    before = np.array([[0, 0, 10, 10], [50, 0, 10, 10]], np.float32)
    assert [p for p, _ in placed(before[::-1] + 1, before)] == [1, 0]
    with pytest.raises(ValueError, match="figures=2; possible: 1, and more with a detector"):
        VitPose(weights=expert.weights, figures=2)


def test_masks_of_mask2former(weights: Path) -> None:
    import transformers as tf
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    from polyclock.experts.mask2former import Mask2Former

    torch.manual_seed(0)
    backbone = tf.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=6,
    )  # fmt: skip
    config.id2label = {0: "cup", 1: "table", 2: "hand"}
    path = saved(
        weights / "masks", tf.Mask2FormerForUniversalSegmentation(config), {"size": {"height": 64, "width": 64}}
    )
    clip = shifting(3, (2, 0))
    expert = Mask2Former(weights=path, threshold=0.0, overlap=0.0)
    found = expert(clip)
    assert found.shape == (3, 48, 64, 2) and found.dtype == np.int32
    assert expert.note["classes"] == {"1": "cup", "2": "table", "3": "hand"}
    assert (Mask2Former(weights=path, threshold=1.0)(clip) == 0).all(), "nothing is sure enough"
    semantic = Mask2Former(weights=path, task="semantic")
    assert set(np.unique(semantic(clip)[..., 1])) <= {1, 2, 3} and (semantic(clip)[..., 0] == 0).all()
    # Against the published way from logits to segments, on masks that are clear.
    logits = torch.full((1, 6, 4), -9.0)
    logits[0, [0, 1, 2], [2, 0, 3]] = 9.0
    maps = torch.full((1, 6, 96, 96), -9.0)
    maps[0, 0, :48], maps[0, 1, 40:, 30:], maps[0, 2] = 9.0, 9.0, 9.0
    told = type("Told", (), {"class_queries_logits": logits, "masks_queries_logits": maps})
    processor = Mask2FormerImageProcessorPil()
    theirs = processor.post_process_panoptic_segmentation(told, label_ids_to_fuse=set(), target_sizes=[(96, 96)])[0]
    ours = Mask2Former(weights=path)._one(logits[0], maps[0], (96, 96))
    named = {s["id"]: s["label_id"] + 1 for s in theirs["segments_info"]}
    classes = torch.zeros(96, 96, dtype=torch.int32)
    for number, label in named.items():
        classes[theirs["segmentation"] == number] = label
    # Theirs gives away the pixels that no mask claims, too; ours, as the authors' code, leaves them out.
    claimed = (maps[0, :2] > 0).any(0)
    assert len(named) == 2 and (ours[..., 1] == classes)[claimed].float().mean() > 0.99
    assert (ours[~claimed] == 0).all()


def test_things_of_sam2_are_followed(weights: Path) -> None:
    import transformers as tf

    from polyclock.experts.sam2 import Sam2

    torch.manual_seed(0)
    hiera = tf.Sam2HieraDetConfig(
        hidden_size=8, embed_dim_per_stage=[8, 16, 32, 64], blocks_per_stage=[1, 2, 1, 1],
        num_attention_heads_per_stage=[1] * 4, global_attention_blocks=[2], image_size=[64, 64],
        window_size_per_stage=[4, 4, 2, 2], window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = tf.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=128,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )  # fmt: skip
    config = tf.Sam2VideoConfig(
        vision_config=vision, prompt_encoder_config={"image_size": 64, "hidden_size": 128},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "iou_head_hidden_dim": 32, "num_attention_heads": 2},
        image_size=64, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1, memory_attention_feed_forward_hidden_size=128,
        memory_encoder_hidden_size=128, mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1, memory_attention_rope_feat_sizes=[4, 4],
    )  # fmt: skip
    path, clip = saved(weights / "sam2", tf.Sam2VideoModel(config)), shifting(4, (2, 0))
    expert = Sam2(weights=path, points=3, sure=-1e9, overlap=1.0, things=3)
    masks = expert.proposed(clip[0])
    found = expert(clip)
    assert masks.shape == (3, 48, 64) and found.shape == (4, 48, 64, 2) and found.dtype == np.int32
    assert (found[..., 1] == 0).all() and set(np.unique(found[..., 0])) <= {0, 1, 2, 3}
    # On the first frame the things are the masks that were proposed, up to the network's coarser grid.
    covered = masks.any(0).numpy()
    assert ((found[0, ..., 0] > 0) == covered).mean() > 0.85
    assert (Sam2(weights=path, sure=2.0)(clip) == 0).all(), "no mask is sure enough"
