"""Training of the embedded model: data, VQ-GAN, masked tokens. See docs/training.md."""
