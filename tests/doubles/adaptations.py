"""Settings of an adaptation of a few steps, of a narrow base."""

from __future__ import annotations

TINY = (
    "render.height_px=64",
    "render.width_px=96",
    "adapt.crops.per_image=1",
    "adapt.crops.window=[1.0, 1.0]",
    "adapt.lora.steps=2",
    "adapt.lora.batch_size=2",
    "adapt.controlnet.steps=4",
    "adapt.controlnet.batch_size=2",
    "adapt.controlnet.learning_rate=0.01",
    "adapt.controlnet.warmup_steps=1",
    "adapt.samples_every=0",
    "adapt.checkpoint_s=0",
    "adapt.save_dtype=float32",
    "execution.num_threads=1",
)
