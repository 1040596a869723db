"""Settings of `segtrain iccld`.

The paper's public material is its abstract: form and numbers are ours, after related systems. Tags in descriptions:
[abstract] ICCLD's, [DDP], [LDMSeg], [AdaptSegNet], [DACS] read in that system's code, [ours] chosen here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from segtrain.config import MASK_ARCH, Settings
from segtrain.self_training.config import SelfTrainingConfig

Share = Annotated[float, Field(ge=0, le=1)]


class DiffusionSettings(Settings):
    """How labels are denoised."""

    panel: ClassVar[str] = "Latent diffusion"

    diffusion: bool = Field(
        True, description="denoise label latents [abstract]; off = --arch with cross-entropy, the plain rival"
    )
    form: Literal["light", "unet"] = Field(
        "light",
        description="denoiser: four residual blocks at a quarter of the resolution [DDP], or the UNet of a latent "
        "diffusion model at an eighth [LDMSeg]",
    )
    unet: Path | None = Field(
        None, description="folder of a diffusers model with unet/ and vae/, whose weights form `unet` begins with"
    )
    bits: int = Field(0, ge=0, le=8, description="of a label's code; 0 = as few as the classes need [ours; LDMSeg: 7]")
    label_code: Literal["binary", "simplex"] = Field(
        "simplex",
        description="those bits [LDMSeg], or the parities of all choices of them, in which classes are equally far "
        "apart and a mean of codes says how likely each is [ours; measured, docs/LOG.md]",
    )
    latent_scale: float = Field(0.1, gt=0, le=10, description="of the bits beside noise of 1 [DDP: 0.1; configs 0.01]")
    width: int = Field(64, ge=8, le=1024, description="channels of the context and of the light denoiser [ours]")
    sampling_steps: int = Field(3, ge=1, le=1000, description="DDIM steps of an answer [DDP: 3]")
    samples: int = Field(1, ge=1, le=100, description="samples whose mean is an answer [ours]")
    intercoder: bool = Field(
        True, description="connect the image's encoder with the label's decoder [abstract], from zero on [ours]"
    )
    latent_weight: float = Field(1.0, ge=0, le=1e3, description="of the error of the predicted bits [ours]")
    segmentation_weight: float = Field(1.0, ge=0, le=1e3, description="of the cross-entropy of what they decode to")
    snr_clamp: float = Field(2.0, gt=0, le=1e3, description="errors count min(SNR, this) / this [LDMSeg: 2]")
    low_t: Literal["weight", "bound", "none"] = Field(
        "bound",
        description="near t = 0 the label stands in the denoiser's input: the cross-entropy counts 1 - alpha^2 there, "
        "nothing below --low-t-bound, or as everywhere [ours; measured, docs/LOG.md]",
    )
    low_t_bound: Share = Field(
        0.3, description="t below which `bound` counts nothing [ours: an answer of three steps is read at 1/3]"
    )


class AdversarySettings(Settings):
    """How the domains' features are made alike."""

    panel: ClassVar[str] = "Adversary"

    adversary: bool = Field(
        True, description="align the denoiser's middle features of source, mixed and target pictures [abstract]"
    )
    adversary_weight: float = Field(0.001, ge=0, le=10, description="of the denoiser's part [AdaptSegNet: 0.001]")
    adversary_start: Share = Field(0.3, description="share of the steps before it begins [ours]")
    adversary_mixed: bool = Field(True, description="mixed pictures count as source [abstract: they are aligned too]")
    discriminator_learning_rate: float = Field(1e-4, gt=0, le=1, description="of its Adam [AdaptSegNet: 1e-4]")
    discriminator_width: int = Field(64, ge=1, le=1024, description="channels of its first layer [AdaptSegNet: 64]")
    discriminator_layers: int = Field(
        3, ge=1, le=6, description="its halvings; each doubles the channels [AdaptSegNet: 5, of larger maps]"
    )


class Config(AdversarySettings, DiffusionSettings, SelfTrainingConfig):
    """Adapt a segmenter to pictures without labels: it denoises label latents under an image's features, its middle
    features are aligned over the domains, and a teacher labels the target (ICCLD-style; DACS).

    segtrain iccld --source my_labelled --target my_photos --out model
    """

    self_training: bool = Field(
        True, description="learn from a teacher's labels of target pictures, mixed with source ones [DACS]"
    )
    class_mix: Share = Field(
        1.0,
        description="probability that half of the classes of a labelled crop are pasted into the student's [ClassMix, "
        "DACS: 1]",
    )
    confidence: Literal["none", "threshold", "share"] = Field(
        "share",
        description="weight of a pseudo-label: 1, 1 only if the teacher's probability is at least --threshold "
        "[UniMatch], or for all pixels of a crop the share of those that are [DACS]",
    )

    def weight_settings(self) -> dict[str, Any]:
        """Without the place of the trained UNet: what it is counts."""
        return {key: value for key, value in super().weight_settings().items() if key != "unet"}

    @property
    def begins_with_unet(self) -> bool:
        """Whether the denoiser is to be that of the folder `unet`."""
        return self.diffusion and self.form == "unet" and self.base is None

    @property
    def first_aligned_step(self) -> int:
        """Where the adversary begins; `steps` if there is none."""
        if not self.adversary:
            return self.steps
        return max(self.first_joint_step, round(self.adversary_start * self.steps))

    @property
    def labelled_alone_steps(self) -> int:
        return super().labelled_alone_steps if self.self_training else self.first_aligned_step

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        if self.adversary and not self.diffusion:
            raise ValueError("adversary: it aligns features of the denoiser, which --no-diffusion leaves out")
        if self.diffusion and self.arch == MASK_ARCH:
            raise ValueError(
                f"arch {MASK_ARCH}: latent diffusion takes the encoder of an architecture of smp: name one"
            )
        if self.begins_with_unet and self.unet is None:
            raise ValueError("form unet: begins with a trained model: name its folder with --unet")
        return self
