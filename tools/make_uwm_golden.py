"""Run the authors' Unified World Models code and keep numbers only: what ours must agree with.

The code has no licence and is not part of this repository: give a checkout of it. Besides torch and diffusers the
Python needs transformers, `pip install einops` and `pip install --no-deps torchvision`. Stand-ins take the place of
what their code imports and does not use (timm, torchvision's compiled operators) or would download (weights).

    python tools/make_uwm_golden.py CHECKOUT tests/fixtures/uwm narrow three full narrow/double three/double

Every weight, picture and random draw comes from tests/uwm_weights.py by name. Draw k of case NAME is
`draw("SIZES/NAME", k, ...)`; each file's metadata lists, for every case, the draws in the order in which their code
makes them. "narrow" and "three" take seconds with a narrow autoencoder of the same structure as SDXL's; "full" has
SDXL's own size with random weights and takes a minute of one core.

"SIZES/double" is the same code in float64, to tell what differs from what is rounded. It forces float32 in two places:
where it makes pictures of uint8, so pictures and latents are given to it as they are; and in its scheduler, whose table
stays the same float32 numbers and is widened, so that what is worked out of them is not rounded to float32 again.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from recorded_draws import Draws  # noqa: E402

import uwm_weights as numbers  # noqa: E402

JITTER = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": [-0.2, 0.2]}
GRADIENTS = 8  # numbers kept of each parameter's gradient


# ---------------------------------------------------------------- their code, without what it downloads


def import_theirs(checkout: Path) -> tuple[Any, Any]:
    """Their model class and their observation encoder. Changes modules of this process for good."""
    nms = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", nms)
    import diffusers  # before the stand-ins: it asks which packages are there
    import torchvision

    assert diffusers.AutoencoderKL and diffusers.DDIMScheduler
    sys.modules["timm"] = types.ModuleType("timm")
    plain = torchvision.models.resnet18
    torchvision.models.resnet18 = lambda weights=None, **more: plain(weights=None, **more)
    sys.path.insert(0, str(checkout))
    from models.common import language
    from models.uwm import UnifiedWorldModel, UWMObservationEncoder

    language.CLIPModel = SilentText
    return UnifiedWorldModel, UWMObservationEncoder


class SilentText(nn.Module):
    """In place of the frozen text model: its features are given, not computed."""

    @classmethod
    def from_pretrained(cls, name: str) -> SilentText:
        return cls()

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return input_ids


def autoencoder(cls: Any, sizes: numbers.Sizes) -> nn.Module:
    """An AutoencoderKL as SDXL configures it, of these block widths."""
    levels = len(sizes.vae)
    return cls(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=sizes.vae,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=1024,
        scaling_factor=0.13025,
    )


def build(sizes: numbers.Sizes, theirs: tuple[Any, Any]) -> nn.Module:
    """Their model with our weights. Errors: names or shapes that `numbers.shapes` does not say."""
    import diffusers

    make = classmethod(lambda cls, name: autoencoder(cls, sizes))
    diffusers.AutoencoderKL.from_pretrained = make
    model_class, encoder_class = theirs
    seen: dict[str, Any] = {v: {"shape": [*sizes.raw, 3], "type": "rgb"} for v in sizes.views}
    seen |= {n: {"shape": [width], "type": "low_dim"} for n, width in sizes.low_dim.items()}
    encoder = encoder_class(
        shape_meta={"obs": seen, "action": {"shape": [sizes.action]}},
        num_frames=sizes.frames,
        embed_dim=sizes.embed,
        resize_shape=list(sizes.resize),
        crop_shape=list(sizes.crop),
        random_crop=True,
        color_jitter=JITTER,
        imagenet_norm=False,
        vision_backbone="resnet",
        use_low_dim=bool(sizes.low_dim),
        use_language=sizes.language,
    )
    # Their constructor encodes a picture only to see how large its latent is.
    encoder.latent_img_shape = lambda: sizes.latent
    model = model_class(
        action_len=sizes.horizon,
        action_dim=sizes.action,
        obs_encoder=encoder,
        embed_dim=sizes.embed,
        timestep_embed_dim=sizes.time,
        latent_patch_shape=list(sizes.patch),
        depth=sizes.depth,
        num_heads=sizes.heads,
        num_registers=sizes.registers,
    )
    theirs_named = {n: tuple(v.shape) for n, v in model.state_dict().items()}
    ours_named = numbers.shapes(sizes)
    if theirs_named != ours_named:
        odd = sorted(set(theirs_named.items()) ^ set(ours_named.items()))
        raise ValueError(f"names or shapes differ: {odd[:6]}")
    for name, value in model.state_dict().items():
        value.copy_(numbers.weight(name, tuple(value.shape)))
    return model


# ---------------------------------------------------------------- what is kept


class Record:
    """Numbers by name, and the order of the draws by case."""

    def __init__(self, sizes_name: str, double: bool = False) -> None:
        self.name, self.sizes, self.double = sizes_name, numbers.GOLDEN[sizes_name], double
        self.tensors: dict[str, Tensor] = {}
        self.orders: dict[str, list] = {}

    def keep(self, name: str, value: Tensor, most: int = 2048) -> None:
        """A tensor, whole where it is small, else a sketch of it; one of float64 is called small sooner."""
        value = value.detach()
        if value.numel() <= (most // 4 if self.double else most):
            self.tensors[name] = value.contiguous().clone()
            return
        self.tensors[f"{name}.sketch"] = numbers.sketch(value)
        if self.double:
            self.tensors[f"{name}.projection"] = numbers.projection(name, value)

    def drawing(self, case: str) -> Draws:
        mode = Draws(f"{self.name}/{case}")
        self.orders[case] = mode.order
        return mode


# ---------------------------------------------------------------- what is asked


def seen(record: Record, when: str) -> dict[str, Tensor]:
    out = numbers.observation(record.name, record.sizes, when)
    if record.sizes.language:
        text = numbers.sentence(record.name, record.sizes)
        out |= {"input_ids": text, "attention_mask": torch.ones(len(text), 1)}
    return {n: as_wide(v) if v.is_floating_point() else v for n, v in out.items()}


def as_wide(value: Tensor) -> Tensor:
    """Numbers in the precision of the run."""
    return value.to(torch.get_default_dtype())


def asked_to_do(record: Record) -> Tensor:
    """(B, horizon, A) actions in the precision of the run."""
    return as_wide(numbers.actions(record.name, record.sizes))


@contextmanager
def widened(model: nn.Module, record: Record) -> Iterator[None]:
    """The model in float64 and torch with it: what is made of uint8 is given as it is, and the table is widened."""
    encoder, scheduler = model.double().obs_encoder, model.noise_scheduler
    shown = numbers.looked(record.name, record.sizes)
    pictures = torch.stack([shown[v] for v in record.sizes.views], 1).double().movedim(-1, 2)  # (B, V, 3, T, H, W)
    latents = numbers.future(record.name, record.sizes).double()
    encoder.apply_transform = lambda seen: (
        [pictures.clone() for _ in seen] if isinstance(seen, list) else pictures.clone()
    )
    encoder.apply_vae = lambda _: latents.clone()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def encoders(model: nn.Module, record: Record) -> None:
    """Transforms, features, latents and decoded pictures, in evaluation and in training."""
    now, later = seen(record, "now"), seen(record, "later")
    with torch.no_grad():
        model.eval()
        with record.drawing("encode"):
            features, latents = model.obs_encoder.encode_curr_and_next_obs(now, later)
        record.keep("encode.features", features, 1 << 20)
        if record.double:
            return
        record.keep("encode.latents", latents, 1 << 20)
        if record.name == "full":
            return
        record.keep("encode.images", model.obs_encoder.apply_transform(now))
        record.keep("decode.images", model.obs_encoder.apply_vae(latents, inverse=True))
        model.train()
        with record.drawing("transform"):
            for when, images in zip(("now", "later"), model.obs_encoder.apply_transform([now, later]), strict=True):
                record.keep(f"transform.{when}", images, 0)
        with record.drawing("encode_train"):
            features, latents = model.obs_encoder.encode_curr_and_next_obs(now, later)
        record.keep("encode_train.features", features)
        record.keep("encode_train.latents", latents)
        model.eval()


def network(model: nn.Module, record: Record) -> None:
    """The network alone, at several places of the table; the last time with other times for each sample."""
    sizes, features = record.sizes, record.tensors["encode.features"]
    action = as_wide(numbers.noise(f"{record.name}/network/action", (sizes.batch, sizes.horizon, sizes.action)))
    video = as_wide(numbers.noise(f"{record.name}/network/video", (sizes.batch, *sizes.latent)))
    places = numbers.PLACES if record.name != "full" else numbers.PLACES[2:5]
    with torch.no_grad():
        for a, o in places:
            out = model.noise_pred_net(features, action, torch.tensor(a), video, torch.tensor(o))
            record.keep(f"network.{a}.{o}.action", out[0])
            record.keep(f"network.{a}.{o}.video", out[1])
        if sizes.batch > 1:
            each = [torch.arange(sizes.batch) * 31 + 3, 97 - torch.arange(sizes.batch) * 45]
            out = model.noise_pred_net(features, action, each[0], video, each[1])
            record.keep("network.each.action", out[0])
            record.keep("network.each.video", out[1])


@contextmanager
def listening(encoder: nn.Module, record: Record, case: str) -> Iterator[None]:
    """Keeps what the encoder gives to a loss or a sampler, so that the rest can be checked without it."""
    plain = encoder.encode_curr_and_next_obs

    def heard(now: dict, later: dict) -> tuple[Tensor, Tensor]:
        features, latents = plain(now, later)
        if case.startswith("loss"):
            record.keep(f"{case}.features", features, 1 << 20)
        if record.name != "full" and not record.double:  # there they are those of "encode", here they were given
            record.keep(f"{case}.latents", latents, 1 << 20)
        return features, latents

    encoder.encode_curr_and_next_obs = heard
    yield
    del encoder.encode_curr_and_next_obs


def losses(model: nn.Module, record: Record) -> None:
    """The loss with and without absent actions, and every parameter's gradient."""
    now, later = seen(record, "now"), seen(record, "later")
    action = asked_to_do(record)
    model.train(record.name != "full")
    for case, mask in (("loss", None), ("loss_absent", numbers.present(record.sizes))):
        if record.name == "full" and mask is not None:
            continue
        model.zero_grad(set_to_none=True)
        with record.drawing(case), listening(model.obs_encoder, record, case):
            total, parts = model(now, later, action.clone(), mask)
        total.backward()
        record.tensors[f"{case}.parts"] = torch.tensor(
            [parts["loss"], parts["action_loss"], parts["dynamics_loss"]], dtype=torch.float64
        )
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        assert all(g is not None and bool(g.any()) for g in gradients.values()), "a parameter without a gradient"
        record.tensors[f"{case}.norms"] = torch.stack([g.double().norm() for g in gradients.values()])
        kept = torch.stack([numbers.sketch(g, GRADIENTS)[2:] for g in gradients.values()])
        record.tensors[f"{case}.gradients"] = kept
        if record.double:
            every = [numbers.projection(n, g) for n, g in gradients.items()]
            record.tensors[f"{case}.projections"] = torch.stack(every)
        record.parameters = list(gradients)
    model.zero_grad(set_to_none=True)
    model.eval()


def samplers(model: nn.Module, record: Record) -> None:
    """All five, in evaluation: pictures are cropped in their centre and nothing is jittered."""
    now, later = seen(record, "now"), seen(record, "later")
    action = asked_to_do(record)
    asked = {
        "marginal_action": lambda: {"action": model.sample_marginal_action(now)},
        "marginal_video": lambda: {"video": model.sample_marginal_next_obs(now)},
        "forward": lambda: {"video": model.sample_forward_dynamics(now, action)},
        "inverse": lambda: {"action": model.sample_inverse_dynamics(now, later)},
        "joint": lambda: dict(zip(("video", "action"), model.sample_joint(now), strict=True)),
    }
    for case, ask in asked.items():
        start = time.process_time()
        with record.drawing(case), listening(model.obs_encoder, record, case):
            answer = ask()
        for name, value in answer.items():
            record.keep(f"{case}.{name}", value)
        print(f"  {case}: {time.process_time() - start:.1f} s of CPU", flush=True)


def seeded(model: nn.Module, record: Record) -> None:
    """With torch's own generator instead of ours: the loss in training, and the policy."""
    now, later = seen(record, "now"), seen(record, "later")
    action = asked_to_do(record)
    model.train()
    torch.manual_seed(7)
    with torch.no_grad():
        parts = model(now, later, action.clone(), None)[1]
    record.tensors["seeded.parts"] = torch.tensor(
        [parts["loss"], parts["action_loss"], parts["dynamics_loss"]], dtype=torch.float64
    )
    model.eval()
    torch.manual_seed(7)
    record.keep("seeded.marginal_action", model.sample_marginal_action(now))


def run(name: str, theirs: tuple[Any, Any], out: Path) -> None:
    """One file of numbers."""
    start = time.process_time()
    record = Record(name)
    model = build(record.sizes, theirs)
    print(f"{name}: built, {time.process_time() - start:.1f} s of CPU", flush=True)
    encoders(model, record)
    print(f"{name}: encoded, {time.process_time() - start:.1f} s of CPU", flush=True)
    if name == "full":
        # Four pictures through SDXL's encoder take longer than all else. The same four come again, so they are kept:
        # the draws of "loss" and "inverse" then lack the posterior's.
        latents = record.tensors["encode.latents"]
        model.obs_encoder.apply_vae = lambda pictures: latents
    network(model, record)
    losses(model, record)
    print(f"{name}: learnt, {time.process_time() - start:.1f} s of CPU", flush=True)
    samplers(model, record)
    if name != "full":
        seeded(model, record)
    model.noise_scheduler.set_timesteps(model.num_inference_steps)
    record.tensors["rows"] = model.noise_scheduler.timesteps.clone()
    record.tensors["alpha_bar"] = model.noise_scheduler.alphas_cumprod.clone()
    write(record, out, start)


def run_double(name: str, theirs: tuple[Any, Any], out: Path) -> None:
    """One file of float64 numbers: features, network, losses, gradients, samplers."""
    start = time.process_time()
    record = Record(name, double=True)
    model = build(record.sizes, theirs)
    with widened(model, record):
        for part in (encoders, network, losses, samplers):
            part(model, record)
    write(record, out, start)


def write(record: Record, out: Path, start: float) -> None:
    """The file of what was kept."""
    notes = {
        "draws": record.orders,
        "parameters": record.parameters,
        "names": len(numbers.shapes(record.sizes)),
        "fingerprint": numbers.fingerprint(numbers.shapes(record.sizes)),
        "torch": torch.__version__,
    }
    file = out / f"{record.name}{'_double' if record.double else ''}.safetensors"
    safetensors.torch.save_file(
        record.tensors, file, metadata={n: json.dumps(v, separators=(",", ":")) for n, v in notes.items()}
    )
    print(f"{file}: {file.stat().st_size / 1024:.0f} KB, {time.process_time() - start:.1f} s of CPU", flush=True)


def main(arguments: list[str]) -> int:
    if len(arguments) < 3 or any(a.removesuffix("/double") not in numbers.GOLDEN for a in arguments[2:]):
        print(__doc__)
        print(f"sizes: {', '.join(numbers.GOLDEN)}, and each of them with /double")
        return 2
    torch.set_num_threads(1)
    out = Path(arguments[1])
    out.mkdir(parents=True, exist_ok=True)
    theirs = import_theirs(Path(arguments[0]).resolve())
    for name in arguments[2:]:
        (run_double if name.endswith("/double") else run)(name.removesuffix("/double"), theirs, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
