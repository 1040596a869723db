"""The sections of a recipe: every setting of a run, with its range, its default and where the number comes from.

Tags in descriptions: [paper] read in the paper, [code] in the authors' code, [seed] in the project's founding notes,
[guess] and [ours] ours.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from synthgen.plugins import modules

Cosine = Annotated[float, Field(ge=-1, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
AUTO = "auto"
"""A threshold of this value is chosen from the support set (synthgen/refine/calibration.py); lambda_div by paraphrases
(synthgen/prompts/paraphrases.py)."""


def _number_or_auto(least: float, most: float) -> BeforeValidator:
    """One line for both kinds of value: a union would tell of each kind by itself, under a key of its own."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value == AUTO:
            return value
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not least <= number <= most:
            raise PydanticCustomError("threshold", f"Input should be a number from {least} to {most}, or {AUTO}")
        return number

    return BeforeValidator(check)


AutoCosine = Annotated[float | Literal["auto"], _number_or_auto(-1, 1)]
AutoMargin = Annotated[float | Literal["auto"], _number_or_auto(0, 2)]


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Backend(BaseModel):
    """`{name: ..., **options}`: the name is a file (or a module with dots), the options are that file's own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(description="file name of the backend, or a module path with dots")


class Labels(Section):
    """Which classes there are and which of them are wanted."""

    space: str = Field(description="a shipped label space (folder of prompts/), or a path to its YAML")
    classes: tuple[str, ...] = Field(
        (), description="classes to make samples for; empty = every class but the background"
    )


class DrawnSupport(Section):
    """Draws the support images instead of reading them: the embedded default, for trying things out."""

    world: Literal["objects", "streets"] = "objects"
    seed: int = Field(7, ge=0)
    size_px: int = Field(64, ge=32, le=1024)


class Support(Section):
    """The few labelled images. Either a folder or drawn ones."""

    folder: str = Field(
        "", description="folder with images/ and labels/ (PNG of class ids, same stem), or of `source`; empty = drawn"
    )
    source: str = Field(
        "folder", description="what the folder holds: folder, or a public dataset of `synthgen sources`"
    )
    split: str = Field("", description="split of a public dataset; empty = its first")
    limit: int = Field(
        0,
        ge=0,
        description="look for shots in this many of its images, chosen by the run seed; 0 = all (slow with 25,000)",
    )
    shots: int = Field(5, ge=1, description="labelled images per class")
    drawn: DrawnSupport | None = Field(None, description="draw the support set from the built-in world")


class Prompts(Section):
    """HDIG, the diverse prompt bank (Syn4Seg)."""

    source: Backend = Field(
        Backend(name="grammar"), description="where candidates come from: a file of prompts/sources"
    )
    embedder: Backend = Field(
        Backend(name="sd3"),
        description="text encoder whose pooled output is compared; null = the renderer's own, of its model, which then "
        "encodes each prompt once for both [guess]",
    )
    lambda_div: AutoCosine = Field(
        0.85,
        description="accept a candidate iff its max cosine to the accepted ones is below this; auto = where the "
        "embedder tells a grammar's paraphrases from its other sentences [guess; auto: ours]",
    )
    per_class: int = Field(100, ge=1, description="N_t, accepted prompts per class [guess: 100]")
    quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {}, description="N_t of single classes in place of per_class; 0 = none of it [ours: synthgen improve]"
    )
    apart_from: str = Field(
        "",
        description="file of sentences, CLASS<TAB>SENTENCE a line: the bank of a class keeps away from its own as if "
        "they had been proposed first; empty = none [ours: synthgen improve]",
    )
    budget_per_class: int = Field(2000, ge=1, description="candidates to try per class before giving up [guess]")
    class_gate: bool = Field(True, description="refuse a prompt that names neither the class nor a synonym [guess]")
    min_class_similarity: Cosine = Field(
        -1.0, description="refuse a prompt whose cosine to `a photo of a <class>` is below this; -1 = off [guess]"
    )
    dedup: Literal["exact", "indexed"] = Field(
        "exact", description="compare with all accepted prompts, or beyond 4096 of them by an index [ours]"
    )

    def quota(self, class_name: str) -> int:
        """N_t of a class."""
        return self.quotas.get(class_name, self.per_class)


class ObjectBank(Section):
    """Where pasted objects come from (CG-Aug): instances of a labelled source, or connected parts of its classes."""

    folder: str = Field(description="labelled folder with images/, labels/ and labels.yaml, or of `source`")
    source: str = Field("folder", description="what it holds: folder, or a public dataset of `synthgen sources`")
    split: str = Field("", description="split of a public dataset; empty = its first")
    space: str = Field(
        "", description="label space of its masks; empty = that of the source, of a folder its labels.yaml"
    )
    classes: tuple[str, ...] = Field(
        (), description="take these only; empty = all that the renderer knows and labels.classes does not name"
    )
    min_px: int = Field(16, ge=1, description="smaller instances are passed over [ours]")


class SamAgreement(Section):
    """CG-Aug's first gate: SAM (refine.mask_decoder) must find the pasted object in its box; its mask replaces it."""

    enabled: bool = False
    min_iou: Fraction = Field(0.7, description="keep an image whose SAM mask has more IoU with the pasted one [code]")
    replaces: bool = Field(True, description="SAM's mask becomes the label instead of the pasted one [code]")


class KnownClass(Section):
    """CG-Aug's second gate: a segmenter must not be sure that the object is of a known class."""

    segmenter: Backend | None = Field(
        None,
        description="a file of models/proposers that gives probabilities: {name: segmenter, model: ..., space: ...}; "
        "null = the gate is off",
    )
    max_probability: Fraction = Field(
        0.91, description="mean over the object of the likeliest known class, at most [code: an energy of -3.02]"
    )


class Gates(Section):
    """What an image with a pasted object must pass, in this order."""

    sam_agreement: SamAgreement = SamAgreement()
    known_class: KnownClass = KnownClass()


class Render(Section):
    """Prompts to images."""

    renderer: Backend = Field(Backend(name="sd3"), description="a file of models/renderers")
    height_px: int = Field(1024, ge=16, le=4096)
    width_px: int = Field(1024, ge=16, le=4096)
    images_per_prompt: int = Field(1, ge=1, description="[guess: 1-4]")
    negative: str = Field("", description="negative prompt, the same for all")
    compose: Backend = Field(Backend(name="as_is"), description="a file of render/compose")
    object_bank: ObjectBank | None = Field(None, description="objects for the composer cut_and_paste")
    gates: Gates = Gates()
    attempts: int = Field(
        10, ge=1, le=1000, description="tries for an image with a pasted object [guess; without limit in the code]"
    )
    renew: Literal["object", "noise"] = Field(
        "object", description="what a further try draws anew: object, place and noise [code], or the noise alone"
    )


class Apf(Section):
    """Adaptive pseudo-label filtering: regions unlike the support prototype of their class are freed."""

    enabled: bool = Field(True, description="off for masks that are exact by themselves: label maps [ours]")
    lambda_apf: AutoCosine = Field(
        0.6, description="keep a region iff its cosine to the prototype is at least this; auto = by support [guess]"
    )
    min_region_px: int = Field(64, ge=1, description="smaller regions are freed [guess: 64 at 512 px]")


class Apr(Section):
    """Adaptive pseudo-label relabelling with image-adaptive prototypes."""

    enabled: bool = Field(True, description="off for masks that are exact by themselves: label maps [ours]")
    beta: Fraction = Field(
        0.5, description="weight of the support prototype against the image's own [guess; seed: moderate values best]"
    )
    min_cosine: AutoCosine = Field(
        0.6, description="relabel only where the best cosine reaches this; auto = by support [guess]"
    )
    min_margin: AutoMargin = Field(0.05, description="... and leads the second best by this; auto = by support [guess]")


class Sabr(Section):
    """SAM-assisted boundary refinement: writes in the boundary band and on unlabelled pixels only."""

    enabled: bool = True
    band_fraction: Fraction = Field(0.01, description="band radius as a share of the shorter side [guess]")
    min_band_px: int = Field(2, ge=1, description="band radius at the least [guess]")
    box_padding: Fraction = Field(0.05, description="box is padded by this share of its sides [guess]")
    min_region_px: int = Field(64, ge=1, description="smaller components get no box [guess]")
    min_agreement: Fraction = Field(0.5, description="skip a component if IoU(SAM, component) is below this [guess]")
    max_probability: Fraction = Field(1.0, description="SAM leaves what a proposer is so sure of; 1 = off [ours]")


class Refine(Section):
    """Coarse masks, APF, APR, SABR (Syn4Seg: APE and SABR)."""

    features: Backend = Field(Backend(name="open_clip"), description="a file of models/feature_extractors")
    whitening: float | None = Field(
        None,
        gt=0,
        le=1,
        description="shrinkage of a whitening within the support's classes; null = off. Thresholds of apf and apr that "
        "are not given are auto then [ours]",
    )
    proposer: Backend = Field(Backend(name="prototype"), description="a file of models/proposers")
    mask_decoder: Backend = Field(Backend(name="segment_anything"), description="a file of models/mask_decoders")
    background_prototypes: int = Field(
        1, ge=1, description="k-means prototypes for the background [guess: one mean; more is ours]"
    )
    rounds: int = Field(0, ge=0, le=10, description="a proposer that learns learns again from the run's masks [ours]")
    apf: Apf = Apf()
    apr: Apr = Apr()
    sabr: Sabr = Sabr()

    @model_validator(mode="after")
    def _open_what_whitening_moves(self) -> Self:
        """The defaults are cosines of features as they are: whitened they would free nearly everything."""
        if self.whitening is not None:
            apf = {"lambda_apf": AUTO} if "lambda_apf" not in self.apf.model_fields_set else {}
            apr = {name: AUTO for name in ("min_cosine", "min_margin") if name not in self.apr.model_fields_set}
            object.__setattr__(self, "apf", self.apf.model_copy(update=apf))
            object.__setattr__(self, "apr", self.apr.model_copy(update=apr))
        return self


RULES = "synthgen.filter.rules"  # the package whose files are the filter's rules
_RULES = sorted((module for _, module in modules(RULES)), key=lambda module: int(module.ORDER))
_SETTINGS: dict[str, Any] = {
    rule.SETTING: (rule.VALUE, Field(rule.DEFAULT, description=rule.DESCRIPTION)) for rule in _RULES
}
_RuleSettings: Any = create_model("_RuleSettings", __base__=Section, **_SETTINGS)


class Rules(_RuleSettings):
    """A sample is kept if it passes every rule. Scores are stored, so thresholds may change without rendering again.

    Each setting is that of a file of synthgen/filter/rules.
    """


class Filter(Section):
    """Scores and rules."""

    scorer: Backend = Field(Backend(name="open_clip"), description="a file of models/image_scorers")
    rules: Rules = Rules()


class Ray(Section):
    """Of the engine `ray`."""

    address: str = Field(
        "", description="a running cluster (auto, or host:port); empty = a Ray of this machine for this run"
    )
    workers: int = Field(
        0,
        ge=0,
        description="worker actors, and so what an autoscaler is asked for; 0 = as many as the cluster has room for",
    )
    gpus_per_worker: float = Field(
        -1, ge=-1, description="GPUs of one worker, 0.5 = two share one; -1 = 1 if the cluster has any, else 0"
    )


class Execution(Section):
    """What changes speed and memory, and pixels by no more than rounding:

    not part of the fingerprint, save `quantise`, which replaces weights.
    """

    engine: Literal["local", "ray"] = Field(
        "local", description="who hands out units; under `accelerate launch` its ranks do"
    )
    ray: Ray = Ray()
    retries: int = Field(
        2,
        ge=0,
        le=100,
        description="tries more for a unit, worker or sample that fails; then the sample is rejected as `failed`",
    )
    device: str = Field(
        "auto", description="auto, cpu, cuda, cuda:1, mps; several workers spread auto and cuda over the GPUs"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto = bfloat16 on a GPU, float32 on CPU"
    )
    batch_size: int = Field(8, ge=1)
    unit_rows: int = Field(64, ge=1, description="rows of one unit of work, the most that a kill can lose")
    workers: int = Field(1, ge=1, description="processes of the local engine")
    num_threads: int = Field(0, ge=0, description="CPU threads of torch; 0 = leave as is")
    offload: Literal["none", "model", "sequential"] = Field(
        "none",
        description="move parts of the renderer to the GPU only while they work: whole models, or layer by layer "
        "(slow, smallest)",
    )
    quantise: Literal["none", "fp8", "bnb-int8", "bnb-nf4", "torchao-int8", "torchao-fp8"] = Field(
        "none",
        description="weights of the renderer's denoiser; fp8 stores 8 bits and computes in dtype, the others "
        "need their package",
    )
    attention: Literal["auto", "flash", "flash3", "sage", "xformers", "flex", "cudnn", "efficient", "math"] = Field(
        "auto",
        description="the denoiser's attention kernel; auto = torch's choice, others as diffusers' dispatcher has them",
    )
    compile: bool = Field(
        False, description="torch.compile of the denoiser's blocks: takes a minute at the first image"
    )
    channels_last: bool = Field(False, description="memory format of the image decoder, the part with convolutions")

    @field_validator("offload", mode="before")
    @classmethod
    def _offload_as_yes_or_no(cls, value: Any) -> Any:
        return {True: "model", False: "none"}[value] if isinstance(value, bool) else value
