"""aMUSEd rows: a table as lists, and other nodes that run once for each row."""

from __future__ import annotations

import pytest

from tests.comfy import graphs
from tests.comfy.batches import CFG, ROWS, STEPS, command, pixels, records, write
from tests.comfy.harness import GraphError


def lists(comfy, **inputs):
    """AmusedRows."""
    return comfy.node("AmusedRows", **({"file": "rows.jsonl", "text": "", "base_seed": 0} | inputs))


def test_lists_drive_other_nodes(comfy, rows, tmp_path):
    """Stock nodes run once a row, and draw what 'aMUSEd batch' draws."""
    write(rows, [row for row in ROWS if not row.keys() & {"image", "int8"}])
    expected = command(comfy, rows, tmp_path / "out")
    loader, table = graphs.load(comfy), lists(comfy)
    latent = comfy.node("AmusedEmptyLatent", model=loader, width=(table, 4), height=(table, 5), batch_size=1)
    sides = [comfy.node("CLIPTextEncode", clip=(loader, 1), text=(table, index)) for index in (0, 1)]
    drawn = graphs.sample(comfy, loader, latent, steps=STEPS, seed=(table, 2), positive=sides[0], negative=sides[1])
    picture = comfy.node("VAEDecode", samples=drawn, vae=(loader, 2))
    comfy.finish(comfy.node("SaveImage", images=picture, filename_prefix=(table, 3)))
    for row in records(expected):
        (found,) = (comfy.models / "output").glob(f"{row['id']}_*.png")
        if row["cfg"] == CFG:
            difference = pixels(found).astype(int) - pixels(expected / row["file"])
            assert abs(difference).max() <= 1, "Save Image cuts off what our files round"
        found.unlink()


def test_lists(comfy, rows, caplog):
    write(
        rows, [{"prompt": "a"}, {"prompt": "b", "id": "../x", "seed": 5, "steps": 6, "cfg": 2, "count": 2}, {"id": "y"}]
    )
    table = lists(comfy)
    found = [comfy.run_all((table, index)) for index in range(8)]
    assert found[0] == ["a", "b", "b"] and found[1] == [""] * 3 and found[2][1:] == [5, 6]
    assert found[3][0] == "0000000" and all("/" not in name for name in found[3]) and len(set(found[3])) == 3
    assert found[4:] == [[0] * 3, [0] * 3, [12, 6, 6], [0.0, 2.0, 2.0]]
    assert "1 rows are left out; the first is line 3" in caplog.text
    assert comfy.run_all(lists(comfy, file="none", text="a cat\n\n a dog")) == ["a cat", "a dog"]
    with pytest.raises(GraphError, match="None of the rows can be used; the first is line 1"):
        comfy.run(lists(comfy, file=write(rows.with_name("bad.jsonl"), [{"id": "y"}]).name))
