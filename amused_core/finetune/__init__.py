"""Fine-tuning: LoRA (StyleDrop from one picture) and full training of a loaded model."""
