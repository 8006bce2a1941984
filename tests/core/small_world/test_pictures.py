"""Training of the small world: the sheet of sprites and the font."""

from __future__ import annotations

from pathlib import Path

import pytest

from amused_core.small_world.scenes.things import THINGS
from amused_core.small_world.training import data


def font() -> Path:
    try:
        return data.find_font()
    except ValueError:
        pytest.skip("fonts-noto-color-emoji is not installed")


def test_the_shipped_sheet_is_what_the_font_draws(tmp_path):
    from PIL import Image, ImageChops

    pictures = data.render_all([thing.glyph for thing in THINGS], font())
    data.write_sheet(pictures, tmp_path / "sheet.webp")
    with Image.open(tmp_path / "sheet.webp") as fresh, Image.open(data.SHEET) as shipped:
        assert fresh.size == shipped.size
        assert ImageChops.difference(fresh.convert("RGBA"), shipped.convert("RGBA")).getbbox() is None


def test_a_glyph_that_the_font_lacks_is_refused():
    with pytest.raises(ValueError, match="\\\\u0378|\u0378"):
        data.render_all(["\u0378", "\U0001f34e", "\u0379"], font())


def test_a_missing_font_is_named():
    with pytest.raises(ValueError, match="nowhere.ttf"):
        data.find_font("nowhere.ttf")
