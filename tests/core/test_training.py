"""The training code: small, fast checks of what the embedded model's quality rests on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("tqdm", reason="the extra 'train' is not installed")
pytest.importorskip("PIL")

from amused_core.training import captions, checkpoints, codebook, data, objective, tokens, vq, vq_data
from amused_core.training.export import write_folder
from amused_core.training.masked import MaskedTrainer, _backward, things_in_play
from amused_core.training.progress import Log, psnr, step_generator
from amused_core.training.things import BACKGROUNDS, THINGS
from amused_core.training.tokenizer import MAX_LENGTH, build_tokenizer, save_tokenizer

TINY_TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "intermediate_size": 32,
    "block_out_channels": 16,
    "in_channels": 16,
    "num_res_blocks": 1,
    "downsample": True,
    "upsample": True,
    "block_num_heads": 2,
    "num_attention_heads": 2,
    "encoder_hidden_size": 16,
    "cond_embed_dim": 16,
    "micro_cond_encode_dim": 4,
    "micro_cond_embed_dim": 20,
    "vocab_size": 40,
    "codebook_size": 32,
    "sample_size": 4,
}
TINY_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "projection_dim": 16,
    "max_position_embeddings": MAX_LENGTH,
}
TINY_VQ = vq.VQ_CONFIG | {
    "block_out_channels": [8, 8, 8, 16],
    "num_vq_embeddings": 32,
    "latent_channels": 4,
    "vq_embed_dim": 4,
}


def tiny_trainer(seed: int = 0, batch: int = 4, workers: int = 1) -> MaskedTrainer:
    ids = torch.randint(32, (len(THINGS) * len(BACKGROUNDS), 4, 4), generator=step_generator(5, 0))
    return MaskedTrainer(ids, batch, seed, TINY_TRANSFORMER, TINY_TEXT, mask_id=32, workers=workers)


def squares() -> torch.Tensor:
    """Stand-ins for emoji: opaque colour squares, uint8 RGBA `[3, 4, 128, 128]`."""
    rgba = torch.zeros(3, 4, 128, 128, dtype=torch.uint8)
    for index in range(3):
        rgba[index, index, 32:96, 32:96] = 255
        rgba[index, 3, 32:96, 32:96] = 255
    return rgba


# --- objective ---------------------------------------------------------------------------------------------------


def test_mask_ratio_is_the_cosine_from_one_to_zero():
    ratio = objective.mask_ratio(torch.tensor([0.0, 2 / 3, 1.0]))
    assert torch.allclose(ratio, torch.tensor([1.0, 0.5, 0.0]), atol=1e-6)


@pytest.mark.parametrize("ratio, count", [(0.0, 1), (0.25, 16), (1.0, 64)])
def test_random_mask_has_exactly_the_ratio_and_never_none(ratio, count):
    assert objective.random_mask(8, 8, ratio, step_generator(0, 0)).sum() == count


def test_block_masks_are_rectangles_of_at_least_a_quarter():
    for step in range(50):
        mask = objective.block_mask(8, 12, step_generator(0, step))
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum() and rows.sum() >= 2 and columns.sum() >= 3
        for line in (rows, columns):  # one run without a gap
            assert line.int().diff().abs().sum() <= 2


def test_a_fair_part_of_the_masks_is_whole_and_the_mean_ratio_is_near_the_cosine_mean():
    masks = objective.sample_masks(2000, 8, 8, step_generator(0, 1)).flatten(1).float().mean(1)
    assert 0.08 < (masks == 1).float().mean() < 0.2
    assert 0.55 < masks.mean() < 0.7
    assert masks.min() > 0


def test_only_masked_positions_count():
    generator = step_generator(0, 2)
    logits, ids = torch.randn(2, 5, 4, 4, generator=generator), torch.randint(5, (2, 4, 4), generator=generator)
    mask = objective.sample_masks(2, 4, 4, generator)
    mask[0, 0, 0], mask[0, 1, 1] = False, True
    loss = objective.masked_loss(logits, ids, mask)
    shown, hidden = logits.clone(), logits.clone()
    shown[0, :, 0, 0] += torch.arange(5) * 9.0
    hidden[0, :, 1, 1] += torch.arange(5) * 9.0
    assert objective.masked_loss(shown, ids, mask) == loss
    assert objective.masked_loss(hidden, ids, mask) != loss


def test_code_weights_lower_only_what_is_far_too_frequent():
    ids = torch.cat([torch.zeros(200), torch.arange(1, 10).repeat(10)]).long()
    weights = objective.code_weights(ids, 10, limit=2.0)
    assert weights[0] == pytest.approx(2 * 29 / 200) and (weights[1:] == 1).all()
    logits, mask = torch.zeros(1, 10, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    logits[0, 3, 0, 1] = 5.0
    pair = torch.tensor([[[0, 3]]])
    assert objective.masked_loss(logits, pair, mask, weights) < objective.masked_loss(logits, pair, mask)


# --- captions and tokenizer --------------------------------------------------------------------------------------


def test_captions_name_the_thing_and_the_background_or_nothing():
    generator = step_generator(0, 3)
    empty = white_left_out = 0
    for count in range(3000):
        thing, background = THINGS[count % len(THINGS)], list(BACKGROUNDS)[count % len(BACKGROUNDS)]
        text = captions.caption(thing, background, generator)
        if not text:
            empty += 1
            continue
        assert any(noun in text for noun in (thing.name, thing.plural, *thing.aliases)), text
        if f"{background} background" not in text and f"on {background}" not in text:
            assert background == captions.DEFAULT_BACKGROUND, text
            white_left_out += 1
        assert "  " not in text and "a apple" not in text and "a grapes" not in text
    assert 200 < empty < 400 and white_left_out > 200


def test_every_caption_word_is_one_token_and_captions_fit():
    tokenizer = build_tokenizer(captions.words())
    for word in captions.words():
        assert len(tokenizer(word).input_ids) == 3, word
    generator = step_generator(0, 4)
    texts = [captions.caption(THINGS[n % len(THINGS)], "yellow", generator) for n in range(500)]
    assert max(map(len, tokenizer(texts).input_ids)) <= MAX_LENGTH
    assert tokenizer("A RED Apple").input_ids == tokenizer("a red apple").input_ids
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (len(tokenizer) - 2, len(tokenizer) - 1)


@pytest.mark.parametrize("text", ["تفاحة حمراء", "りんご 🍎", "", "naïve \u0301\u200d\U0001f9d1", "\x00\x7f"])
def test_any_text_encodes_from_the_saved_files(text, tmp_path):
    from transformers import CLIPTokenizerFast

    tokenizer = build_tokenizer(captions.words())
    save_tokenizer(tokenizer, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"):
        assert (tmp_path / name).stat().st_size > 0
    again = CLIPTokenizerFast.from_pretrained(tmp_path)
    ids = again(text, padding="max_length", truncation=True).input_ids
    assert ids == tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == MAX_LENGTH and max(ids) < len(tokenizer)


# --- pictures ----------------------------------------------------------------------------------------------------


def font() -> Path:
    try:
        return data.find_font()
    except ValueError:
        pytest.skip("fonts-noto-color-emoji is not installed")


def test_every_glyph_of_the_word_list_is_drawn_centred():
    pictures = data.render_all([thing.glyph for thing in THINGS], font())
    alpha = pictures[:, 3].float()
    assert pictures.shape == (len(THINGS), 4, 128, 128) and alpha.amax((1, 2)).min() == 255
    border = alpha.clone()
    border[:, 8:120, 8:120] = 0
    assert border.sum() == 0
    assert alpha.mean((1, 2)).min() > 20  # a bold shape, not a dot


def test_a_glyph_that_the_font_lacks_is_refused():
    with pytest.raises(ValueError, match="\\\\u0378|\u0378"):
        data.render_all(["\u0378", "\U0001f34e", "\u0379"], font())


def test_a_missing_font_is_named():
    with pytest.raises(ValueError, match="nowhere.ttf"):
        data.find_font("nowhere.ttf")


def test_compose_shows_the_thing_over_the_background():
    pictures = data.compose_all(squares())
    assert pictures.shape == (12, 3, 128, 128)
    assert pictures[0, :, 64, 64].tolist() == [1, 0, 0] and pictures[0, :, 0, 0].tolist() == [1, 1, 1]
    assert torch.allclose(pictures[2, :, 0, 0] * 255, torch.tensor(list(BACKGROUNDS.values())[2]).float())


# --- VQ-GAN ------------------------------------------------------------------------------------------------------


def test_canonical_tokens_are_equal_where_the_pictures_are():
    raw = torch.randint(100, (12, 16, 16), generator=step_generator(0, 6))
    ids = tokens.canonicalise(raw, squares()[:, 3], 4).reshape(3, 4, 16, 16)
    assert all(len(ids[:, b, :4].unique()) == 1 for b in range(4))  # flat rows above the square
    assert (ids[:, 1:, 4:12, 4:12] == ids[:, :1, 4:12, 4:12]).all()
    assert (ids[:, 0, 4:12, 4:12] == raw.reshape(3, 4, 16, 16)[:, 0, 4:12, 4:12]).all()


def test_a_few_vq_steps_lower_the_loss_and_the_codebook_is_used():
    trainer = vq.VQTrainer(squares(), squares(), config=TINY_VQ)
    losses = [trainer.step(progress)["loss"] for progress in [0.0] * 12 + [0.2] * 12]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    with torch.no_grad():
        ids = tokens.encode(trainer.model, data.compose_all(squares()))
    assert ids.shape == (12, 16, 16) and len(ids.unique()) > 4
    assert tokens.decode(trainer.model, ids).shape == (12, 3, 128, 128)


def test_vq_resume_equals_the_uninterrupted_run(tmp_path):
    plan = [0.0, 0.0, 0.2, 0.2, 0.2]
    whole = vq.VQTrainer(squares(), squares(), config=TINY_VQ)
    for progress in plan:
        whole.step(progress)
    first = vq.VQTrainer(squares(), squares(), config=TINY_VQ)
    for progress in plan[:3]:
        first.step(progress)
    first.save(tmp_path / "vq.safetensors")
    second = vq.VQTrainer(squares(), squares(), seed=9, config=TINY_VQ)
    second.load(tmp_path / "vq.safetensors")
    for progress in plan[3:]:
        second.step(progress)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_codebook_quantises_to_the_nearest_code_and_passes_gradients_through():
    weight = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    book = codebook.Codebook(weight)
    latents = torch.tensor([0.1, 0.9]).reshape(1, 1, 1, 2).repeat(1, 2, 1, 1).requires_grad_()
    codes, commit = book.quantise(latents)
    assert torch.allclose(codes, torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).repeat(1, 2, 1, 1)) and commit > 0
    codes.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_vq_batches_depend_only_on_seed_and_step_and_keep_their_range():
    batches = [vq_data.draw_batch(squares(), squares(), step_generator(3, step), False) for step in (7, 7, 8)]
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])
    assert batches[0].shape == (4, 3, 64, 64) and batches[0].min() >= 0 and batches[0].max() <= 1


def test_psnr_of_a_known_error():
    assert float(psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5))) == pytest.approx(20, abs=1e-3)


# --- masked training ---------------------------------------------------------------------------------------------


def test_training_lowers_the_loss():
    trainer = tiny_trainer()
    trainer.tokens = trainer.tokens[:1].expand(len(trainer.tokens), 4, 4)  # one picture: soon known by heart
    losses = [trainer.step(0.0)["loss"] for _ in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_masked_resume_equals_the_uninterrupted_run(tmp_path):
    whole, first, second = tiny_trainer(), tiny_trainer(), tiny_trainer(seed=4)
    for step in range(6):
        whole.step(step / 6)
    for step in range(3):
        first.step(step / 6)
    first.save(tmp_path / "run.safetensors")
    second.load(tmp_path / "run.safetensors")
    for step in range(3, 6):
        second.step(step / 6)
    assert whole.seen == second.seen == 24
    for mine, other in zip(whole.parameters + whole.ema, second.parameters + second.ema, strict=True):
        assert torch.equal(mine, other)


def test_workers_share_a_batch_and_its_weights():
    alone, shared = tiny_trainer(), tiny_trainer(workers=2)
    shared.step(1.0)
    twins = [[p for module in models for p in module.parameters()] for models in shared.copies]
    assert all(p.data_ptr() == q.data_ptr() for p, q in zip(*twins, strict=True))
    sums = [torch.zeros_like(p) for p in alone.parameters]
    weights = torch.ones(32)
    for shard in zip(*(tensor.chunk(2) for tensor in alone._batch(step_generator(0, 0))), strict=True):
        _backward(*alone.copies[0], *shard, weights)
        for total, parameter in zip(sums, alone.parameters, strict=True):
            total += parameter.grad if parameter.grad is not None else 0
    norm = torch.cat([total.flatten() for total in sums]).norm() / 2
    for total, parameter in zip(sums, shared.parameters, strict=True):
        if parameter.grad is not None:  # clipped to a norm of one
            assert torch.allclose(total / 2 / norm.clamp_min(1), parameter.grad, atol=1e-5)


def test_things_come_into_play_one_after_another():
    counts = [things_in_play(step, 50) for step in range(1000)]
    assert counts[0] == 6 and counts[-1] == 50 and sorted(counts) == counts and max(torch.tensor(counts).diff()) == 1
    trainer = tiny_trainer()
    early = {int(i) // 4 for step in range(50) for i in trainer._indices(step_generator(0, step))}
    trainer.step_count = 1000
    late = {int(i) // 4 for step in range(300) for i in trainer._indices(step_generator(0, step))}
    assert len(early) == 6 and early == set(trainer.order[:6].tolist()) and len(late) == len(THINGS)


# --- checkpoints, log, export ------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    checkpoints.save_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save_checkpoint(path, {"a": torch.zeros(2)}, {"step": 2})
    loaded, meta = checkpoints.load_checkpoint(path)
    assert meta == {"step": 1} and torch.equal(loaded["a"], torch.ones(2))


def test_a_broken_checkpoint_is_named(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="bad.safetensors"):
        checkpoints.load_checkpoint(tmp_path / "bad.safetensors")


def test_log_drops_the_rows_after_the_step_that_a_run_goes_on_from(tmp_path):
    log = Log(tmp_path / "log.csv", ("step", "seconds", "loss"), 0, every=2)
    for step in range(1, 7):
        log.add(step, float(step), {"loss": float(step)})
    again = Log(tmp_path / "log.csv", ("step", "seconds", "loss"), 4, every=2)
    assert [row[0] for row in again.rows] == ["2", "4"]
    assert (tmp_path / "log.csv").read_text().splitlines()[1:] == ["2,2.0,1.5000", "4,4.0,3.5000"]


def test_export_loads_and_draws_in_diffusers(tmp_path):
    from diffusers import AmusedPipeline

    trainer = tiny_trainer()
    trainer.step(0.0)
    trainer.use_ema()
    model = vq.build_vq(TINY_VQ | {"sample_size": 32})
    parts = (model.eval(), trainer.transformer.eval(), trainer.text_encoder.eval(), trainer.tokenizer)
    write_folder(tmp_path / "model", *parts, 32, 1.5)
    assert {p.name for p in tmp_path.iterdir()} == {"model"}
    settings = json.loads((tmp_path / "model" / "amused.json").read_text())["recommended"]
    assert settings["cfg"] == 1.5 and settings["width"] == 32
    pipeline = AmusedPipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        "an apple", height=32, width=32, guidance_scale=1.5, num_inference_steps=2, output_type="np"
    ).images
    assert images.shape == (1, 32, 32, 3)
    assert (
        pipeline.scheduler.config.mask_token_id == 32
        and pipeline.text_encoder.config.eos_token_id == len(trainer.tokenizer) - 1
    )
