"""Transformer, VQ-GAN and text encoder, and what makes them fast."""
