"""`amused bench`: what a picture costs here, against diffusers' pipeline on the same weights."""
