"""Stock nodes around an aMUSEd model: they run, and where a result can be known it is that."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs


def same(one, two):
    return torch.equal(one["samples"], two["samples"])


@pytest.fixture
def start(comfy):
    """A loader, prompts and an empty latent."""
    loader = graphs.load(comfy)
    return loader, graphs.prompts(comfy, loader), graphs.empty(comfy, loader)


def advanced(comfy, loader, latent, guider, **settings):
    """SamplerCustomAdvanced with the seed of `graphs.custom`."""
    own = {
        "noise": comfy.node("RandomNoise", noise_seed=3),
        "sampler": graphs.sampler(comfy),
        "sigmas": comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=1.0),
    }
    return comfy.node("SamplerCustomAdvanced", guider=guider, latent_image=latent, **(own | settings))


def test_one_sampler_by_many_ways(comfy, start):
    """KSampler, SamplerCustom and SamplerCustomAdvanced give the same tokens."""
    loader, text, latent = start
    guider = comfy.node("CFGGuider", model=loader, positive=text, negative=(text, 1), cfg=3.0)
    one, two, three = comfy.run(
        graphs.ksampler(comfy, loader, latent, text),
        graphs.custom(comfy, loader, latent, text),
        advanced(comfy, loader, latent, guider),
    )
    assert same(one, two) and same(one, three)


def test_denoised_output_is_the_result(comfy, start):
    loader, text, latent = start
    run = graphs.custom(comfy, loader, latent, text)
    out, denoised = comfy.run(run, (run, 1))
    assert same(out, denoised)


def test_guiders(comfy, start):
    loader, text, latent = start
    wires = {"model": loader, "negative": (text, 1)}
    dual = {"model": loader, "cond1": text, "cond2": text, "negative": (text, 1), "cfg_conds": 3.0}
    guiders = [
        comfy.node("BasicGuider", model=loader, conditioning=text),
        comfy.node("CFGGuider", **wires, positive=text, cfg=1.0),
        comfy.node("DualCFGGuider", **dual, cfg_cond2_negative=2.0, style="regular"),
        comfy.node("PerpNegGuider", **wires, positive=text, empty_conditioning=(text, 1), cfg=3.0, neg_scale=1.0),
    ]
    results = comfy.run(*(advanced(comfy, loader, latent, guider) for guider in guiders))
    assert same(results[0], results[1]), "no guidance is guidance 1"
    assert all(result["samples"].min() >= 1 for result in results)


SCHEDULERS = ["simple", "sgm_uniform", "normal", "beta", "ddim_uniform", "linear_quadratic", "kl_optimal", "karras"]


@pytest.mark.parametrize("name", [*SCHEDULERS, "exponential"])
def test_stock_schedulers(comfy, start, name):
    loader, text, latent = start
    got = comfy.run(graphs.ksampler(comfy, loader, latent, text, scheduler=name))
    assert got["samples"].min() >= 1


@pytest.mark.parametrize("name", ["simple", "sgm_uniform"])
def test_even_stock_schedulers_are_the_models_schedule(comfy, start, name):
    loader, _, _ = start
    own = comfy.node("AmusedScheduler", model=loader, schedule="cosine", steps=10, denoise=1.0)
    stock = comfy.node("BasicScheduler", model=loader, scheduler=name, steps=10, denoise=1.0)
    listed = comfy.node("BasicScheduler", model=loader, scheduler="amused", steps=10, denoise=1.0)
    own, stock, listed = comfy.run(own, stock, listed)
    assert torch.equal(own, listed)
    torch.testing.assert_close(own, stock, atol=2e-3, rtol=0)


def test_two_stages(comfy, start):
    """A run cut in two (SplitSigmas, KSamplerAdvanced): the first keeps a share masked, the second keeps its tokens."""
    loader, text, latent = start
    sigmas = comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=1.0)
    split = comfy.node("SplitSigmas", sigmas=sigmas, step=3)
    first = graphs.custom(comfy, loader, latent, text, sigmas=split)
    second = graphs.custom(comfy, loader, first, text, sigmas=(split, 1), add_noise=False)
    own = {"model": loader, "positive": text, "negative": (text, 1), "noise_seed": 3, "steps": 6, "cfg": 3.0}
    own |= {"sampler_name": "amused", "scheduler": "amused"}
    stage = {"start_at_step": 0, "end_at_step": 3, "add_noise": "enable", "return_with_leftover_noise": "enable"}
    third = comfy.node("KSamplerAdvanced", latent_image=latent, **own, **stage)
    stage = {"start_at_step": 3, "end_at_step": 99, "add_noise": "disable", "return_with_leftover_noise": "disable"}
    fourth = comfy.node("KSamplerAdvanced", latent_image=third, **own, **stage)
    first, second, third, fourth = comfy.run(first, second, third, fourth)
    assert same(first, third)
    known = first["samples"] > 0
    assert int((~known).sum()) == int(torch.cos(torch.tensor(torch.pi / 4)) * 64)
    for last in (second, fourth):
        assert last["samples"].min() >= 1
        assert torch.equal(last["samples"][known], first["samples"][known])


def test_second_stage_does_not_depend_on_the_batch(comfy, start):
    loader, text, _ = start
    latent = graphs.latent(3)
    latent["samples"][:, :, 2:6] = 0
    alone = {"samples": latent["samples"][1:2]}
    runs = [graphs.custom(comfy, loader, comfy.give(value), text, add_noise=False) for value in (latent, alone)]
    batch, one = comfy.run(*runs)
    assert torch.equal(batch["samples"][1:2], one["samples"])
    assert torch.equal(batch["samples"][:, :, :2], latent["samples"][:, :, :2])


def test_add_noise_masks_tokens(comfy, start):
    loader, text, _ = start
    sigmas = comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=0.5)
    noise = comfy.node("RandomNoise", noise_seed=1)
    latent = graphs.latent(2)
    noisy = comfy.node("AddNoise", model=loader, noise=noise, sigmas=sigmas, latent_image=comfy.give(latent))
    run = graphs.custom(comfy, loader, noisy, text, sigmas=sigmas, add_noise=False)
    noisy, result = comfy.run(noisy, run)
    masked = noisy["samples"] == 0
    assert masked.flatten(1).sum(1).tolist() == [int(torch.cos(torch.tensor(torch.pi / 4)) * 64)] * 2
    assert torch.equal(result["samples"][~masked], latent["samples"][~masked]) and result["samples"].min() >= 1


def test_empty_latents_of_other_models(comfy, start):
    """All-zero latents mean "everything masked" whatever their channels; stock nodes count 8 pixels a cell."""
    loader, text, _ = start
    stock = comfy.node("EmptyLatentImage", width=64, height=64, batch_size=1)
    sd3 = comfy.node("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    runs = [graphs.sample(comfy, loader, latent, text) for latent in (graphs.empty(comfy, loader), stock, sd3)]
    own, *others = comfy.run(*runs)
    assert all(same(own, other) for other in others)


def stroke_mask(left):
    mask = torch.zeros(1, 32, 32)
    mask[:, :, :16] = left
    mask[:, :, 16:] = 1 - left
    return mask


def conditionings(comfy, loader, text):
    """CONDITIONING by stock node."""
    other = comfy.node("CLIPTextEncode", clip=(loader, 1), text="two blue cats")
    mask = {"conditioning": other, "mask": comfy.give(stroke_mask(1.0)), "strength": 1.0}
    area = {"conditioning": other, "strength": 1.0}
    return {
        "combine": comfy.node("ConditioningCombine", conditioning_1=text, conditioning_2=other),
        "average": comfy.node(
            "ConditioningAverage", conditioning_to=text, conditioning_from=other, conditioning_to_strength=0.5
        ),
        "concat": comfy.node("ConditioningConcat", conditioning_to=text, conditioning_from=other),
        "mask": comfy.node("ConditioningSetMask", **mask, set_cond_area="default"),
        "mask bounds": comfy.node("ConditioningSetMask", **mask, set_cond_area="mask bounds"),
        "area": comfy.node("ConditioningSetArea", **area, width=64, height=64, x=0, y=0),
        "area percent": comfy.node("ConditioningSetAreaPercentage", **area, width=0.5, height=1.0, x=0.5, y=0.0),
        "range": comfy.node("ConditioningSetTimestepRange", conditioning=other, start=0.3, end=0.8),
        "zero": comfy.node("ConditioningZeroOut", conditioning=other),
        "weights": comfy.node("CLIPTextEncode", clip=(loader, 1), text="a (red:1.5) [apple]"),
        "long": comfy.node("CLIPTextEncode", clip=(loader, 1), text="a red apple on a blue plate, " * 4),
        "layer": comfy.node(
            "CLIPTextEncode",
            clip=comfy.node("CLIPSetLastLayer", clip=(loader, 1), stop_at_clip_layer=-1),
            text="a red apple",
        ),
    }


NAMES = ["combine", "average", "concat", "mask", "mask bounds", "area", "area percent", "range", "zero", "weights"]


@pytest.mark.parametrize("name", [*NAMES, "long", "layer"])
def test_conditioning(comfy, start, name):
    """Each changes the picture; those for a part of picture or time are combined with a prompt for the rest."""
    loader, text, latent = start
    positive = conditionings(comfy, loader, text)[name]
    if name in ("mask", "mask bounds", "area", "area percent", "range"):
        positive = comfy.node("ConditioningCombine", conditioning_1=positive, conditioning_2=text)
    plain, got = comfy.run(
        graphs.sample(comfy, loader, latent, text),
        graphs.sample(comfy, loader, latent, positive=positive, negative=(text, 1), text=text),
    )
    assert got["samples"].min() >= 1
    assert not same(plain, got)


def test_regional_prompts_reach_their_region_only(comfy, start):
    """Two masked prompts: the logits of each half are those of its own prompt."""
    from comfy.samplers import CFGGuider

    loader, text, _ = start
    left = comfy.node("CLIPTextEncode", clip=(loader, 1), text="two blue cats")
    model, left, right = comfy.run(loader, left, text)
    seen = {}

    def logits(conds):
        guider = CFGGuider(model)
        guider.set_conds(conds, right)
        guider.set_cfg(1.0)
        guards = comfy.module("nodes.host.sampling")
        sampler = guards.amused_sampler((0.0, 0.0), "per_image", [1])
        original = guider.predict_noise

        def spy(x, *args, **kw):
            seen["logits"] = original(x, *args, **kw)
            return seen["logits"]

        guider.predict_noise = spy
        guider.sample(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), sampler, torch.tensor([1.0, 0.0]), seed=0)
        return seen["logits"]

    def masked(cond, mask):
        return [[cond[0][0], {**cond[0][1], "mask": mask, "mask_strength": 1.0}]]

    both = logits(masked(left, stroke_mask(1.0)) + masked(right, stroke_mask(0.0)))
    torch.testing.assert_close(both[..., :4], logits(left)[..., :4])
    torch.testing.assert_close(both[..., 4:], logits(right)[..., 4:])


@pytest.fixture
def embedding(comfy):
    """A textual inversion file of two vectors."""
    import folder_paths
    from safetensors.torch import save_file

    folder = comfy.models / "embeddings"
    folder.mkdir(exist_ok=True)
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    save_file({"clip_l": vectors}, folder / "style.safetensors")
    folder_paths.add_model_folder_path("embeddings", str(folder))
    comfy.fresh()


def test_embeddings(comfy, embedding, start):
    loader, text, latent = start
    styled = graphs.prompts(comfy, loader, "a red apple embedding:style")
    plain, got = comfy.run(*(graphs.sample(comfy, loader, latent, t) for t in (text, styled)))
    assert not same(plain, got)


def latents(comfy, name):
    """LATENT nodes that keep token ids whole."""
    one, two = comfy.give(graphs.latent()), comfy.give(graphs.latent(seed=6))
    small, large = (comfy.give(graphs.latent(height=side, width=side)) for side in (4, 16))
    composed = {"samples_to": one, "samples_from": small}
    resized = {"samples": one, "upscale_method": "nearest-exact"}
    return {
        "repeat": comfy.node("RepeatLatentBatch", samples=one, amount=2),
        "batch": comfy.node("LatentBatch", samples1=one, samples2=two),
        "composite": comfy.node("LatentComposite", **composed, x=16, y=16, feather=0),
        "composite masked": comfy.node(
            "LatentCompositeMasked", destination=one, source=two, x=0, y=0, resize_source=False
        ),
        "upscale": comfy.node("LatentUpscale", **resized, width=128, height=128, crop="disabled"),
        "upscale by": comfy.node("LatentUpscaleBy", **resized, scale_by=1.5),
        "flip": comfy.node("LatentFlip", samples=one, flip_method="y-axis: horizontally"),
        "rotate": comfy.node("LatentRotate", samples=one, rotation="90 degrees"),
        "crop": comfy.node("LatentCrop", samples=large, width=64, height=64, x=8, y=0),
    }[name]


EDITS = ["repeat", "batch", "composite", "composite masked", "upscale", "upscale by", "flip", "rotate", "crop"]


@pytest.mark.parametrize("name", EDITS)
def test_latent_edits(comfy, start, name):
    loader, text, _ = start
    edited = latents(comfy, name)
    run = graphs.sample(comfy, loader, edited, text, denoise=0.5, steps=4)
    latent, image = comfy.run(run, comfy.node("VAEDecode", samples=run, vae=(loader, 2)))
    assert latent["samples"].min() >= 1 and image.ndim == 4


def test_save_and_load_latent(comfy, start, tmp_path):
    from safetensors.torch import load_file

    loader, text, latent = start
    run = graphs.sample(comfy, loader, latent, text)
    save = comfy.node("SaveLatent", samples=run, filename_prefix="kept")
    prompt = {}
    comfy._collect(save, prompt)
    comfy.prompt(prompt)
    file = next((comfy.models / "output").rglob("kept*.latent"))
    assert torch.equal(load_file(file)["latent_tensor"], comfy.run(run)["samples"])


@pytest.mark.parametrize("node", ["VAEEncodeForInpaint", "InpaintModelConditioning"])
def test_stock_inpainting(comfy, start, node):
    loader, text, _ = start
    image, mask = graphs.picture(), graphs.block_mask()
    wires = {"pixels": comfy.give(image), "mask": comfy.give(mask), "vae": (loader, 2)}
    if node == "VAEEncodeForInpaint":
        latent = comfy.node(node, **wires, grow_mask_by=0)
        run = graphs.sample(comfy, loader, latent, text)
    else:
        node = comfy.node(node, **wires, positive=text, negative=(text, 1), noise_mask=True)
        latent = (node, 2)
        run = graphs.sample(comfy, loader, latent, positive=node, negative=(node, 1), text=text)
    encoded, got = comfy.run(latent, run)
    cells = mask[0, ::4, ::4] > 0
    assert torch.equal(got["samples"][0, 0][~cells], encoded["samples"][0, 0][~cells])
    assert not torch.equal(got["samples"][0, 0][cells], encoded["samples"][0, 0][cells])


def test_skipped_layers_have_an_effect(comfy, start):
    loader, text, latent = start
    layers = {"double_layers": "1", "single_layers": "", "start_percent": 0.0, "end_percent": 1.0}
    own = {"model": loader, "rescaling_scale": 0.0, **layers}
    strong, none = (comfy.node("SkipLayerGuidanceDiT", scale=scale, **own) for scale in (3.0, 0.0))
    runs = (graphs.custom(comfy, loader, latent, text, model=model) for model in (loader, strong, none))
    plain, patched, nothing = comfy.run(*runs)
    assert not same(plain, patched)
    assert same(plain, nothing)


@pytest.mark.parametrize("name", ["attn1", "attn2"])
def test_attention_patches_replace_one_attention(comfy, start, name):
    """("middle", 0) is the layer in the middle of the trunk: the patch gets its q, k and v, once."""
    loader, text, _ = start
    model, text = comfy.run(loader, text)
    tokens, micro = torch.full((1, 8, 8), 71), torch.tensor([[32.0, 32, 0, 0, 6]])
    seen = []

    def patch(q, k, v, options):
        seen.append((q.shape, k.shape, options["n_heads"], options["block"]))
        return torch.zeros_like(q)

    def logits(patches):
        hidden, pooled = text[0][0], text[0][1]["pooled_output"]
        return model.model.diffusion_model(tokens, hidden, pooled, micro, {"patches_replace": patches})

    assert not torch.allclose(logits({}), logits({name: {("middle", 0): patch}}))
    assert seen == [((1, 64, 32), (1, 64 if name == "attn1" else 24, 32), 2, ("middle", 0))]


def test_perturbed_attention_guidance(comfy, start):
    loader, text, latent = start
    strong, none = (comfy.node("PerturbedAttentionGuidance", model=loader, scale=scale) for scale in (100.0, 0.0))
    runs = (graphs.custom(comfy, loader, latent, text, model=model, steps=12) for model in (loader, strong, none))
    plain, patched, nothing = comfy.run(*runs)
    assert not same(plain, patched)
    assert same(plain, nothing)


GUIDANCE = {
    "RescaleCFG": {"multiplier": 0.7},
    "TCFG": {},
    "Mahiro": {},
    "APG": {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0},
    "CFGZeroStar": {},
    "CFGNorm": {"strength": 1.0},
    "UNetSelfAttentionMultiply": {"q": 1.2, "k": 1.0, "v": 1.0, "out": 1.0},
    "DifferentialDiffusion": {},
    "ContextWindowsManual": {
        "context_length": 4,
        "context_overlap": 2,
        "context_schedule": "standard_static",
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "dim": 2,
    },
    "ModelComputeDtype": {"dtype": "fp32"},
}


@pytest.mark.parametrize("node", GUIDANCE)
def test_model_patches_run(comfy, start, node):
    if node not in comfy.nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {node}")
    loader, text, latent = start
    patched = comfy.node(node, model=loader, **GUIDANCE[node])
    got = comfy.run(graphs.custom(comfy, loader, latent, text, model=patched))
    assert got["samples"].min() >= 1


def test_merging(comfy, start):
    """a + (b - a) is b; a halfway merge is neither."""
    loader, _, latent = start
    # The other model's cells are larger, so the size it is told must be said.
    text, other = graphs.prompts(comfy, loader, width=32, height=32), graphs.load(comfy, "tiny8")
    difference = comfy.node("ModelMergeSubtract", model1=other, model2=loader, multiplier=1.0)
    whole = comfy.node("ModelMergeAdd", model1=loader, model2=difference)
    half = comfy.node("ModelMergeSimple", model1=loader, model2=other, ratio=0.5)
    runs = (graphs.custom(comfy, loader, latent, text, model=model) for model in (loader, other, whole, half))
    a, b, sum_, mean = comfy.run(*runs)
    assert same(b, sum_)
    assert not same(mean, a) and not same(mean, b)


def lora_file(comfy, model):
    """A LoRA of rank 2 for every attention of the trunk, under the names ComfyUI gives our layers."""
    import folder_paths
    from safetensors.torch import save_file

    folder = comfy.models / "loras"
    folder.mkdir(exist_ok=True)
    generator, tensors = torch.Generator().manual_seed(0), {}
    for key in model.model.state_dict():
        if ".transformer_layers." in key and key.endswith(("to_q.weight", "to_v.weight")):
            name = key.removesuffix(".weight")
            tensors[f"{name}.lora_down.weight"] = torch.randn(2, 32, generator=generator)
            tensors[f"{name}.lora_up.weight"] = torch.randn(32, 2, generator=generator)
    save_file(tensors, folder / "style.safetensors")
    folder_paths.add_model_folder_path("loras", str(folder))


def test_lora_and_hooks(comfy, start):
    """A LoRA changes the picture, and does the same as a hook."""
    loader, text, latent = start
    lora_file(comfy, comfy.run(loader))
    patched = comfy.node("LoraLoaderModelOnly", model=loader, lora_name="style.safetensors", strength_model=0.5)
    hook = comfy.node("CreateHookLoraModelOnly", lora_name="style.safetensors", strength_model=0.5)
    hooked = [
        comfy.node("ConditioningSetProperties", cond_NEW=cond, strength=1.0, set_cond_area="default", hooks=hook)
        for cond in (text, (text, 1))
    ]
    plain, lora, hook = comfy.run(
        graphs.custom(comfy, loader, latent, text),
        graphs.custom(comfy, loader, latent, text, model=patched),
        graphs.custom(comfy, loader, latent, positive=hooked[0], negative=hooked[1]),
    )
    assert not same(plain, lora)
    assert same(lora, hook)


def test_model_save(comfy, start):
    """The saved weights have the keys of diffusers' U-ViT behind ComfyUI's prefix."""
    from safetensors.torch import load_file

    loader, _, _ = start
    prompt = {}
    comfy._collect(comfy.node("ModelSave", model=loader, filename_prefix="weights"), prompt)
    comfy.prompt(prompt)
    saved = load_file(next((comfy.models / "output").rglob("weights*.safetensors")))
    ours = load_file(comfy.models / "amused" / "tiny" / "transformer" / "diffusion_pytorch_model.safetensors")
    prefix = "model.diffusion_model."
    assert {key.removeprefix(prefix) for key in saved if key.startswith(prefix)} == set(ours)
    assert all(torch.equal(saved[prefix + key], value) for key, value in ours.items())


def test_vae_save(comfy, start):
    from safetensors.torch import load_file

    loader, _, _ = start
    prompt = {}
    comfy._collect(comfy.node("VAESave", vae=(loader, 2), filename_prefix="vae"), prompt)
    comfy.prompt(prompt)
    saved = load_file(next((comfy.models / "output").rglob("vae*.safetensors")))
    ours = load_file(comfy.models / "amused" / "tiny" / "vqvae" / "diffusion_pytorch_model.safetensors")
    assert set(saved) == set(ours)


def test_mask_of_soft_edges(comfy, start):
    """A grey pixel counts from one half on, and any such pixel takes its cell."""
    loader, text, _ = start
    latent = graphs.latent()
    mask = torch.zeros(1, 32, 32)
    mask[0, 1, 1], mask[0, 9, 9] = 0.6, 0.4
    start = comfy.node("SetLatentNoiseMask", samples=comfy.give(latent), mask=comfy.give(mask))
    seen = set()
    for seed in range(6):
        got = comfy.run(graphs.custom(comfy, loader, start, text, noise_seed=seed, steps=1))
        seen |= {tuple(cell) for cell in (got["samples"][0, 0] != latent["samples"][0, 0]).nonzero().tolist()}
    assert seen == {(0, 0)}
