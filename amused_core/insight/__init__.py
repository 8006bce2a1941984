"""Seeing inside a run: what was decided when, how surely, and which words were looked at.

from amused_core import load_model
from amused_core.insight import frames, heatmap, read_trace, read_word, trace
model = load_model()
result, run = trace(model, "a red apple on a blue background")
pictures = frames(run, model.vq.decode)                      # after every step
order = heatmap(read_trace(run, "order"), result.images)     # when each cell was decided
apple = heatmap(read_word(run, "apple"), result.images)      # which cells look at the word
"""

from .colormap import colors, heatmap
from .maps import confidence_map, entropy_map, order_map, word_map
from .pictures import UNDECIDED_LOOKS, finished, frames, token_grid
from .readings import KINDS, Reading, read_trace, read_word
from .record import UNDECIDED, Recorder, Trace, trace
from .words import positions, words_of

__all__ = [
    "KINDS",
    "UNDECIDED",
    "UNDECIDED_LOOKS",
    "Reading",
    "Recorder",
    "Trace",
    "colors",
    "confidence_map",
    "entropy_map",
    "finished",
    "frames",
    "heatmap",
    "order_map",
    "positions",
    "read_trace",
    "read_word",
    "token_grid",
    "trace",
    "word_map",
    "words_of",
]
