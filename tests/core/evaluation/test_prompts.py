"""The prompt sets."""

from __future__ import annotations

from collections import Counter

import pytest

from amused_core.evaluation import wordings
from amused_core.evaluation.prompts import SETS, prompts
from amused_core.small_world.scenes import captions
from amused_core.small_world.scenes.layout import RELATIONS, Scene
from amused_core.small_world.scenes.splits import held_out
from tests.core.evaluation.scenes import COLOURS


@pytest.mark.parametrize("name", SETS)
def test_prompt_sets_are_seeded_and_even(name: str) -> None:
    requests = prompts(name, 344)
    assert requests == prompts(name, 344) and requests[:50] == prompts(name, 50)
    assert [p.text for p in requests] != [p.text for p in prompts(name, 344, seed=1)]
    firsts = Counter(
        prompt.scene.things[0] for prompt in requests if len(prompt.scene.things) == 1 or name == "relations"
    )
    backgrounds = Counter(prompt.scene.background for prompt in requests)
    assert set(backgrounds) == set(COLOURS) and max(backgrounds.values()) - min(backgrounds.values()) <= 12
    assert len(firsts) >= 170 and max(firsts.values()) <= 3


def test_prompt_sets_hold_what_they_say() -> None:
    seen, combinations, relations = (prompts(name, 172) for name in ("seen", "combinations", "relations"))
    assert not any(held_out(prompt.scene) for prompt in [*seen, *prompts("wordings", 172)])
    assert all(held_out(prompt.scene) for prompt in combinations)
    assert not {p.text for p in seen} & {p.text for p in combinations}
    assert Counter(p.kind for p in seen) == Counter(p.kind for p in combinations)
    assert all(held_out(p.scene) == (p.kind == "new pair") for p in relations)
    for prompt in relations:
        assert not any(held_out(Scene.single(thing, prompt.scene.background)) for thing in prompt.scene.things)
    assert Counter(p.kind for p in relations) == {"seen pair": 86, "new pair": 86}
    assert {captions.relation(p.scene) for p in relations} == set(RELATIONS)


def test_wordings_are_not_those_of_training() -> None:
    """Every template differs from all of training's, whatever stands for thing, colour and corner."""

    def bare(template: str) -> str:
        return template.format(o="#", p="#", b="#", c="#")

    trained = {bare(one) for one in captions._ON_BACKGROUND}
    for inner in (*captions._IN_CORNER, *(one for several in captions._RELATED.values() for one in several)):
        trained |= {bare(one).replace("#", bare(inner), 1) for one in captions._ON_BACKGROUND}
    trained |= {f"{prefix} {one}" for prefix in captions._PREFIXES for one in trained}
    own = [*wordings.LARGE, *wordings.CORNER, *(one for several in wordings.PAIR.values() for one in several)]
    assert len(own) == len(set(own)) >= 24
    for template in own:
        assert bare(template) not in trained
    requests = prompts("wordings", 300)
    plain = {captions.plain_caption(prompt.scene) for prompt in requests}
    assert not plain & {prompt.text for prompt in requests}
    assert {prompt.kind.split(", ")[1] for prompt in requests} == set(wordings.WAYS)
    assert any(prompt.text.isupper() for prompt in requests)


def test_unknown_set_and_count() -> None:
    with pytest.raises(ValueError, match="'far'; allowed are seen, combinations"):
        prompts("far", 3)
    with pytest.raises(ValueError, match="is 0; it must be at least 1"):
        prompts("seen", 0)
