"""The world of the embedded model: word list, sprites, layout, captions, splits."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("PIL")

from amused_core.small_world.scenes import captions
from amused_core.small_world.scenes.layout import CELL, CORNERS, PLACES, RELATIONS, SIDE, Scene
from amused_core.small_world.scenes.splits import held_out, random_scene
from amused_core.small_world.scenes.sprites import background_colours, draw, sprites
from amused_core.small_world.scenes.things import BACKGROUNDS, THINGS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_names_are_unique_and_none_is_a_background():
    names = [name for thing in THINGS for name in (thing.name, *thing.aliases)]
    assert len(set(names)) == len(names) and not set(names) & set(BACKGROUNDS)
    assert len(THINGS) >= 150 and len(BACKGROUNDS) == 10
    assert len({thing.glyph for thing in THINGS}) == len(THINGS)


def test_every_thing_has_a_bold_sprite_in_both_sizes():
    for side, pictures in sprites().items():
        assert pictures.shape == (len(THINGS), 4, side, side) and pictures.dtype == torch.uint8
        alpha = pictures[:, 3].float()
        assert alpha.amax((1, 2)).min() > 250 and alpha.mean((1, 2)).min() > 15
    margin = sprites()[64][:, 3].clone()
    margin[:, 2:62, 2:62] = 0
    assert margin.sum() == 0


def test_places_keep_to_the_token_grid_and_pairs_do_not_overlap():
    for place in PLACES.values():
        assert not (place.top % CELL or place.left % CELL or place.side % CELL)
        assert place.top + place.side <= SIDE and place.left + place.side <= SIDE
    for first, second in ((PLACES[a], PLACES[b]) for a, b in RELATIONS.values()):
        assert abs(first.top - second.top) >= first.side or abs(first.left - second.left) >= first.side


def test_a_drawn_scene_shows_the_things_at_their_places_over_the_background():
    scene = Scene.pair("cat", "below", "key", "purple")
    picture = draw([scene])[0]
    colour = background_colours()[list(BACKGROUNDS).index("purple")]
    assert torch.equal(picture[:, 0, 0], colour) and torch.equal(picture[:, 64, 10], colour)
    swapped = draw([Scene.pair("key", "above", "cat", "purple")])[0]
    assert torch.equal(picture, swapped)
    alone = draw([Scene.single("cat", "purple", "bottom left")])[0]
    assert torch.equal(picture[:, 64:, 32:96], alone[:, 64:, :64])


@pytest.mark.parametrize(
    "scene, text",
    [
        (Scene.single("apple", "blue"), "an apple on a blue background"),
        (Scene.single("grapes", "orange"), "grapes on a orange background"),
        (Scene.single("ufo", "red", "top left"), "a ufo in the top left corner on a red background"),
        (Scene.pair("cat", "left of", "dog", "yellow"), "a cat left of a dog on a yellow background"),
        (Scene.pair("unicorn", "below", "umbrella", "red"), "a unicorn below an umbrella on a red background"),
    ],
)
def test_plain_captions(scene, text):
    assert captions.plain_caption(scene) == text.replace("a orange", "an orange")


def test_random_captions_name_what_is_there_or_nothing():
    source = generator(1)
    empty = 0
    for _ in range(3000):
        scene = random_scene(source)
        text = captions.caption(scene, source, noise=0.0)
        if not text:
            empty += 1
            continue
        for name in scene.things:
            thing = next(thing for thing in THINGS if thing.name == name)
            assert any(noun in text for noun in (thing.name, thing.plural, *thing.aliases)), text
        assert scene.background in text.replace("grey", "gray"), text
        if scene.places[0] in CORNERS:
            assert any(word in text for word in ("left", "right")), text
        assert "  " not in text and "a apple" not in text and "a orange" not in text and "a grapes" not in text
    assert 200 < empty < 400


def test_captions_of_one_relation_are_never_those_of_its_opposite():
    source = generator(2)
    texts = {
        relation: {captions.caption(Scene.pair("cat", relation, "key", "white"), source, 0, 0) for _ in range(2000)}
        for relation in RELATIONS
    }
    for one, other in (("left of", "right of"), ("above", "below")):
        assert len(texts[one]) > 100 and not texts[one] & texts[other]


def test_noise_makes_typing_errors_but_the_usual_caption_stays_common():
    clean, noisy = (
        [captions.caption(Scene.single("elephant", "blue"), generator(seed), 0, noise) for seed in range(400)]
        for noise in (0.0, 1.0)
    )
    assert all("elephant" in text for text in clean)
    assert 0.02 < sum("elephant" not in text for text in noisy) / len(noisy) < 0.2


def test_held_out_scenes_cover_every_thing_and_background_evenly():
    singles = [[held_out(Scene.single(thing.name, colour)) for colour in BACKGROUNDS] for thing in THINGS]
    assert all(sum(row) == 1 for row in singles)
    assert min(map(sum, zip(*singles, strict=True))) >= len(THINGS) // 10
    scene = Scene.pair("cat", "above", "dog", "white")
    assert held_out(scene) == held_out(Scene.pair("cat", "left of", "dog", "white"))  # whatever the relation


def test_random_scenes_are_repeatable_and_pairs_are_two_things():
    first, again = ([random_scene(source) for _ in range(300)] for source in (generator(5), generator(5)))
    assert first == again
    pairs = [scene for scene in first if len(scene.things) == 2]
    assert 60 < len(pairs) < 150 and all(scene.things[0] != scene.things[1] for scene in pairs)
