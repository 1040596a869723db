"""The proposer `attention`, on a family with random weights and on the shipped one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.mini_family import write_family

from segkit.labels import IGNORE
from synthgen.backends import load
from synthgen.drawn import objects
from synthgen.errors import ModelError, RecipeError
from synthgen.labels import read_label_space
from synthgen.models import ProposalRequest, Prototypes
from synthgen.models.proposers.attention import AttentionProposer, otsu_threshold
from synthgen.models.text_encoders import sd3 as text_encoder
from synthgen.settings import Execution

CPU = Execution(device="cpu")
SPACE = """
name: ours
background: 0
labels:
- {id: 0, name: background, colour: [0, 0, 0]}
- {id: 4, name: cat, colour: [9, 0, 0]}
- {id: 7, name: tvmonitor, colour: [0, 9, 0], synonyms: [tv monitor]}
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_family(tmp_path_factory.mktemp("family"))
    (folder / "labels.yaml").write_text(SPACE)
    (folder / "open.yaml").write_text(
        SPACE.replace("background: 0", "background: null").replace("name: background", "name: floor")
    )
    return folder


def proposer(family: Path, **options: Any) -> AttentionProposer:
    config = {
        "name": "attention",
        "model": str(family),
        "space": str(family / "labels.yaml"),
        "template": "a {}",
        **options,
    }
    built: AttentionProposer = load("proposer", config, CPU)
    built.prepare([], Prototypes((), np.zeros((0, 0), np.float32)), 0)
    return built


@pytest.fixture(scope="module")
def built(family: Path) -> AttentionProposer:
    return proposer(family)


def picture(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def request(image: np.ndarray, prompt: str, *candidates: int) -> ProposalRequest:
    return ProposalRequest(image, np.zeros((1, 1, 1), np.float32), candidates, prompt)


def forwards(model: AttentionProposer) -> list[int]:
    """Grows by one at every forward of the transformer."""
    seen: list[int] = []
    model._transformer.register_forward_pre_hook(lambda *_: seen.append(1))
    return seen


def test_the_words_of_a_prompt_are_found_by_their_letters(family: Path) -> None:
    encoder = text_encoder.build(text_encoder.Options(model=str(family)), CPU)
    prompt = "a Cat beside two TV monitors, no cattle"
    pieces = encoder._pipeline.tokenizer.convert_ids_to_tokens(encoder._pipeline.tokenizer(prompt)["input_ids"])
    spelt = [
        "".join(pieces[n] for n in encoder.positions(prompt, words)).replace("</w>", "")
        for words in (("cat",), ("tv monitor", "tvmonitor"))
    ]
    assert spelt == ["cat", "tvmonitors"]
    assert encoder.positions(prompt, ("dog",)) == []
    assert encoder.positions("very " * 20 + "cat", ("cat",)) == []  # 16 tokens are all


def test_shares_are_those_of_the_whole_attention_table(built: AttentionProposer) -> None:
    image, prompt = picture(0, 32, 48), "a cat and a tv monitor"
    inputs: list[dict[str, Any]] = []
    last = built._transformer.transformer_blocks[-1].attn
    handle = last.register_forward_pre_hook(lambda _, args, named: inputs.append(named), with_kwargs=True)
    cat, screen = (read_label_space(built._options.space).by_id(k) for k in (4, 7))
    shares = built.shares(image, [cat, screen], prompt)
    handle.remove()
    assert len(inputs) == 1, "both are named: one forward"
    assert len(built._watched) == 1, "the later half of two blocks"

    def split(states: torch.Tensor, norm: Any) -> torch.Tensor:
        return norm(states.view(1, states.shape[1], last.heads, -1).transpose(1, 2))[0]

    with torch.inference_mode():
        seen, text = inputs[0]["hidden_states"], inputs[0]["encoder_hidden_states"]
        query = split(last.to_q(seen), last.norm_q)
        key = torch.cat([split(last.to_k(seen), last.norm_k), split(last.add_k_proj(text), last.norm_added_k)], dim=1)
        table = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(dim=-1)[:, :, seen.shape[1] :].numpy()
    # cells of 8 px: 4 x 6 image tokens; tokens: <start> a cat and a tv monitor
    for class_id, at in (
        (4, built._text.positions(prompt, ("cat",))),
        (7, built._text.positions(prompt, ("tv monitor",))),
    ):
        expected = (table[:, :, at].sum(-1) / table.sum(-1)).mean(axis=0).reshape(4, 6)
        np.testing.assert_allclose(shares[class_id], expected, rtol=1e-4)
    assert built._text.positions(prompt, ("cat",)) == [2]


def test_watching_does_not_change_what_the_transformer_gives(family: Path, built: AttentionProposer) -> None:
    from diffusers import SD3Transformer2DModel

    plain = SD3Transformer2DModel.from_pretrained(family / "transformer")
    torch.manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(1, 4, 8, 8),
        "encoder_hidden_states": torch.randn(1, 16, plain.config.joint_attention_dim),
        "pooled_projections": torch.randn(1, plain.config.pooled_projection_dim),
        "timestep": torch.tensor([400.0]),
    }
    for watched in built._watched:
        watched.tokens = [[1]]
    with torch.inference_mode():
        torch.testing.assert_close(built._transformer(**inputs).sample, plain(**inputs).sample)


def test_a_class_that_the_prompt_does_not_name_has_a_forward_of_its_own(family: Path) -> None:
    model = proposer(family)
    seen = forwards(model)
    masks = model.propose([request(picture(1), "a cat", 4, 7, 0), request(picture(1), "", 4, 0)])
    assert len(seen) == 2 + 1
    assert set(np.unique(masks[0])) <= {0, 4, 7}
    assert set(np.unique(masks[1])) == {0, 4}, "some pixels look at the word most"
    np.testing.assert_array_equal(model.propose([request(picture(1), "a cat", 4, 0)])[0], masks[1])


def test_an_image_stands_alone_and_the_noise_follows_from_the_seed(family: Path, built: AttentionProposer) -> None:
    requests = [request(picture(n, 32, 40), "a cat on grass", 4, 0) for n in range(3)]
    together = built.propose(requests)
    assert all(mask.shape == (32, 40) and mask.dtype == np.uint8 for mask in together)
    np.testing.assert_array_equal(built.propose(requests[2:])[0], together[2])
    label = read_label_space(built._options.space).by_id(4)
    first, again, other = (proposer(family, seed=seed).shares(picture(0), [label], "a cat")[4] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_where_there_is_no_background_the_rest_stays_unlabelled(family: Path) -> None:
    [mask] = proposer(family, space=str(family / "open.yaml")).propose([request(picture(2), "", 4, 7)])
    assert IGNORE in mask
    assert set(np.unique(mask)) <= {4, 7, IGNORE}


def test_a_higher_threshold_leaves_less_of_the_class(family: Path) -> None:
    areas = [
        int((proposer(family, threshold=least).propose([request(picture(3), "", 4, 0)])[0] == 4).sum())
        for least in (0.2, 0.5, 0.9)
    ]
    assert areas[0] > areas[1] > areas[2] > 0


def test_large_images_are_made_to_fit_the_models_positions(built: AttentionProposer) -> None:
    most = built._most_px
    assert built._latent(np.zeros((2 * most, 4 * most, 3), np.uint8)).shape == (1, 4, most // 8, most // 4)
    assert built.propose([request(picture(4, 2 * most, 2 * most), "", 4, 0)])[0].shape == (2 * most, 2 * most)


def test_bad_options_are_refused_in_one_line(family: Path) -> None:
    with pytest.raises(ModelError, match=r"layers \[2\].*blocks 0\.\.1"):
        proposer(family, layers=[2])
    with pytest.raises(RecipeError, match="template"):
        proposer(family, template="a photo")
    with pytest.raises(ModelError, match=r"cuts the prompt .* before the class"):
        proposer(family, template="very " * 20 + "{}").propose([request(picture(0), "", 4, 0)])


def test_otsu_is_the_best_of_all_splits() -> None:
    values = np.concatenate(
        [np.random.default_rng(0).normal(0.2, 0.05, 300), np.random.default_rng(1).normal(0.7, 0.1, 100)]
    )

    def between(threshold: float) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    assert between(otsu_threshold(values)) > 0.99 * max(between(value) for value in values)
    assert otsu_threshold(np.full(5, 0.3)) == pytest.approx(0.3)
    assert not (np.full(5, 0.3) > otsu_threshold(np.full(5, 0.3))).any()


def test_the_shipped_denoiser_finds_what_it_has_learnt_to_draw() -> None:
    space = read_label_space("objects")
    model = load("proposer", {"name": "attention", "model": "mini/objects", "space": "objects"}, CPU)
    drawings = [objects.draw(7000 + number, 64, class_name=name) for number, name in enumerate(objects.CLASSES)]
    found = model.propose(
        [request(d.image, "", space.by_name(name).id, 0) for d, name in zip(drawings, objects.CLASSES, strict=True)]
    )

    def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
        return float(((mask > 0) & (truth > 0)).sum() / ((mask > 0) | (truth > 0)).sum())

    own = np.mean([overlap(mask, d.mask) for mask, d in zip(found, drawings, strict=True)])
    others = np.mean([overlap(mask, d.mask) for mask, d in zip(found, [*drawings[1:], drawings[0]], strict=True)])
    # Drawn objects stand in the middle, so a mask overlaps another drawing's object, too: 0.58 against 0.46.
    assert own > 0.5 and own > others + 0.1, "it does not look at the object, only at the middle"


def test_pixels_near_the_threshold_may_be_left_to_apr(family: Path) -> None:
    sure, unsure = (proposer(family, unsure=width).propose([request(picture(3), "", 4, 0)])[0] for width in (0.0, 0.2))
    assert IGNORE not in sure
    assert 0 < (unsure == IGNORE).mean() < 1
    np.testing.assert_array_equal(unsure[unsure != IGNORE], sure[unsure != IGNORE])
