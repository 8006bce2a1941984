"""The training code: small, fast checks of what the embedded model's quality rests on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("tqdm", reason="the extra 'train' is not installed")
pytest.importorskip("PIL")

from amused_core.small_world.scenes import captions
from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.scenes.splits import held_out, random_scene
from amused_core.small_world.scenes.sprites import draw
from amused_core.small_world.scenes.things import BACKGROUNDS, THINGS
from amused_core.small_world.training import (
    checkpoints,
    codebook,
    data,
    objective,
    reading,
    refine,
    tokens,
    vq,
    vq_data,
)
from amused_core.small_world.training.curriculum import Curriculum, things_in_play
from amused_core.small_world.training.export import write_folder
from amused_core.small_world.training.masked import MaskedTrainer, _backward
from amused_core.small_world.training.networks import build_text_encoder
from amused_core.small_world.training.progress import Log, psnr, step_generator
from amused_core.small_world.training.tokenizer import MAX_LENGTH, build_tokenizer, save_tokenizer

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


def tiny_tokens() -> tokens.SceneTokens:
    """Random tokens below 32 for every thing, with a border of background."""
    generator = step_generator(5, 0)
    large, small = (torch.randint(32, (len(THINGS), side, side), generator=generator) for side in (14, 8))
    large[:, 0], small[:, 0] = tokens.EMPTY, tokens.EMPTY
    return tokens.SceneTokens(large, small, torch.arange(len(BACKGROUNDS)))


def tiny_trainer(seed: int = 0, batch: int = 4, workers: int = 1) -> MaskedTrainer:
    return MaskedTrainer(tiny_tokens(), batch, seed, TINY_TRANSFORMER, TINY_TEXT, mask_id=32, workers=workers)


def squares() -> torch.Tensor:
    """Stand-ins for emoji: opaque colour squares, uint8 RGBA `[3, 4, 112, 112]`."""
    rgba = torch.zeros(3, 4, 112, 112, dtype=torch.uint8)
    for index in range(3):
        rgba[index, index, 24:88, 24:88] = 255
        rgba[index, 3, 24:88, 24:88] = 255
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
    masks = objective.sample_masks([0.1] * 2000, 8, 8, step_generator(0, 1)).flatten(1).float().mean(1)
    assert 0.08 < (masks == 1).float().mean() < 0.2
    assert 0.55 < masks.mean() < 0.7
    assert masks.min() > 0


def test_only_masked_positions_count():
    generator = step_generator(0, 2)
    logits, ids = torch.randn(2, 5, 4, 4, generator=generator), torch.randint(5, (2, 4, 4), generator=generator)
    mask = objective.sample_masks([0.1] * 2, 4, 4, generator)
    mask[0, 0, 0], mask[0, 1, 1] = False, True
    loss, each, _ = objective.masked_loss(logits, ids, mask)
    shown, hidden = logits.clone(), logits.clone()
    shown[0, :, 0, 0] += torch.arange(5) * 9.0
    hidden[0, :, 1, 1] += torch.arange(5) * 9.0
    assert objective.masked_loss(shown, ids, mask)[0] == loss
    changed = objective.masked_loss(hidden, ids, mask)
    assert changed[0] != loss and changed[1][0] != each[0] and changed[1][1] == each[1]
    counts = mask.flatten(1).sum(1)
    assert torch.allclose((each * counts).sum() / counts.sum(), loss)


def test_accuracy_is_the_share_of_right_likeliest_tokens():
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 1] = 1.0
    ids, mask = torch.tensor([[[1, 1, 2, 0]]]), torch.tensor([[[True, True, True, False]]])
    assert objective.masked_loss(logits, ids, mask)[2] == pytest.approx(2 / 3)


def test_code_weights_lower_only_what_is_far_too_frequent():
    ids = torch.cat([torch.zeros(200), torch.arange(1, 10).repeat(10)]).long()
    weights = objective.code_weights(ids, 10, limit=2.0)
    assert weights[0] == pytest.approx(2 * 29 / 200) and (weights[1:] == 1).all()
    logits, mask = torch.zeros(1, 10, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    logits[0, 3, 0, 1] = 5.0
    pair = torch.tensor([[[0, 3]]])
    assert objective.masked_loss(logits, pair, mask, weights)[0] < objective.masked_loss(logits, pair, mask)[0]


# --- tokenizer ---------------------------------------------------------------------------------------------------


def test_every_caption_word_is_one_token_and_captions_fit():
    tokenizer = build_tokenizer(captions.words())
    for word in captions.words():
        if word.isalpha():  # CLIP's tokenizer takes digits and punctuation apart
            assert len(tokenizer(word).input_ids) == 3, word
    generator = step_generator(0, 4)
    texts = [captions.caption(random_scene(generator), generator, noise=0.0) for _ in range(1000)]
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


def test_the_shipped_sheet_is_what_the_font_draws(tmp_path):
    from PIL import Image, ImageChops

    pictures = data.render_all([thing.glyph for thing in THINGS], font())
    data.write_sheet(pictures, tmp_path / "sheet.webp")
    with Image.open(tmp_path / "sheet.webp") as fresh, Image.open(data.SHEET) as shipped:
        assert fresh.size == shipped.size
        assert ImageChops.difference(fresh.convert("RGBA"), shipped.convert("RGBA")).getbbox() is None


def test_a_glyph_that_the_font_lacks_is_refused():
    with pytest.raises(ValueError, match="\\\\u0378|\u0378"):
        data.render_all(["\u0378", "\U0001f34e", "\u0379"], font())


def test_a_missing_font_is_named():
    with pytest.raises(ValueError, match="nowhere.ttf"):
        data.find_font("nowhere.ttf")


# --- VQ-GAN ------------------------------------------------------------------------------------------------------


def test_a_few_vq_steps_lower_the_loss_and_the_codebook_is_used():
    trainer = vq.VQTrainer(squares(), config=TINY_VQ)
    losses = [trainer.step(progress)["loss"] for progress in [0.0] * 40 + [0.2] * 10]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    pictures = draw(vq.held_out_scenes(6))
    ids = tokens.encode(trainer.model, pictures)
    assert ids.shape == (6, 16, 16) and len(ids.unique()) > 4
    assert tokens.decode(trainer.model, ids).shape == (6, 3, 128, 128)


def test_vq_resume_equals_the_uninterrupted_run(tmp_path):
    plan = [0.0, 0.0, 0.2, 0.2]
    whole = vq.VQTrainer(squares(), config=TINY_VQ)
    for progress in plan:
        whole.step(progress)
    first = vq.VQTrainer(squares(), config=TINY_VQ)
    for progress in plan[:3]:
        first.step(progress)
    first.save(tmp_path / "vq.safetensors")
    second = vq.VQTrainer(squares(), seed=9, config=TINY_VQ)
    second.load(tmp_path / "vq.safetensors")
    for progress in plan[3:]:
        second.step(progress)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_thing_cells_come_from_the_source_and_flat_cells_from_the_target():
    trainer = vq.VQTrainer(squares(), config=TINY_VQ)
    examples = vq_data.draw_examples(squares(), step_generator(3, 11), 4)
    assert examples.swapped.any() and not examples.swapped.all()
    mixed, pull = trainer._encode(examples)
    encode = lambda pictures: trainer.model.quant_conv(trainer.model.encoder(pictures))  # noqa: E731
    source, target = encode(examples.source), encode(examples.target)
    assert torch.allclose(mixed, torch.where(examples.flat, target, source), atol=1e-5) and pull > 0


def test_swapped_examples_differ_in_the_background_only():
    examples = vq_data.draw_examples(squares(), step_generator(3, 11), 8)
    differs = (examples.source != examples.target).any(1).flatten(1).any(1)
    assert torch.equal(differs, examples.swapped)
    assert examples.flat.shape == (8, 1, 16, 16) and examples.flat.any() and not examples.flat.all()


def test_scene_tokens_put_any_scene_together(tmp_path):
    table = tiny_tokens()
    pair = table.of(Scene.pair("cat", "left of", "dog", "blue"))
    alone = table.of(Scene.single("cat", "red", "bottom right"))
    blue, red = list(BACKGROUNDS).index("blue"), list(BACKGROUNDS).index("red")
    assert (pair[:4] == blue).all() and (pair[12:] == blue).all() and (alone[:8] == red).all()
    assert torch.equal(pair[5:12, :8], alone[9:, 8:])  # the same thing has the same tokens everywhere
    assert table.of(Scene.single("cat", "red"))[0].unique().tolist() == [red]
    table.save(tmp_path / "tokens.safetensors")
    again = tokens.SceneTokens.load(tmp_path / "tokens.safetensors")
    assert torch.equal(again.large, table.large) and torch.equal(again.flat, table.flat)


def test_tokens_of_another_word_list_are_refused(tmp_path):
    checkpoints.save_checkpoint(tmp_path / "old.safetensors", {}, {"things": ["cat"], "backgrounds": ["white"]})
    with pytest.raises(ValueError, match="old.safetensors"):
        tokens.SceneTokens.load(tmp_path / "old.safetensors")


def test_a_deeper_vq_starts_with_the_same_function():
    model = vq.build_vq(TINY_VQ).eval()
    deeper = refine.deepen(model).eval()
    pictures = draw(vq.held_out_scenes(2))
    with torch.no_grad():
        outputs = [m.decoder(m.post_quant_conv(m.quant_conv(m.encoder(pictures)))) for m in (model, deeper)]
    assert torch.allclose(*outputs, atol=1e-5)
    assert sum(p.numel() for p in deeper.parameters()) > sum(p.numel() for p in model.parameters())


def test_refining_brings_scenes_closer_and_keeps_the_codebook(tmp_path):
    model = vq.VQTrainer(squares(), config=TINY_VQ).model
    codes = model.quantize.embedding.weight.clone()
    refiner = refine.Refiner(refine.deepen(model), tiny_tokens(), squares())
    losses = [refiner.step(0.0)["loss"] for _ in range(20)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert torch.equal(refiner.model.quantize.embedding.weight, codes)
    refiner.save(tmp_path / "refined.safetensors")
    again = refine.Refiner(refine.deepen(model), tiny_tokens(), squares(), seed=7)
    again.load(tmp_path / "refined.safetensors")
    assert refiner.step(0.5) == again.step(0.5)


def test_codebook_quantises_to_the_nearest_code_and_passes_gradients_through():
    weight = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    book = codebook.Codebook(weight)
    latents = torch.tensor([0.1, 0.9]).reshape(1, 1, 1, 2).repeat(1, 2, 1, 1).requires_grad_()
    codes, commit = book.quantise(latents)
    assert torch.allclose(codes, torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).repeat(1, 2, 1, 1)) and commit > 0
    codes.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_psnr_of_a_known_error():
    assert float(psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5))) == pytest.approx(20, abs=1e-3)


# --- masked training ---------------------------------------------------------------------------------------------


def test_training_lowers_the_loss():
    trainer = tiny_trainer()
    trainer.tokens = tokens.SceneTokens(*(torch.zeros_like(t) for t in vars(trainer.tokens).values()))
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
    generator = step_generator(0, 0)
    scenes = alone.curriculum.draw(4, 0, 1.0, generator)
    for shard in zip(*(tensor.chunk(2) for tensor in alone._batch(scenes, generator)), strict=True):
        _backward(*alone.copies[0], *shard, torch.ones(32), None, 0, False)
        for total, parameter in zip(sums, alone.parameters, strict=True):
            total += parameter.grad if parameter.grad is not None else 0
    norm = torch.cat([total.flatten() for total in sums]).norm() / 2
    for total, parameter in zip(sums, shared.parameters, strict=True):
        if parameter.grad is not None:  # clipped to a norm of one
            assert torch.allclose(total / 2 / norm.clamp_min(1), parameter.grad, atol=1e-5)


def test_things_come_into_play_one_after_another():
    counts = [things_in_play(step, 50) for step in range(1000)]
    assert counts[0] == 6 and counts[-1] == 50 and sorted(counts) == counts and max(torch.tensor(counts).diff()) == 1
    curriculum = Curriculum(len(THINGS), 0)
    early = curriculum.draw(200, 0, 0.0, step_generator(0, 0))
    late = curriculum.draw(2000, 9999, 1.0, step_generator(0, 1))
    first = {THINGS[index].name for index in curriculum.order[:6].tolist()}
    assert {name for scene in early for name in scene.things} == first
    assert len({name for scene in late for name in scene.things}) == len(THINGS)
    pairs = [sum(len(scene.things) == 2 for scene in scenes) / len(scenes) for scenes in (early, late)]
    assert pairs[0] < 0.3 < 0.5 < pairs[1] < 0.75


def test_no_scene_of_the_training_is_held_out():
    assert not any(map(held_out, Curriculum(len(THINGS), 1).draw(1000, 9999, 1.0, step_generator(0, 2))))


def test_hard_things_are_drawn_more_often():
    curriculum = Curriculum(4, 0)
    curriculum.order, curriculum.losses = torch.arange(4), torch.tensor([1.0, 1.0, 1.0, 9.0])
    assert curriculum.difficulty()[3] == 3 and (curriculum.difficulty()[:3] == 0.5).all()
    scenes = [scene for scene in curriculum.draw(400, 9999, 0.0, step_generator(0, 3)) if len(scene.things) == 1]
    assert sum(scene.things[0] == THINGS[3].name for scene in scenes) > 0.5 * len(scenes)
    curriculum.learn([Scene.single(THINGS[0].name, "red")], [5.0])
    assert curriculum.losses[0] == pytest.approx(1.4)


# --- reading -----------------------------------------------------------------------------------------------------


def test_facts_are_in_reading_order():
    cat, dog = (tokens.thing_index(name) for name in ("cat", "dog"))
    assert reading.facts(Scene.pair("cat", "left of", "dog", "red")) == [cat, dog]
    assert reading.facts(Scene.pair("cat", "right of", "dog", "red")) == [dog, cat]
    assert reading.facts(Scene.pair("cat", "below", "dog", "red")) == [dog, cat]
    assert reading.facts(Scene.single("cat", "red", "top left")) == [cat, -1]


def tiny_reader(keep: float = 0.0) -> reading.Reader:
    tokenizer = build_tokenizer(captions.words())
    return reading.Reader(build_text_encoder(tokenizer, step_generator(0, 0), TINY_TEXT), tokenizer, keep=keep)


def test_reading_moves_the_padding_towards_the_marked_nouns():
    reader = tiny_reader()
    losses = [reader.step(step, 1000, 8)["loss"] for step in range(60)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_reading_keeps_what_words_say():
    texts = ["a cat on a red background"]
    drifts = []
    for keep in (0.0, 10.0):
        reader = tiny_reader(keep)
        ids = reading.tokenize(reader.tokenizer, texts)
        before = reader.encoder(ids, output_hidden_states=True).hidden_states[-2].detach()
        for step in range(30):
            reader.step(step, 1000, 8)
        words = ids != reader.tokenizer.eos_token_id
        drifts.append(
            (reader.encoder(ids, output_hidden_states=True).hidden_states[-2] - before)[words].square().mean()
        )
    assert drifts[1] < 0.5 * drifts[0]


def test_a_perfect_echo_has_no_loss_and_a_swapped_one_has():
    reader = tiny_reader()
    echo, end = reader.echo, reader.tokenizer.eos_token_id
    ids = reading.tokenize(reader.tokenizer, ["a cat left of a dog"])
    hidden = torch.zeros(1, ids.shape[1], 16)
    hidden[0, 0::2], hidden[0, 1::2] = echo.nouns[3] + echo.marks[0], echo.nouns[5] + echo.marks[1]
    loss, accuracy = echo(hidden, ids, end, torch.tensor([[3, 5]]))
    assert loss == 0 and accuracy == 1
    loss, accuracy = echo(hidden, ids, end, torch.tensor([[5, 3]]))
    assert loss > 0 and accuracy == 0


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
