"""The MODEL: a family's transformer inside ComfyUI."""
