"""Loading and drawing on a machine without a network."""

from __future__ import annotations

import socket

import pytest

from tests.comfy import graphs


def refuse(*_, **__):
    raise AssertionError("something asks the network")


@pytest.fixture
def offline(monkeypatch):
    """No name is looked up and no address is reached."""
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_whole_run(comfy, offline):
    """Text encoder, tokenizer, transformer and VQ-GAN come from the checkpoint's folder alone."""
    comfy.fresh()
    loader = graphs.load(comfy)
    latent = graphs.sample(comfy, loader, graphs.empty(comfy, loader), graphs.prompts(comfy, loader, "a (red:1.2) cat"))
    image = comfy.run(comfy.node("AmusedVQDecode", samples=latent, vae=(loader, 2), tile_size=0))
    assert image.shape == (1, 32, 32, 3)


def test_the_fixture_bites(offline):
    with pytest.raises(AssertionError, match="asks the network"):
        socket.create_connection(("localhost", 1))
