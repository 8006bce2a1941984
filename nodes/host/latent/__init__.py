"""LATENTs, the VAE and pictures."""
