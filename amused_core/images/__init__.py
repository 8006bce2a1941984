"""Pixels, masks and picture files."""
