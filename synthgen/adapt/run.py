"""`synthgen adapt`: encode once, learn the look, learn the maps, write the model. Run again, it goes on.

Under `accelerate launch` or torchrun the ranks share the encoding out and train together.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.adapt import model_folder
from synthgen.adapt.encoded import EncodedSet, Encoder, text_parts, write_array
from synthgen.adapt.labelled import LabelledPictures, labelled_pictures, pixel_counts
from synthgen.adapt.model_folder import TRAINING, WORK
from synthgen.adapt.networks import (
    Base,
    add_lora,
    control_config,
    load_denoiser,
    load_vae,
    merge_lora,
    new_controlnet,
    read_base,
    require_size,
    save_lora,
    whole_controlnet,
)
from synthgen.adapt.objective import Objective
from synthgen.adapt.samples import Watch, grid_of
from synthgen.adapt_settings import Training
from synthgen.backends import check_options
from synthgen.errors import RecipeError
from synthgen.models.control import Control, require_colours
from synthgen.models.devices import give_memory_back, torch_device, use_threads
from synthgen.models.model_facts import ModelFacts, num_t5_tokens
from synthgen.models.provenance import pinned
from synthgen.recipe import Recipe
from synthgen.sources.folder import names_hash
from synthgen.sources.rare_classes import class_probabilities


def adapt(recipe: Recipe, out: Path) -> None:
    """Adapt the recipe's renderer to its labelled folder, into `out`.

    Raises a SynthgenError in one line before anything is loaded where settings, labels, base or folder do not fit.
    """
    with pinned(model_folder.commits(recipe, out)):
        Adaptation(recipe, out).run()


class Adaptation:
    """One adaptation: what it is for, and its parts in order."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        """Read settings, configurations and names of files; nothing is written or loaded yet."""
        self.recipe, self.out = recipe, out
        self.settings = recipe.adapt
        config = recipe.render.renderer.model_dump()
        if config["name"] != "sd3":
            raise RecipeError(f"render.renderer.name = {config['name']}: synthgen adapt trains the renderer sd3 only")
        self.renderer = check_options("renderer", config)
        self.size_px = (recipe.render.height_px, recipe.render.width_px)
        self.pictures: LabelledPictures = labelled_pictures(recipe)
        self.base: Base = read_base(self.renderer.model, self.renderer.revision)
        require_size(self.base, self.size_px)
        self.control = Control(self.settings.control, self.pictures.space)
        require_colours(self.control)
        self.config = control_config(self.base, self.settings.controlnet, self.control.extra_channels)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells one adaptation from another: everything that changes a weight."""
        settings = self.settings.model_dump(mode="json")
        for name in ("samples_every", "samples_steps", "samples_guidance", "checkpoint_s", "gradient_checkpointing"):
            del settings[name]
        for name in ("folder", "source", "split"):
            del settings["data"][name]
        pictures = self.pictures
        return {
            "adapt": settings,
            "seed": self.recipe.seed,
            "size_px": self.size_px,
            "base": {"model": self.base.model, "revision": self.base.revision},
            "captions": {"t5": self.renderer.t5, "max_sequence_length": self.num_t5_tokens},
            "label_space": pictures.space.to_json(),
            "pictures": names_hash(pictures.pairs, pictures.folder),
        }

    @property
    def num_t5_tokens(self) -> int:
        """Of a caption; the renderer's, so that prompts come in the form that was learnt."""
        return num_t5_tokens(self.base.place, self.renderer.max_sequence_length)

    def run(self) -> None:
        """All of it, or what is left of it."""
        from accelerate import PartialState

        state = PartialState(cpu=torch_device(self.recipe.execution).type == "cpu")
        use_threads(self.recipe.execution)
        with state.main_process_first():
            model_folder.claim(self.out, self.identity)
        if model_folder.is_finished(self.out):
            return
        encoded = self._encode(state)
        facts = {
            "Labelled pictures": f"{len(self.pictures.pairs)}, {len(encoded)} windows of {self.size_px[0]} x "
            f"{self.size_px[1]} px",
        }
        lora = self.out / WORK / "lora-whole"
        if self.settings.lora.steps:
            facts["Look (LoRA)"] = self._train_lora(encoded, lora, state)
        net, facts["Maps (ControlNet)"] = self._train_controlnet(encoded, lora, state)
        if not state.is_main_process:
            return
        model_folder.save_network(net, self.out, self.settings.save_dtype)
        if lora.is_dir():
            model_folder.move_into_place(lora, self.out / "lora")
        model_folder.write_card(self.out, self.base, self.control, self.size_px, facts)
        facts_of_model = ModelFacts(self.num_t5_tokens, self.control, self.base.model, self.base.revision, swap=True)
        model_folder.finish(self.out, facts_of_model)

    def _encode(self, state: Any) -> EncodedSet:
        """Every window and caption, once. VAE and text encoders are gone afterwards."""
        folder = self.out / WORK / "encoded"
        folder.mkdir(parents=True, exist_ok=True)
        probabilities = self._probabilities(folder, state)
        encoder = Encoder(self.recipe, self.pictures, self.control, folder)
        missing = encoder.missing("crops", len(encoder.crop_parts))
        if missing:
            vae = load_vae(self.base, state.device)
            encode = functools.partial(encoder.encode_crops, vae, _Config(self.config), probabilities)
            _share_out("pictures", missing, encode, state)
            del vae
        state.wait_for_everyone()
        captions = encoder.captions()
        missing = encoder.missing("texts", text_parts(captions))
        if missing:
            _share_out(
                "captions", missing, functools.partial(encoder.encode_captions, self._text_encoder(), captions), state
            )
        state.wait_for_everyone()
        give_memory_back()
        return EncodedSet(encoder, folder, probabilities, self.settings.crops.min_share)

    def _probabilities(self, folder: Path, state: Any) -> np.ndarray:
        """P(c). The masks are read once for it."""
        path = folder / "counts.npy"
        with state.main_process_first():
            if not path.is_file():
                write_array(pixel_counts(self.pictures), path)
        counts: np.ndarray = np.load(path, allow_pickle=False)
        return class_probabilities(counts, self.settings.crops.temperature)

    def _text_encoder(self) -> Any:
        from synthgen.models.text_encoders import sd3

        options = sd3.Options(
            model=self.base.model,
            revision=self.renderer.revision,
            t5=self.renderer.t5,
            max_sequence_length=self.num_t5_tokens,
        )
        return sd3.build(options, self.recipe.execution)

    def _train_lora(self, encoded: EncodedSet, target: Path, state: Any) -> str:
        import torch

        settings = self.settings.lora
        folder = self.out / WORK / "lora"
        if target.is_dir():
            return _words(settings, _finished(folder))
        torch.manual_seed(self.recipe.seed)
        denoiser = load_denoiser(self.base, _frozen_dtype(state.device))
        add_lora(denoiser, settings)
        facts = self._train("lora", Objective(denoiser, None, settings, self.base.shift), settings, encoded, folder)
        if state.is_main_process:
            scratch = target.with_name("lora-scratch")
            save_lora(denoiser, scratch)
            model_folder.move_into_place(scratch, target)
        state.wait_for_everyone()
        return _words(settings, facts)

    def _train_controlnet(self, encoded: EncodedSet, lora: Path, state: Any) -> tuple[Any, str]:
        import torch

        settings = self.settings.controlnet
        denoiser = load_denoiser(self.base, _frozen_dtype(state.device))
        if lora.is_dir():
            merge_lora(denoiser, lora)
        torch.manual_seed(self.recipe.seed + 1)
        net = new_controlnet(self.config, denoiser, settings)
        objective = Objective(denoiser, net, settings, self.base.shift)
        facts = self._train("controlnet", objective, settings, encoded, self.out / WORK / "controlnet")
        whole_controlnet(net, settings)
        return net, _words(settings, facts)

    def _train(
        self, name: str, objective: Objective, settings: Training, encoded: EncodedSet, folder: Path
    ) -> dict[str, Any]:
        """One training; its log and its pictures go to `training/`."""
        from synthgen.training.loop import Schedule, train

        for net in (objective.denoiser, objective.controlnet):
            if net is not None and self.settings.gradient_checkpointing:
                net.enable_gradient_checkpointing()
        schedule = Schedule(
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            steps=settings.steps,
            seed=self.recipe.seed,
            warmup_steps=settings.warmup_steps,
            flat=settings.flat,
            ema=settings.ema,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
            accumulate=settings.accumulate,
            betas=(0.9, 0.999),
            eight_bit=self.settings.eight_bit_adam,
            checkpoint_s=self.settings.checkpoint_s,
        )
        watch = Watch(name, self.out / TRAINING, self.settings.samples_every, self._grid(objective, encoded))
        try:
            return train(objective, encoded.batches(settings.empty), schedule, folder, watch=watch)
        finally:
            watch.close()

    def _grid(self, objective: Objective, encoded: EncodedSet) -> Callable[[], np.ndarray]:
        """What draws a grid with the weights of the moment. The VAE is in memory only while it does."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        base = self.base
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(base.place, subfolder="scheduler", **base.at)

        def grid() -> np.ndarray:
            vae = load_vae(base, next(objective.denoiser.parameters()).device)
            return grid_of(
                encoded, objective.denoiser, objective.controlnet, vae, scheduler, self.settings, self.recipe.seed
            )

        return grid


class _Config:
    """A configuration by attribute, as a network has it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _share_out(what: str, parts: list[int], work: Callable[[int], None], state: Any) -> None:
    """Every rank its parts, in turn."""
    own = parts[state.process_index :: state.num_processes]
    for number, part in enumerate(own, start=1):
        work(part)
        if state.is_main_process:
            print(f"adapt encoding    {what}: {number}/{len(own)} parts", file=sys.stderr, flush=True)


def _frozen_dtype(device: Any) -> Any:
    import torch

    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _finished(folder: Path) -> dict[str, Any]:
    import torch

    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True, mmap=True)
    return {"steps": state["step"], "samples": state["samples"], "hours": round(state["elapsed"] / 3600, 3)}


def _words(settings: Training, facts: dict[str, Any]) -> str:
    return (
        f"{facts['steps']} steps, {facts['samples']} samples, {facts['hours']} h, AdamW at {settings.learning_rate:g}"
    )
