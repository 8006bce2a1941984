"""Finding and loading checkpoints and LoRAs."""
