"""ComfyUI-aMUSEd: masked image generation as native ComfyUI blocks."""

# Test runners import this file without a package; ComfyUI always loads it as one.
if __package__:
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
