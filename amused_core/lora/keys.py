"""Names of LoRA weights as diffusers, peft, kohya's scripts and ComfyUI write them, brought to one form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

TRANSFORMER, TEXT_ENCODER = "transformer", "text_encoder"
PARTS = (TRANSFORMER, TEXT_ENCODER)

_PEFT = "base_model.model."
_PREFIXES = {
    TRANSFORMER: re.compile(r"(transformer|unet|(model\.)?diffusion_model)\.|(lora_unet|lora_transformer|lycoris)_"),
    TEXT_ENCODER: re.compile(r"text_encoder\.|((text_encoders\.)?clip_l\.transformer)\.|lora_te1?_"),
}
# "lora_A.NAME.weight" is an adapter of peft with its name; "to_q_lora.down" is of diffusers' old attention processors.
_FACTOR = re.compile(
    r"(?P<module>.+?)(\.lora_(?P<kind>A|B|down|up)(\.[^.]+)?|([._]lora|\.lora_linear_layer)\.(?P<old>down|up))\.weight"
)
_OTHER = re.compile(r"(?P<module>.+)\.(?P<kind>alpha|diff|diff_b)")
# What changes the meaning of the factors beside it.
_UNREAD = re.compile(
    r"(?P<module>.+?)\.(dora_scale|lora_magnitude_vector.*|lora_mid\.weight|lora_(B|up)(\.[^.]+)?\.bias|reshape_weight)"
)
_TEXT_MODULE = re.compile(r"(text_model_)?(encoder_layers_|embeddings_|final_layer_norm)|text_projection")


class Key(NamedTuple):
    """A key taken apart.

    Attributes:
        part: "transformer" or "text_encoder"; None where the key does not say.
        module: the module's name as written, without its prefix.
        kind: "down", "up", "alpha", "diff" (of the weight), "diff_b" (of the bias), "unread" or "unknown".
    """

    part: str | None
    module: str
    kind: str


def split(key: str) -> Key:
    """Takes a key of a LoRA file apart."""
    kind, stem = "unknown", key
    if match := _FACTOR.fullmatch(key):
        kind, stem = {"A": "down", "B": "up"}.get(name := match["kind"] or match["old"], name), match["module"]
    elif match := _OTHER.fullmatch(key):
        kind, stem = match["kind"], match["module"]
    elif match := _UNREAD.fullmatch(key):
        kind, stem = "unread", match["module"]
    stem = stem.removeprefix(_PEFT)
    for part, prefix in _PREFIXES.items():
        if match := prefix.match(stem):
            return Key(part, stem[match.end() :].removeprefix(_PEFT), kind)
    return Key(TEXT_ENCODER if _TEXT_MODULE.match(plain(stem)) else None, stem, kind)


def plain(module: str) -> str:
    """A module's name with underscores only, old names replaced by today's."""
    name = module.replace(".processor.", ".").replace(".", "_")
    if old := re.fullmatch(r"(.*self_attn)_to_(q|k|v|out)", name):
        return f"{old[1]}_{old[2]}_proj"
    return f"{name}_0" if name.endswith("_to_out") else name


class Modules:
    """Finds the modules of one part by any of their names; `names` are those of its state dict, without `.weight`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {self._short(name): name for name in names}

    def find(self, module: str) -> str | None:
        """The name in the state dict, or None."""
        return self._names.get(self._short(module))

    @staticmethod
    def _short(module: str) -> str:
        # Versions of transformers differ in whether the text encoder has this level.
        return plain(module).removeprefix("text_model_")
