"""Runs: the core's loop over ComfyUI's guided model, on the fast path or the stock path."""
