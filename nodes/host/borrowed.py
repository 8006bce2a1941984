"""What the pack borrows of ComfyUI that is not its public API, file by file; a test walks the list on each version.

An entry is a dotted name, where the pack calls it with what it hands over: `name(positional, keyword=)`.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

# Without these there is no aMUSEd in ComfyUI.
NEEDED: dict[str, tuple[str, ...]] = {
    "model/attention.py": (
        "comfy.cli_args.args.use_quad_cross_attention",
        "comfy.cli_args.args.use_split_cross_attention",
        "comfy.ldm.modules.attention.attention_pytorch(q, k, v, heads)",
        "comfy.ldm.modules.attention.attention_sub_quad(q, k, v, heads)",
        "comfy.ldm.modules.attention.optimized_attention(q, k, v, heads)",
    ),
    "batch/progress.py": (
        "comfy.model_management.throw_exception_if_processing_interrupted()",
        "comfy.utils.ProgressBar(total)",
        "comfy.utils.ProgressBar.update_absolute(self, value, total, preview)",
    ),
    "sample/checks.py": ("comfy.samplers.KSAMPLER",),
    "text/clip.py": (
        "comfy.clip_model.CLIPAttention(width, heads, dtype=, device=, operations=)",
        "comfy.clip_model.CLIPAttention.forward(self, x, mask, attention)",
        "comfy.clip_model.CLIPEmbeddings(width, words, positions, dtype=, device=, operations=)",
        "comfy.clip_model.CLIPTextModel(config, dtype, device, operations)",
        "comfy.ldm.modules.attention.attention_basic(q, k, v, heads)",
        "comfy.model_management.is_device_cpu(device)",
        "comfy.model_management.text_encoder_device()",
        "comfy.model_management.text_encoder_dtype(device)",
        "comfy.model_management.text_encoder_offload_device()",
        "comfy.patcher_extension.CallbacksMP.ON_LOAD",
        "comfy.sd.CLIP(target, embedding_directory=, model_options=)",
        "comfy.sd1_clip.SD1ClipModel(device=, dtype=, model_options=, clip_model=)",
        "comfy.sd1_clip.SD1ClipModel.encode_token_weights(self, pairs)",
        "comfy.sd1_clip.SDClipModel(layer=, layer_idx=, textmodel_json_config=, model_class=, special_tokens=, "
        "layer_norm_hidden_state=, return_projected_pooled=)",
        "comfy.supported_models_base.ClipTarget(tokenizer, model)",
        "folder_paths.get_folder_paths(kind)",
    ),
    "compat.py": (
        "comfy.cli_args.LatentPreviewMethod.TAESD",
        "comfy.cli_args.args.preview_method",
        "comfy.k_diffusion.sampling",
        "comfy.latent_formats.LatentFormat",
        "comfy.model_patcher.ModelPatcher.patch_weight_to_device(self, key)",
        "comfy.samplers.KSAMPLER_NAMES",
        "comfy.samplers.KSampler.SAMPLERS",
        "comfy.samplers.KSampler.SCHEDULERS",
        "comfy.samplers.SAMPLER_NAMES",
        "comfy.samplers.SCHEDULER_HANDLERS",
        "comfy.samplers.SCHEDULER_NAMES",
        "comfy.samplers.SchedulerHandler(handler)",
        "comfy.sd.CLIP(target, embedding_directory=, model_options=)",
    ),
    "model/condition_cache.py": ("comfy.model_base.BaseModel",),
    "load/folders.py": ("folder_paths.get_folder_paths(kind)", "folder_paths.models_dir"),
    "latent/latent_format.py": ("comfy.latent_formats.LatentFormat",),
    "latent/latents.py": ("comfy.model_management.intermediate_device()",),
    "model/layers.py": (
        "comfy.model_management.cast_to_device(tensor, device, dtype)",
        "comfy.model_patcher.ModelPatcher.patch_weight_to_device(self, key, device_to=)",
        "comfy.ops.CastWeightBiasOp",
        "comfy.ops.cast_bias_weight(layer, x)",
        "comfy.ops.pick_operations(weight_dtype, compute_dtype)",
    ),
    "load/lora.py": (
        "comfy.lora.load_lora(lora, keys)",
        "comfy.model_patcher.ModelPatcher.add_patches(self, patches, strength)",
        "folder_paths.get_filename_list(kind)",
        "folder_paths.get_full_path(kind, name)",
    ),
    "model/base_model.py": (
        "comfy.conds.CONDCrossAttn(tensor)",
        "comfy.conds.CONDRegular(tensor)",
        "comfy.model_base.BaseModel(config, device=)",
        "comfy.model_base.BaseModel.get_dtype(self)",
        "comfy.model_base.BaseModel.state_dict_for_saving",
        "comfy.model_management.cast_to_device(tensor, device, dtype)",
        "comfy.model_management.get_torch_device()",
        "comfy.model_management.unet_dtype(device, parameters, weight_dtype=)",
        "comfy.model_management.unet_manual_cast(dtype, device)",
        "comfy.model_management.unet_offload_device()",
        "comfy.model_patcher.ModelPatcher(model, load_device=, offload_device=)",
        "comfy.model_patcher.ModelPatcher.add_callback_with_key(self, kind, key, callback)",
        "comfy.model_patcher.ModelPatcher.add_wrapper_with_key(self, kind, key, wrapper)",
        "comfy.patcher_extension.CallbacksMP.ON_CLEANUP",
        "comfy.patcher_extension.CallbacksMP.ON_LOAD",
        "comfy.patcher_extension.CallbacksMP.ON_PRE_RUN",
        "comfy.patcher_extension.WrappersMP.OUTER_SAMPLE",
        "comfy.supported_models_base.BASE(config)",
        "comfy.supported_models_base.BASE.set_inference_dtype(self, dtype, compute_dtype)",
    ),
    "save/output.py": (
        "folder_paths.get_output_directory()",
        "folder_paths.get_save_image_path(prefix, folder)",
    ),
    "model/patches.py": ("comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL",),
    "sample/sampler.py": (
        "comfy.model_management.intermediate_device()",
        "comfy.sample.fix_empty_latent_channels(model, latent)",
        "comfy.samplers.KSAMPLER(function, options)",
        "comfy.samplers.sample(model, noise, positive, negative, cfg, device, sampler, sigmas, model_options=, "
        "latent_image=, denoise_mask=, callback=, disable_pbar=, seed=)",
        "comfy.utils.PROGRESS_BAR_ENABLED",
        "latent_preview.prepare_callback(model, steps)",
    ),
    "save/checkpoint.py": (
        "comfy.cli_args.args.disable_metadata",
        "comfy.model_management.load_models_gpu(models, force_patch_weights=)",
    ),
    "sample/speed.py": (
        "comfy.patcher_extension.WrappersMP.OUTER_SAMPLE",
        "comfy.samplers.calc_cond_batch(model, conds, x, timestep, options)",
    ),
    "text/tokenizer.py": (
        "comfy.sd1_clip.SD1Tokenizer(embedding_directory=, tokenizer_data=, tokenizer=)",
        "comfy.sd1_clip.SDTokenizer(tokenizer_class=, max_length=, pad_token=, embedding_size=, pad_to_max_length=)",
        "comfy.sd1_clip.SDTokenizer.state_dict(self)",
        "comfy.sd1_clip.SDTokenizer.tokenize_with_weights(self, text, return_word_ids)",
    ),
    "load/input_files.py": ("folder_paths.annotated_filepath(name)", "folder_paths.get_input_directory()"),
    "train/lora.py": (
        "comfy.lora.load_lora(lora, keys)",
        "comfy.model_management.InterruptProcessingException",
        "comfy.model_management.get_torch_device()",
        "comfy.model_management.load_models_gpu(models, force_full_load=)",
        "comfy.model_management.throw_exception_if_processing_interrupted()",
        "comfy.model_management.unload_all_models()",
        "comfy.model_patcher.ModelPatcher.add_patches(self, patches, strength)",
        "comfy.utils.ProgressBar(total)",
        "comfy.utils.ProgressBar.update_absolute(self, value, total, preview)",
    ),
    "latent/vae.py": (
        "comfy.model_management.dtype_size(dtype)",
        "comfy.model_management.intermediate_device()",
        "comfy.model_management.load_models_gpu(models, force_full_load=)",
        "comfy.model_management.throw_exception_if_processing_interrupted()",
        "comfy.model_management.vae_device()",
        "comfy.model_management.vae_offload_device()",
        "comfy.model_patcher.ModelPatcher(model, load_device=, offload_device=)",
        "comfy.sd.VAE(sd=)",
        "comfy.sd.VAE.decode(self, samples)",
        "comfy.sd.VAE.decode_tiled(self, samples)",
        "comfy.sd.VAE.encode(self, pixels)",
        "comfy.sd.VAE.encode_tiled(self, pixels)",
        "comfy.sd.VAE.encode_tiled_",
        "comfy.sd.VAE.get_sd(self)",
        "comfy.utils.ProgressBar(total)",
        "comfy.utils.get_tiled_scale_steps(width, height, tile_x, tile_y, overlap)",
        "comfy.utils.tiled_scale(samples, function, tile_x, tile_y, overlap, upscale_amount=, out_channels=, "
        "output_device=, pbar=)",
    ),
}
# Without these plain prompts take the stock path; see `compat.try_fast_path`.
FAST: dict[str, tuple[str, ...]] = {
    "compat.py": (
        "comfy.model_management.get_free_memory(device)",
        "comfy.model_patcher.ModelPatcher.prepare_state",
    ),
    "sample/fast_path.py": (
        "comfy.samplers.CFGGuider.__call__(self, x, sigma, model_options=, seed=)",
        "comfy.samplers.CFGGuider.outer_predict_noise",
        "comfy.samplers.CFGGuider.predict_noise(self, x, sigma)",
        "comfy.samplers.KSamplerX0Inpaint",
        "comfy.samplers.calc_cond_batch(model, conds, x, timestep, options)",
        "comfy.samplers.cfg_function(model, cond, uncond, scale, x, timestep)",
        "comfy.samplers.sampling_function(model, x, timestep, uncond, cond, scale)",
    ),
    "model/base_model.py": ("comfy.patcher_extension.WrappersMP.CALC_COND_BATCH",),
    "sample/plain.py": (
        "comfy.model_base.BaseModel.apply_model(self, x, timestep, transformer_options=)",
        "comfy.model_base.BaseModel.memory_required(self, shape)",
        "comfy.model_patcher.ModelPatcher.apply_hooks(self, hooks=)",
        "comfy.patcher_extension.CallbacksMP.ON_APPLY_HOOKS",
        "comfy.patcher_extension.CallbacksMP.ON_PREPARE_STATE",
        "comfy.patcher_extension.WrappersMP.APPLY_MODEL",
        "comfy.patcher_extension.WrappersMP.CALC_COND_BATCH",
        "comfy.patcher_extension.WrappersMP.PREDICT_NOISE",
        "comfy.patcher_extension.get_all_callbacks(kind, options)",
        "comfy.patcher_extension.get_all_wrappers(kind, options, is_model_options=)",
        "comfy.samplers.cond_cat(conds)",
        "comfy.samplers.cond_equal_size(one, two)",
        "comfy.samplers.get_area_and_mult(cond, x, timestep)",
    ),
}


def problem(entry: str) -> str | None:
    """Why this ComfyUI does not fit an entry, or None. What it names must have been imported."""
    name, called, arguments = entry.removesuffix(")").partition("(")
    try:
        symbol = _find(name)
    except AttributeError:
        return f"{name} is missing"
    if not called:
        return None
    given = [argument for argument in arguments.split(", ") if argument]
    keywords = [argument.removesuffix("=") for argument in given if argument.endswith("=")]
    try:
        fits = inspect.signature(symbol).bind
        fits(*given[: len(given) - len(keywords)], **dict.fromkeys(keywords))
    except (TypeError, ValueError) as error:
        return f"{name}: {error}"
    return None


def _find(name: str) -> Any:
    """The object with a dotted name, below the longest part of it that is a module."""
    module, rest = name, []
    while module not in sys.modules:
        module, _, last = module.rpartition(".")
        if not module:
            raise AttributeError(name)
        rest.insert(0, last)
    found = sys.modules[module]
    for part in rest:
        found = getattr(found, part)
    return found
