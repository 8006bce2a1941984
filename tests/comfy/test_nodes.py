"""Loading, encoding and sampling nodes: what each gives for what it gets."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs


def test_loader_lists_and_loads(comfy):
    """Folders of both kinds, one-file checkpoints, and extra paths; other models are left out."""
    from amused_core.checkpoint import open_checkpoint
    from amused_core.checkpoint.single_file import write_checkpoint

    one = comfy.models / "amused" / "sub" / "one.safetensors"
    write_checkpoint(one, open_checkpoint(comfy.models / "amused" / "tiny"))
    other = comfy.models / "diffusers" / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"transformer": ["diffusers", "FluxTransformer2DModel"]}')
    (comfy.models / "amused" / "broken.safetensors").write_bytes(b"nothing")
    folders = comfy.module("nodes.host.load.folders")
    assert folders.model_names() == ["embedded", "sub/one.safetensors", "tiny", "tiny512", "tiny8"]
    before = folders.fingerprint("sub/one.safetensors")
    runs = []
    for name in ("tiny", "sub/one.safetensors"):
        loader = graphs.load(comfy, name)
        runs.append(comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader))))
    assert torch.equal(runs[0]["samples"], runs[1]["samples"])
    write_checkpoint(one, open_checkpoint(comfy.models / "amused" / "tiny512"))
    assert folders.fingerprint("sub/one.safetensors") != before, "a replaced file is loaded again"
    one.unlink()
    assert "sub/one.safetensors" not in folders.model_names()


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_loader_dtypes(comfy, dtype):
    loader = graphs.load(comfy, dtype=dtype)
    model, latent = comfy.run(loader, graphs.sample(comfy, loader, graphs.empty(comfy, loader)))
    want = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert {parameter.dtype for parameter in model.model.diffusion_model.parameters()} == {want}
    assert latent["samples"].min() >= 1


def test_auto_dtype_is_full_precision_on_a_cpu(comfy):
    loader = graphs.load(comfy)
    model, clip = comfy.run(loader, (loader, 1))
    for module in (model.model.diffusion_model, clip.cond_stage_model.clip_l.transformer):
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_loader_keeps_what_it_has(comfy):
    """Nothing on disk changed, so the next prompt gets the same MODEL."""
    loader = graphs.load(comfy)
    assert comfy.run(loader) is comfy.run(loader)


def test_text_encode_is_the_stock_one_twice(comfy):
    loader = graphs.load(comfy)
    text = graphs.prompts(comfy, loader, "a (red:1.3) apple", "blue")
    stock = [comfy.node("CLIPTextEncode", clip=(loader, 1), text=t) for t in ("a (red:1.3) apple", "blue")]
    positive, negative, *wanted = comfy.run(text, (text, 1), *stock)
    for got, want in zip((positive, negative), wanted, strict=True):
        assert torch.equal(got[0][0], want[0][0])
        assert torch.equal(got[0][1]["pooled_output"], want[0][1]["pooled_output"])


MICRO = {"width": 100, "height": 60, "crop_top": 3, "crop_left": 5, "aesthetic_score": 2.0}


def test_micro_conditioning(comfy):
    """Both nodes say the same, it has an effect, and the default is the picture's own size with a score of 6."""
    loader = graphs.load(comfy)
    start, plain = graphs.empty(comfy, loader), graphs.prompts(comfy, loader)

    def run(text):
        return graphs.sample(comfy, loader, start, positive=text, negative=(plain, 1))

    def micro(**values):
        stock = comfy.node("CLIPTextEncode", clip=(loader, 1), text="a red apple")
        return run(comfy.node("AmusedMicroConditioning", conditioning=stock, **(MICRO | values)))

    own = {"width": 32, "height": 32, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
    runs = [run(graphs.prompts(comfy, loader, **MICRO)), micro(), run(plain), micro(**own)]
    one, two, default, explicit = (latent["samples"] for latent in comfy.run(*runs))
    assert torch.equal(one, two)
    assert torch.equal(default, explicit)
    assert not torch.equal(one, default)


def test_micro_conditioning_reaches_the_model_in_order(comfy):
    """Width, height, crop top, crop left, score; also from the stock node for SDXL's refiner."""
    loader = graphs.load(comfy)
    model, text = comfy.run(loader, graphs.prompts(comfy, loader, **MICRO))
    refiner = comfy.run(
        comfy.node("CLIPTextEncodeSDXLRefiner", clip=(loader, 1), text="x", ascore=2.5, width=640, height=480)
    )
    noise = torch.zeros(1, 1, 8, 10)

    def micro(entry, **more):
        known = {"cross_attn": entry[0][0], "noise": noise, "width": 80, "height": 64}
        return model.model.extra_conds(**(known | entry[0][1] | more))["micro"].cond.tolist()

    assert micro(text) == [[100, 60, 3, 5, 2]]
    assert micro(refiner) == [[640, 480, 0, 0, 2.5]]
    assert micro(text, amused_micro=(0, 0, 1, 2, 6)) == [[40, 32, 1, 2, 6]]


def test_empty_latent(comfy):
    """The cell's size comes from the model, and 0 is the model's own size."""
    small, large = graphs.load(comfy), graphs.load(comfy, "tiny8")
    runs = [graphs.empty(comfy, small, 40, 32, 3), graphs.empty(comfy, large, 40, 32), graphs.empty(comfy, large, 0, 0)]
    shapes = [tuple(latent["samples"].shape) for latent in comfy.run(*runs)]
    assert shapes == [(3, 1, 8, 10), (1, 1, 4, 5), (1, 1, 8, 8)]


def test_embedded_model(comfy):
    """The default of every node: what `generate` draws without any settings."""
    from amused_core import load_model
    from amused_core.checkpoint import EMBEDDED

    if not (EMBEDDED / "model_index.json").is_file():
        pytest.skip("no embedded model here")
    loader = graphs.load(comfy, "embedded")
    latent = graphs.empty(comfy, loader, 0, 0)
    run = graphs.sample(comfy, loader, latent, cfg=0.0, steps=12, seed=1)
    latent, image = comfy.run(run, comfy.node("VAEDecode", samples=run, vae=(loader, 2)))
    want = load_model(device="cpu").generate("a red apple", seed=1)
    assert torch.equal(graphs.tokens(latent), want.tokens)
    assert torch.equal(image, want.images)


def test_scheduler(comfy):
    loader = graphs.load(comfy)

    def sigmas(**settings):
        own = {"schedule": "auto", "steps": 4, "denoise": 1.0}
        return comfy.node("AmusedScheduler", model=loader, **(own | settings))

    auto, linear, half, none = comfy.run(sigmas(), sigmas(schedule="linear"), sigmas(denoise=0.5), sigmas(denoise=0.0))
    torch.testing.assert_close(auto, torch.cos(torch.arange(5) / 4 * torch.pi / 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(linear, torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    assert torch.equal(half, auto[2:])
    assert none.numel() == 0


def test_sampler_select(comfy):
    """Temperature has an effect; 0 and 0 is not random in the choice of cells."""
    loader = graphs.load(comfy)
    start = graphs.empty(comfy, loader)

    def run(first, last):
        own = comfy.node("AmusedSamplerSelect", temperature_start=first, temperature_end=last, seeding="per_image")
        return graphs.custom(comfy, loader, start, sampler=own)

    cold, hot, again = comfy.run(run(0.0, 0.0), run(50.0, 50.0), run(0.0, 0.0))
    assert torch.equal(cold["samples"], again["samples"])
    assert not torch.equal(cold["samples"], hot["samples"])


def test_sampler_reports_each_step(comfy):
    loader = graphs.load(comfy)
    comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), steps=5))
    assert [step[:2] for step in comfy.steps] == [(i, 5) for i in range(1, 6)]


def test_previews_show_the_codes_colours(comfy):
    """ComfyUI's own preview: one pixel per cell, coloured like the decoded picture."""
    from latent_preview import get_previewer

    loader = graphs.load(comfy)
    comfy.previews("auto")
    try:
        model, _ = comfy.run(loader, graphs.sample(comfy, loader, graphs.empty(comfy, loader), steps=2))
        previews = [step[2] for step in comfy.steps]
        previewer = get_previewer(torch.device("cpu"), model.model.latent_format)
    finally:
        comfy.previews("none")
    assert [preview[1].size for preview in previews] == [(8, 8)] * 2
    vae = comfy.run((loader, 2))
    planes = torch.zeros(1, 64, 1, 2)
    planes[0, 9, 0, 0] = 1  # the second cell is masked
    shown = previewer.decode_latent_to_preview(planes)
    own = vae.decode(torch.full((1, 1, 1, 1), 10.0)).mean(dim=(0, 1, 2)) * 255
    assert all(abs(a - b) <= 1.5 for a, b in zip(shown.getpixel((0, 0)), own.tolist(), strict=True))
    assert shown.getpixel((1, 0)) == (127, 127, 127)


def test_colours_of_a_large_codebook_are_fitted(comfy, monkeypatch):
    """A linear fit on a part of the codes is closer to the true colours than their mean is."""
    preview = comfy.module("nodes.host.latent.preview")
    vq = comfy.run((graphs.load(comfy), 2)).first_stage_model.vq
    exact = preview.code_colors(vq)
    monkeypatch.setattr(preview, "MAX_DECODED", 32)
    fitted = preview.code_colors(vq)
    assert fitted.shape == exact.shape == (64, 3)
    assert (fitted - exact).square().mean() < exact.var(dim=0).mean()
