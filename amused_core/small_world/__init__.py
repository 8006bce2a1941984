"""The world of the small model: its scenes, and how the model was trained on them."""
