"""The CLIP and what it makes of prompts."""
