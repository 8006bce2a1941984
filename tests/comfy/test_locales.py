"""Translations and help pages against the nodes' schemas: complete, nothing left over, nothing out of date."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import node_texts
import pytest
from node_schema import inputs
from node_texts import DOCS, LANGUAGES, LOCALES, PAGE_LANGUAGES

from amused_core.batch.columns import COLUMNS

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
OTHERS = [language for language in LANGUAGES if language != "en"]
REMEDY = "run tools/describe_nodes.py COMFYUI_FOLDER"
# Signs that the frontend's message compiler does not take literally.
MESSAGE_SYNTAX = re.compile(r"[{}@|]")
SCRIPTS = {"ar": r"[\u0600-\u06ff]", "zh": r"[\u4e00-\u9fff]"}
NODES = sorted(path.name for path in DOCS.iterdir() if path.is_dir() and path.name != "pictures")
PAGES = [(node, language) for node in NODES for language in PAGE_LANGUAGES]


def texts(language):
    """Path -> text of a language's nodeDefs."""
    return node_texts.leaves(node_texts.read(language, "nodeDefs"))


def is_sentence(key):
    """Whether a text is explained at length, not a name."""
    return key.endswith((".tooltip", ".description"))


def prose(page):
    """A page without its tables."""
    return node_texts.TABLE.sub("", page)


def page(node, language):
    """A help page."""
    return node_texts.page_file(node, language).read_text(encoding="utf-8")


def words_of(info):
    """Names of inputs, and options, of a node: what `code` in a page may name."""
    for name, _, settings, _ in inputs(info):
        yield name
        yield from map(str, settings.get("options") or [])


def test_languages():
    assert sorted(path.name for path in LOCALES.iterdir()) == sorted(LANGUAGES)
    for language in LANGUAGES:
        assert sorted(path.name for path in (LOCALES / language).iterdir()) == ["main.json", "nodeDefs.json"]


def test_english_is_what_the_nodes_say(object_info):
    wanted, found = (node_texts.leaves(tree) for tree in (node_texts.english(object_info), _read("en")))
    assert found == wanted, REMEDY


@pytest.mark.parametrize("language", OTHERS)
def test_no_key_missing_and_none_left_over(object_info, language):
    assert node_texts.differences(node_texts.english(object_info), _read(language)) == []


def _read(language):
    return node_texts.read(language, "nodeDefs")


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories(object_info, language):
    wanted = node_texts.categories(object_info)
    assert node_texts.differences(wanted, node_texts.read(language, "main")) == []
    assert all(node_texts.leaves(node_texts.read(language, "main")).values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_plain(language):
    """No empty text, no sign that the frontend would take for a placeholder, every sentence ended."""
    for key, text in texts(language).items():
        assert isinstance(text, str) and text.strip() == text and text, key
        assert not MESSAGE_SYNTAX.search(text), f"{key}: {text}"
        assert not is_sentence(key) or text.endswith((".", "。")), f"{key}: {text}"


@pytest.mark.parametrize("language", OTHERS)
def test_texts_are_translated(language):
    wanted = re.compile(SCRIPTS.get(language, "."))
    source = texts("en")
    for key, text in texts(language).items():
        if is_sentence(key) or key.endswith(".display_name"):
            assert text != source[key] and wanted.search(text), f"{key} is not translated: {text}"


@pytest.mark.parametrize("language", OTHERS)
def test_numbers_and_options_survive_translation(object_info, language):
    """Every number, option and file name of the English text is in the other one."""
    found = texts(language)
    for key, text in texts("en").items():
        options = {word for word in words_of(object_info[key.split(".")[0]]) if "_" in word or f"{word}:" in text}
        kept = set(re.findall(r"\d+(?:\.\d+)?", text)) | set(re.findall(r"\b(?:models/\w+|fp\d+|\.\w{5,})", text))
        kept |= {word for word in options if re.search(rf"\b{word}\b", text)}
        if is_sentence(key):
            assert not [word for word in kept if word not in found[key]], f"{key}: {text} | {found[key]}"


@pytest.mark.parametrize("language", OTHERS)
def test_nodes_are_called_by_their_translated_names(object_info, language):
    """'Load aMUSEd' in a tooltip is what the user sees above the node."""
    found = texts(language)
    for key, text in texts("en").items():
        for node, info in object_info.items():
            if f"'{info['display_name']}'" in text:
                assert f"'{found[f'{node}.display_name']}'" in found[key], f"{key}: {found[key]}"


def test_every_node_has_its_pages(object_info):
    assert sorted(object_info) == NODES
    for node in NODES:
        assert sorted(path.stem for path in (DOCS / node).iterdir()) == sorted(PAGE_LANGUAGES)


@pytest.mark.parametrize(("node", "language"), PAGES)
def test_tables_are_what_the_schema_says(object_info, node, language):
    """Every input and output with its type, default, range and text, in order; none more."""
    text = page(node, language)
    assert node_texts.with_tables(text, object_info[node], _read(language)[node], language) == text, REMEDY


@pytest.mark.parametrize(("node", "language"), PAGES)
def test_pages_have_all_parts(node, language):
    """Title, explanation, inputs, outputs and common mistakes; the headings are the same on all pages."""
    text = page(node, language)
    assert re.findall(r"^# (.*)$", text, re.MULTILINE) == [_read(language)[node]["display_name"]]
    headings = re.findall(r"^## .*$", text, re.MULTILINE)
    assert len(headings) == 3 and headings == re.findall(r"^## .*$", page(NODES[0], language), re.MULTILINE)
    parts = re.split(r"^##? .*$", prose(text), flags=re.MULTILINE)
    assert len(parts[1].split()) > 30 and len(parts[-1].split()) > 15
    assert (language in node_texts.RIGHT_TO_LEFT) == text.startswith('<div dir="rtl">\n\n')
    assert text.count("<div") == text.count("</div>")


@pytest.mark.parametrize(("node", "language"), PAGES)
def test_pages_name_only_what_exists(object_info, node, language):
    known = {word for info in object_info.values() for word in words_of(info)} | COLUMNS.keys()
    named = re.findall(r"`([a-z][a-z0-9_]*)`", prose(page(node, language)))
    assert not set(named) - known
    names = {info["display_name"] for info in _read(language).values()}
    bold = re.findall(r"\*\*([^*]*aMUSEd[^*]*)\*\*", page(node, language))
    assert not set(bold) - names, "nodes are called by their names in that language"


@pytest.mark.parametrize("node", NODES)
def test_languages_show_the_same_pictures_and_inputs(node):
    first, *rest = (page(node, language) for language in PAGE_LANGUAGES)
    for other in rest:
        for pattern in (r"\]\((.*?)\)", r"`([a-z][a-z0-9_]*)`"):
            assert set(re.findall(pattern, prose(other))) == set(re.findall(pattern, prose(first)))


def test_pictures_are_those_of_the_workflows():
    """The frontend takes addresses of pictures relative to web/docs/. `make workflows` copies them."""
    shown = {name for node, language in PAGES for name in re.findall(r"!\[[^\]]+\]\((.*?)\)", page(node, language))}
    assert shown == {f"pictures/{path.name}" for path in (DOCS / "pictures").iterdir()}
    for name in shown:
        picture = DOCS / name
        assert picture.read_bytes() == (WORKFLOWS / picture.name).read_bytes(), f"copy {picture.name} from workflows/"


def test_a_missing_and_a_left_over_key_are_found():
    wanted = {"A": {"display_name": "a", "inputs": {"x": {"name": "x", "tooltip": "x."}}}}
    found = copy.deepcopy(wanted)
    found["A"]["inputs"]["y"] = found["A"]["inputs"].pop("x")
    assert node_texts.differences(wanted, found) == [
        "missing: A.inputs.x.name",
        "missing: A.inputs.x.tooltip",
        "left over: A.inputs.y.name",
        "left over: A.inputs.y.tooltip",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1 … 1000", "1 … 100"),
        ("| `12` |", "| `20` |"),
        ("| `steps` |", "| `step` |"),
        ("| INT |", "| FLOAT |"),
        ("| `schedule` ", "| `model` | MODEL | - | - | Twice. |\n| `schedule` "),
    ],
)
def test_a_wrong_table_is_found(object_info, old, new):
    text = page("AmusedScheduler", "en")
    broken = text.replace(old, new, 1)
    fixed = node_texts.with_tables(broken, object_info["AmusedScheduler"], _read("en")["AmusedScheduler"], "en")
    assert broken != text and fixed == text


def test_a_page_without_a_table_is_refused(object_info):
    text = prose(page("AmusedScheduler", "en"))
    with pytest.raises(ValueError, match="0 tables; it needs 2"):
        node_texts.with_tables(text, object_info["AmusedScheduler"], _read("en")["AmusedScheduler"], "en")
