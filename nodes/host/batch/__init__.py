"""Batch jobs in a graph: the core's engine draws with the MODEL, CLIP and VAE that are connected."""
