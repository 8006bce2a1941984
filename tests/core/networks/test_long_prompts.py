"""Prompts that are longer than the text encoder: cut as in diffusers, with a sentence on what is left out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from amused_core import AmusedModel, load_model
from amused_core.cli import main
from amused_core.networks.text import SHOWN, Text
from amused_core.pipelines import AmusedPipeline

# 22 tokens fit the tiny encoder, one for each letter.
READ, LEFT = "abcdefghijklmnopqrst uv", "Then a Café, تفاحة"
LONG = f"{READ} {LEFT}"
SENTENCE = f'The prompt is longer than the 22 tokens that the text encoder reads; left out is "{LEFT}".'


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_generate_says_what_is_left_out(model: AmusedModel, caplog: pytest.LogCaptureFixture) -> None:
    """diffusers#472; each time, also where the prompt is remembered."""
    for _ in range(2):
        tokens = model.generate(LONG, steps=2, cfg=1.0).tokens
        assert said(caplog) == [SENTENCE]
        caplog.clear()
    assert torch.equal(tokens, model.generate(READ, steps=2, cfg=1.0).tokens)
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("call", "count"),
    [
        ({"prompt": [LONG, LONG, READ]}, 1),
        ({"prompt": LONG, "batch_size": 3}, 1),
        ({"prompt": READ, "negative_prompt": LONG, "cfg": 3.0}, 1),
        ({"prompt": READ, "negative_prompt": LONG, "cfg": 1.0}, 0),
        ({"prompt": [LONG, LONG + "!"]}, 2),
    ],
)
def test_once_for_each_prompt_that_is_read(
    model: AmusedModel, caplog: pytest.LogCaptureFixture, call: dict[str, Any], count: int
) -> None:
    model.generate(**{"steps": 1, "cfg": 1.0, **call})
    assert len(said(caplog)) == count


@pytest.mark.parametrize("count", range(0, 26))
def test_the_first_token_too_many(model: AmusedModel, count: int) -> None:
    assert model.text.left_out("x" * count) == "x" * max(0, count - 22)


def test_many_words_are_shortened(model: AmusedModel, caplog: pytest.LogCaptureFixture) -> None:
    model.generate("apple\n" * 5000, steps=1, cfg=1.0)
    (sentence,) = said(caplog)
    assert "\n" not in sentence and SHOWN < len(sentence) < SHOWN + 120


def test_the_embedded_model(caplog: pytest.LogCaptureFixture) -> None:
    words = " ".join(["a red apple on a blue background and"] * 5) + " finally a Boat"
    load_model().generate(words, steps=1)
    (sentence,) = said(caplog)
    assert "than the 30 tokens" in sentence and 'finally a Boat".' in sentence
    assert "a blue" in sentence.partition("left out is")[2]


def test_the_command_says_it_on_stderr(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--model", str(folder), "--steps", "1", LONG]) == 0
    captured = capsys.readouterr()
    assert captured.err.count(f"amused: {SENTENCE}\n") == 1 and "left out" not in captured.out
    assert main(["generate", "--model", str(folder), "--steps", "1", READ]) == 0
    assert "left out" not in capsys.readouterr().err
    assert not logging.getLogger("amused_core").handlers, "nothing stays behind"


def test_the_pipeline_says_it_and_draws_as_diffusers(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    import diffusers

    run = {"num_inference_steps": 2, "output_type": "latent"}
    ours, theirs = (cls.from_pretrained(folder) for cls in (AmusedPipeline, diffusers.AmusedPipeline))
    caplog.clear()
    got = ours(LONG, **run, generator=torch.Generator().manual_seed(3)).images
    assert said(caplog) == [SENTENCE]
    assert torch.equal(got, theirs(LONG, **run, generator=torch.Generator().manual_seed(3)).images)


class Slow:
    """A tokenizer without offsets, as transformers 4 gives it to a pipeline."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.model_max_length = tokenizer.model_max_length
        self.decode = tokenizer.decode

    def __call__(self, text: Any, **settings: Any) -> Any:
        assert "return_offsets_mapping" not in settings
        return self._tokenizer(text, **settings)


def test_a_tokenizer_without_offsets(model: AmusedModel, folder: Path) -> None:
    text = Text(model.text.module, Slow(CLIPTokenizer.from_pretrained(folder / "tokenizer")))
    assert text.left_out(READ) == "" and text.left_out(LONG).split()[0] == "then"


def test_a_long_caption_is_in_the_report(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra 'train' is not installed")
    from amused_core.finetune.plan import TrainingPlan
    from amused_core.finetune.prepare import prepare
    from amused_core.finetune.settings import TrainingSettings

    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    plan = TrainingPlan(tmp_path / "x.png", LONG, tmp_path / "out")
    prepare(load_model(folder), plan, TrainingSettings(steps=1, batch=1, rank=2))
    assert SENTENCE in (tmp_path / "out" / "report.txt").read_text(encoding="utf-8")
