"""The nodes against tests/golden/nodes.json: nothing that saved workflows rely on changes unnoticed."""

from __future__ import annotations

from node_schema import changes, promises, read

REMEDY = """
Breaking changes: undo them, and append optional inputs with defaults instead.
Harmless ones: `python tools/describe_nodes.py COMFYUI_FOLDER` writes the file anew; commit it with the change."""


def test_nodes_keep_their_promises(object_info):
    found = changes(read(), promises(object_info))
    assert not found, "\n".join(["the nodes changed:", *map(str, found), REMEDY])


def test_file_says_exactly_what_the_nodes_say(object_info):
    """So that nothing escapes `changes`."""
    assert read() == promises(object_info)
