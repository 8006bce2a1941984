"""Runs of special prompts and of changed models, for tests of the fast path and the stock path."""

from __future__ import annotations

import torch

from tests.comfy import graphs
from tests.comfy.graphs import same

SAMPLERS = {"all in one": graphs.sample, "ksampler": graphs.ksampler, "custom": graphs.custom}


QUERY = "transformer_layers.0.attn1.to_q.weight"


def own_way(patcher):
    """A clone without the short way."""
    from comfy.patcher_extension import WrappersMP

    clone = patcher.clone()
    clone.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, "amused")
    return clone


def run(comfy, patcher, loader, positive=None, change=None, batch=1, **settings):
    """What a KSampler gets from the model in each step, and what it draws."""
    seen, clone, text = [], patcher.clone(), graphs.prompts(comfy, loader)
    clone.set_model_sampler_post_cfg_function(
        lambda args: seen.append((args["cond_denoised"], args["uncond_denoised"])) or args["denoised"]
    )
    if change is not None:
        change(clone)
    positive = text if positive is None else comfy.give(positive)
    wires = {"model": comfy.give(clone), "positive": positive, "text": text}
    drawn = comfy.run(graphs.ksampler(comfy, loader, graphs.empty(comfy, loader, 36, 20, batch), **wires, **settings))
    return [logits for pair in seen for logits in pair], drawn


def equal(one, two):
    """Whether two runs had the same logits, bit for bit, and the same tokens."""
    (logits, drawn), (others, other) = one, two
    assert len(logits) == len(others) == 12
    return all(map(torch.equal, logits, others)) and same(drawn, other)


def conditioning(comfy, loader, text="a red apple", **more):
    """CONDITIONING of one entry."""
    ((hidden, info),) = comfy.run(comfy.node("CLIPTextEncode", clip=(loader, 1), text=text))
    return [[hidden, {**info, **more}]]


def joined(comfy, loader, count):
    """CONDITIONING of several prompts in a row, as 'Conditioning (Concat)' makes it."""
    ((hidden, facts),) = conditioning(comfy, loader, "on a blue plate")
    return [[hidden.repeat(1, count, 1), facts]]


def half_mask():
    mask = torch.zeros(1, 20, 36)
    mask[:, :, :16] = 1
    return mask


def special(name):
    """What a conditioning that is not plain holds."""
    import comfy.hooks

    return {
        "area": {"area": (4, 4, 0, 0)},
        "mask": {"mask": half_mask(), "set_area_to_bounds": False, "mask_strength": 1.0},
        "range": {"start_percent": 0.2, "end_percent": 0.7},
        "strength": {"strength": 0.5},
        "hooks": {"hooks": comfy.hooks.create_hook_lora({}, 1.0, 0.0)},
        "default": {"default": True},
    }[name]


def wrapped_function(clone):
    clone.set_model_unet_function_wrapper(lambda apply, args: apply(args["input"], args["timestep"], **args["c"]))


def wrapped_model(clone):
    from comfy.patcher_extension import WrappersMP

    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", lambda executor, *args, **kw: executor(*args, **kw))


def patched_attention(clone):
    clone.set_model_attn1_patch(lambda q, k, v, options: (q, k, v))


def speed(comfy, model, **settings):
    """AmusedSpeed that leaves everything as it is, but for `settings`."""
    own = {"int8": False, "guidance_from": 0.0, "guidance_to": 1.0, "guidance_every": 1}
    return comfy.node("AmusedSpeed", model=model, **(own | settings))


def partly(patcher, share):
    """Loads the model with room for a `share` of its weights; the modules left out."""
    patcher.patch_model(device_to=torch.device("cpu"), lowvram_model_memory=int(patcher.model_size() * share))
    leaves = [m for m in patcher.model.modules() if list(m.parameters(recurse=False))]
    return [module for module in leaves if not getattr(module, "comfy_patched_weights", False)]


def logits(patcher, text):
    tokens = torch.randint(0, 65, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    tokens[tokens == 64] = 71
    hidden, pooled = text[0][0].expand(2, -1, -1), text[0][1]["pooled_output"].expand(2, -1)
    micro = torch.tensor([[32.0, 32, 0, 0, 6]]).expand(2, -1)
    with torch.inference_mode():
        return patcher.model.diffusion_model(tokens, hidden, pooled, micro, {})


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


def stock(comfy, loader, change=wrapped_function):
    """The loader's MODEL after `change`: a node that does nothing, but that ComfyUI has to ask."""
    clone = comfy.run(loader).clone()
    change(clone)
    return comfy.give(clone)


def patch(name):
    """A weight of the U-ViT and what is added to it."""
    return {f"diffusion_model.{name}": (torch.randn(32, 32, generator=torch.Generator().manual_seed(0)),)}


def pre_cfg(clone):
    clone.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"])


def post_cfg(clone):
    clone.set_model_sampler_post_cfg_function(lambda args: args["denoised"])


def own_cfg(clone):
    clone.set_model_sampler_cfg_function(
        lambda args: args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"]
    )


def own_conds(clone):
    import comfy.samplers

    clone.model_options["sampler_calc_cond_batch_function"] = lambda args: comfy.samplers.calc_cond_batch(
        args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
    )


def replaced_attention(clone):
    clone.set_model_attn1_replace(lambda q, k, v, options: q, "middle", 0)


def watched_attention(clone):
    clone.model_options["transformer_options"]["amused_watch"] = lambda *args: None


def wrapper(kind):
    """Puts a wrapper that does nothing on a MODEL."""

    def change(clone):
        clone.add_wrapper_with_key(kind, "test", lambda executor, *args, **kw: executor(*args, **kw))

    return change


def callback(kind):
    """Puts a callback on a MODEL."""
    return lambda clone: clone.add_callback_with_key(kind, "test", lambda *args: None)
