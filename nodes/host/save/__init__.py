"""Files in the output folder."""
