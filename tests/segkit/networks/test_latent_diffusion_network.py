"""Segmentation by denoising label latents: shapes, what may and what may not reach what, folders."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
import torch

from segkit.errors import ModelError
from segkit.networks.folder import MEAN, STD, NetworkSpec, create_network
from segkit.networks.latent_diffusion import LatentDiffusionNetwork

ARGUMENTS = {
    "_model_class": "FPN",
    "encoder_name": "resnet18",
    "encoder_weights": None,
    "in_channels": 3,
    "classes": 4,
}
UNET = {
    "sample_size": 8,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 16,
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.18215,
}
FINER_VAE = {
    **VAE,
    "block_out_channels": [8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}
XL_UNET = {
    **UNET,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
}


def network(**settings: Any) -> LatentDiffusionNetwork:
    torch.manual_seed(0)
    made = create_network(NetworkSpec(ARGUMENTS, "latent_diffusion", {"bits": 3, "width": 16, **settings}))
    assert isinstance(made, LatentDiffusionNetwork)
    return made.eval()


@pytest.fixture(params=["light", "unet"])
def made(request: pytest.FixtureRequest) -> LatentDiffusionNetwork:
    return network() if request.param == "light" else network(form="unet", unet=UNET, vae=VAE)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    return (pixels.float() - mean) / std


@torch.inference_mode()
def test_it_gives_log_probabilities_of_each_pixel(made: LatentDiffusionNetwork) -> None:
    made_of = made(normalised(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)))
    assert made_of.shape == (2, 4, 64, 96)
    assert torch.allclose(made_of.exp().sum(dim=1), torch.ones(2, 64, 96), atol=1e-4)


@torch.inference_mode()
def test_an_answer_does_not_depend_on_the_batch(made: LatentDiffusionNetwork) -> None:
    images = normalised(torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8))
    whole = made(images)
    assert torch.allclose(made(images[1:2]), whole[1:2], atol=1e-4)
    assert torch.equal(made(images), whole)


@torch.inference_mode()
def test_normalised_pixels_are_known_again_exactly() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(network()._pixels(normalised(pixels)), pixels)


@torch.inference_mode()
def test_more_samples_are_their_mean() -> None:
    one, many = network(), network(samples=3)
    images = normalised(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    samples = torch.stack(list(one.samples(images, 3)))
    assert samples.shape == (3, 1, 4, 64, 64)
    assert not torch.equal(samples[0], samples[1])
    assert torch.allclose(many(images).exp(), samples.mean(dim=0), atol=1e-5)


@torch.inference_mode()
def test_the_connection_begins_at_nothing_and_leads_into_the_label_decoder_alone() -> None:
    joined, apart = network(), network(intercoder=False)
    apart.load_state_dict({k: v for k, v in joined.state_dict().items() if "connections" not in k})
    images = normalised(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    assert torch.equal(joined(images), apart(images))
    context = joined.context(images)
    z, t = torch.randn(1, 3, 16, 16), torch.tensor([0.5])
    before = joined.denoise(z, context, t)
    for connection in joined.label_decoder.connections:
        torch.nn.init.normal_(connection.weight)
    assert not torch.equal(joined(images), apart(images))
    assert all(torch.equal(a, b) for a, b in zip(joined.denoise(z, context, t), before, strict=True))


@torch.inference_mode()
@pytest.mark.parametrize("place", [0, 1])
def test_fine_and_coarse_maps_each_have_a_way_into_the_label_decoder(place: int) -> None:
    one = network()
    images = normalised(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    before = one(images)
    torch.nn.init.normal_(one.label_decoder.connections[place].weight)
    assert not torch.equal(one(images), before)


@torch.inference_mode()
def test_the_label_decoder_sees_codes_of_one_size_whatever_the_scale() -> None:
    small, large = network(scale=0.1), network(scale=0.5)
    images = normalised(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    codes, context = torch.randn(1, 3, 16, 16), small.context(images)
    assert torch.allclose(small.decode(0.1 * codes, context), large.decode(0.5 * codes, context), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("settings", [{}, {"form": "unet", "unet": UNET, "vae": VAE}])
def test_the_denoiser_gives_bits_of_one_size_whatever_the_scale(settings: dict[str, Any]) -> None:
    small, large = network(scale=0.01, **settings), network(scale=1.0, **settings)
    images = normalised(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    context, t = small.context(images), torch.tensor([0.5])
    z = torch.randn(1, 3, 64 // small.stride, 64 // small.stride)
    assert torch.allclose(small.denoise(z, context, t)[0], 0.01 * large.denoise(z, context, t)[0], atol=1e-6)


def test_middle_features_are_those_after_half_of_the_blocks() -> None:
    one = network()
    images = normalised(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    one.denoise(torch.randn(1, 3, 16, 16), one.context(images), torch.tensor([0.5]))[1].sum().backward()
    learns = [block.first.weight.grad is not None for block in one.denoiser.blocks]
    assert learns == [True, True, False, False]


def test_the_middle_features_do_not_see_the_label_decoder(made: LatentDiffusionNetwork) -> None:
    images = normalised(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    side = 64 // made.stride
    _, middle = made.denoise(torch.randn(1, 3, side, side), made.context(images), torch.tensor([0.5]))
    assert middle.shape[1] == made.mid_width
    middle.sum().backward()
    assert all(parameter.grad is None for parameter in made.label_decoder.parameters())
    assert any(parameter.grad is not None for parameter in made.denoiser.parameters())


@torch.inference_mode()
@pytest.mark.parametrize("side", [32, 96])
def test_the_middle_features_have_the_side_that_is_told(made: LatentDiffusionNetwork, side: int) -> None:
    images = normalised(torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8))
    z = torch.randn(1, 3, side // made.stride, side // made.stride)
    _, middle = made.denoise(z, made.context(images), torch.tensor([0.5]))
    assert middle.shape[-2:] == (made.mid_side(side), made.mid_side(side))


def test_latents_are_the_scaled_code_of_the_label_in_the_middle_of_each_cell() -> None:
    one = network(scale=0.5)
    channels = torch.full((1, 32, 32), 255)
    channels[0, 2::4, 2::4] = 1  # number 2: bits 0, 1, 0
    assert one.latents_of(channels)[0, :, 3, 5].tolist() == [-0.5, 0.5, -0.5]


def test_the_autoencoder_never_learns() -> None:
    one = network(form="unet", unet=UNET, vae=VAE)
    trainable = {name for name, parameter in one.named_parameters() if parameter.requires_grad}
    assert not any(".vae." in name for name in trainable) and any(".unet." in name for name in trainable)
    held = {name for name, _ in one.named_parameters() for pattern in one.frozen if fnmatch.fnmatchcase(name, pattern)}
    assert held == {name for name, parameter in one.named_parameters() if not parameter.requires_grad}
    assert network().frozen == ()


def test_weights_of_a_trained_unet_are_taken_where_they_fit() -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(1)
    unet, vae = UNet2DConditionModel(**UNET, in_channels=4, out_channels=4), AutoencoderKL(**VAE)
    one = network(form="unet", unet=UNET, vae=VAE, bits=5, scale=0.2)
    one.denoiser.load(unet, vae)
    first = one.denoiser.unet.conv_in.weight
    assert torch.equal(first[:, 5:], unet.conv_in.weight) and torch.equal(first[:, :4], unet.conv_in.weight)
    assert not first[:, 4].any() and not one.denoiser.unet.conv_out.weight[4].any()
    assert torch.equal(one.denoiser.unet.mid_block.resnets[0].conv1.weight, unet.mid_block.resnets[0].conv1.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 2}, "bits 2: tell 3 classes"),
        ({"bits": 9}, "bits 9: must be 1 to 8"),
        ({"code": ["gray"]}, "code .*gray.*: not known; there are: binary, simplex"),
        ({"form": "dit"}, "form 'dit': not known; there are: light, unet"),
        ({"scale": 0}, "scale 0: must be above 0"),
        ({"depth": 3}, "setting 'depth' is not known"),
        ({"form": "unet"}, "needs the configurations"),
        ({"form": "unet", "unet": {"block_out_channels": 3}, "vae": VAE}, "cannot be built"),
        ({"form": "unet", "unet": UNET, "vae": FINER_VAE}, "vae: gives latents at a resolution of 1 / 4, must"),
        ({"form": "unet", "unet": XL_UNET, "vae": VAE}, "addition_embed_type 'text_time': reads more than text"),
        ({"form": "unet", "unet": {**UNET, "mid_block_type": None}, "vae": VAE}, "unet: has no middle block"),
    ],
)
def test_what_cannot_be_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        network(**settings)
    assert "\n" not in str(caught.value)


def test_an_encoder_without_the_maps_is_named() -> None:
    with pytest.raises(ModelError, match="has no maps at strides 2, 4, 8 and 16"):
        create_network(
            NetworkSpec({**ARGUMENTS, "encoder_name": "mit_b0"}, "latent_diffusion", {"bits": 3, "width": 16})
        )
