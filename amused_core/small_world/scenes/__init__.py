"""The small world that the embedded model draws: things on flat backgrounds, alone, in a corner or two together."""
