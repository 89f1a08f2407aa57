"""report.html: what it says, and that nothing of the data becomes a part of the page."""

import json
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from conftest import NAMES, tagged_sentences, token_source, write_conll
from test_mlm import run_mlm
from test_ner import run_ner
from transformers import AutoModelForMaskedLM, AutoTokenizer

from rawtrain.batches import EvaluationBatches
from rawtrain.collate.pad import PaddedRows
from rawtrain.config import MlmSettings
from rawtrain.data.conll import read_conll
from rawtrain.evaluation import evaluate
from rawtrain.results.entities import find_entities
from rawtrain.results.errors_by_kind import confusion_of
from rawtrain.results.mlm_page import masked_rows
from rawtrain.results.ner_page import LONGEST_SHOWN, parts_of_sentence

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img/src=http://evil.example/x/onerror=alert(1)>',
    "</section><!--",
    "-->",
    "</style>",
    "&lt;b&gt;",
    "{{7*7}}",
    "{%raw%}",
    "🎉🇩🇪",
    "שלום",
    "\u202eevil",
    "w" * 300,
]
HOSTILE_TYPE = "<b/onclick=alert(1)>&amp;"


@pytest.fixture(scope="module", autouse=True)
def no_picture_is_drawn():
    """Here they are."""


class Page(HTMLParser):
    """The elements, the text and the attributes of a page, as a browser would read them."""

    def __init__(self, file):
        super().__init__(convert_charrefs=True)
        self.html = file.read_text(encoding="utf-8")
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(self.html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.texts.append(data)

    def tables(self, columns):
        """The rows of cells [columns] of each table that has so many, without small print."""
        rows = re.findall(r"<tr[^>]*>(.*?)</tr>", self.html, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        plain = [
            [re.sub(r"<small>.*?</small>|<[^>]*>", "", c).strip() for c in row] for row in cells
        ]
        return [row for row in plain if len(row) == columns]


def assert_harmless(page):
    assert "<script" not in page.html.lower()
    allowed = """html head meta title style body header h1 h2 h3 p code nav a div table thead tbody
        tr th td details summary ul ol li section img span i b small mark bdi br"""
    assert set(page.tags) <= set(allowed.split())
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:image/svg+xml;base64,", "#"))
        if name == "style":
            assert re.fullmatch(r"(--[a-z]+: [\d.]+%(; )?)+", value)
    assert "url(" not in page.html and "@import" not in page.html
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in (
        page.attributes
    )


def hostile_sentences(num_sentences, seed):
    """Tagged sentences with words, and one type, that are HTML, template code or odd letters."""
    words, tags = tagged_sentences(num_sentences, seed)
    rng = np.random.default_rng(seed)
    for number, sentence in enumerate(words):
        sentence += [str(HOSTILE[number % len(HOSTILE)]), str(rng.choice(HOSTILE)), "end"]
        tags[number] += [f"B-{HOSTILE_TYPE}", f"I-{HOSTILE_TYPE}", "O"]
    return words, tags


@pytest.fixture(scope="module")
def ner_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return {
        f"{name}_file": write_conll(folder / f"{name}.conll", *hostile_sentences(number, seed))
        for seed, (name, number) in enumerate([("train", 120), ("validation", 30), ("test", 60)])
    }


@pytest.fixture(scope="module")
def ner_output(tmp_path_factory, model_dir, ner_files):
    output_dir = tmp_path_factory.mktemp("runs") / "<i>out"
    run_ner(output_dir, model_dir, ner_files, "--num_train_epochs", "2")
    return output_dir


@pytest.fixture(scope="module")
def ner_page(ner_output):
    return Page(ner_output / "report.html")


def test_nothing_of_the_data_becomes_a_part_of_the_page(ner_page):
    assert_harmless(ner_page)
    for word in HOSTILE:
        assert word in ner_page.text
    assert HOSTILE_TYPE in ner_page.text


def test_settings_that_were_changed_come_first(ner_page, ner_output):
    (changed, *_), rest = ner_page.tables(3), ner_page.text.split("settings at their defaults")
    assert changed == ["changed", "value", "default"]
    assert ["num_train_epochs", "2.0", "3.0"] in ner_page.tables(3)
    assert len(rest) == 2 and "adam_beta1" in rest[1] and "adam_beta1" not in rest[0]


def test_the_sections_have_the_scores_of_the_result_files(ner_page, ner_output):
    results = json.loads((ner_output / "all_results.json").read_text())
    for split, prefix in (("Validation", "eval"), ("Test", "predict")):
        section = ner_page.text[ner_page.text.index(f"{split} data") :]
        row = re.search(r"overall ([\d. ]+) ([\d.]+) to ([\d.]+)", section)
        expected = [results[f"{prefix}_{key}"] for key in ("precision", "recall", "f1")]
        assert row[1].split() == [f"{score:.3f}" for score in expected]
        assert float(row[2]) <= expected[-1] <= float(row[3])
        assert f"loss {results[f'{prefix}_loss']:.4f}, word accuracy" in section
    assert [tag for tag in ner_page.tags if tag == "img"] == ["img"]


def test_the_confusion_and_the_kinds_are_those_of_the_predictions(ner_page, ner_output):
    found, gold = (read_conll(ner_output / "predictions.conll", tag_column=c) for c in (2, 1))
    names = sorted({tag for side in (found, gold) for tags in side.tags for tag in tags} | {"O"})
    offsets = np.cumsum([0, *map(len, gold.words)])
    both = [
        find_entities(
            np.array([names.index(t) for tags in side.tags for t in tags]), names, offsets
        )
        for side in (gold, found)
    ]
    confusion = confusion_of(*both)
    rows = ner_page.tables(len(confusion.types) + 3)[-len(confusion.types) - 1 :]
    shown = [[int(cell.replace(",", "") or 0) for cell in row[1:]] for row in rows]
    assert shown == confusion.counts.tolist()
    test_section = ner_page.text[ner_page.text.index("Test data") :]
    for kind, number in list(confusion.kinds.items())[1:]:
        assert re.search(rf"{kind} {number} \d+ %", test_section)
    assert f"True positives: {confusion.kinds['correct']}." in test_section


def test_the_sentences_shown_are_those_with_the_highest_loss_in_order(ner_page):
    test_section = ner_page.text[ner_page.text.index("Test data") :]
    found = re.findall(r"sentence (\d+) · \d+ words · loss ([\d.]+)", test_section)
    losses = [float(loss) for _, loss in found]
    assert len(losses) == 50 and losses == sorted(losses, reverse=True)
    assert len({number for number, _ in found}) == 50


def test_the_losses_of_the_sentences_sum_to_that_of_the_evaluation(
    model_dir, ner_files, tmp_path, monkeypatch
):
    seen = []

    def spy(name, settings, splits, encoded, scorer, evaluation):
        seen.append((scorer.sentence_losses(evaluation), evaluation))

    monkeypatch.setattr("rawtrain.ner.show_scores", spy)
    run_ner(tmp_path / "out", model_dir, ner_files, "--max_steps", "2")
    for losses, evaluation in seen:
        total = evaluation.loss * len(evaluation.labels)
        assert math.isclose(losses.sum(), total, rel_tol=1e-6)  # float32 sums in another order
    assert [len(losses) for losses, _ in seen] == [30, 60]


def test_a_later_prediction_keeps_the_section_of_the_evaluation(model_dir, ner_files, tmp_path):
    file = tmp_path / "out" / "report.html"
    first = {name: path for name, path in ner_files.items() if name != "test_file"}
    run_ner(tmp_path / "out", model_dir, first, "--max_steps", "5")
    validation = re.search(
        r'<section id="validation">.*?<!-- validation -->', file.read_text(), re.S
    )
    assert "Test data" not in Page(file).text
    run_ner(tmp_path / "out", model_dir, ner_files, "--max_steps", "5", "--do_predict")
    html = file.read_text()
    assert validation[0] in html and html.count("<section") == 2
    assert html.index("Validation data") < html.index("Test data")
    assert_harmless(Page(file))


def test_where_every_word_has_a_tag_only_wrong_ones_are_marked(model_dir, tmp_path):
    words, tags = tagged_sentences(40)
    tags = [[tag[2:] or "X" for tag in sentence] for sentence in tags]
    files = {"train_file": write_conll(tmp_path / "t.conll", words, tags)}
    files["validation_file"] = files["train_file"]
    run_ner(tmp_path / "out", model_dir, files, "--task_name", "pos", "--max_steps", "3")
    page = Page(tmp_path / "out" / "report.html")
    assert "Marked are entities with their type, where it is wrong" in page.text
    marked = re.findall(r'<mark class="(\w+)" dir="auto">', page.html)
    assert marked and set(marked) == {"type"}
    assert {*NAMES, "X"} >= set(re.findall(r'<b dir="auto">(\w+)</b>', page.html))


def test_without_any_entity_the_report_says_so(model_dir, tmp_path):
    words, _ = tagged_sentences(40)
    tags = [["B-PER", *["O"] * (len(sentence) - 1)] for sentence in words]
    nothing = [["O"] * len(sentence) for sentence in words]
    files = {
        "train_file": write_conll(tmp_path / "train.conll", words, nothing[:-1] + tags[-1:]),
        "validation_file": write_conll(tmp_path / "dev.conll", words, nothing),
    }
    run_ner(tmp_path / "out", model_dir, files, "--learning_rate", "1e-3", "--max_steps", "30")
    page = Page(tmp_path / "out" / "report.html")
    assert "There is no entity in the gold data, and none was predicted." in page.text


def test_the_parts_of_a_sentence_are_its_words_in_order():
    names = ["O", "B-A", "I-A"]
    words = [str(number) for number in range(8)]
    gold, found = np.array([0, 0, 1, 2, 0, 1, 1, 0]), np.array([0, 0, 1, 0, 0, 1, 0, 0])
    both = [find_entities(labels, names, np.array([0, 2, 8])) for labels in (gold, found)]
    gold_kinds = confusion_of(*both).gold_kinds
    parts = parts_of_sentence(words[2:], 2, both[0], gold_kinds)
    assert parts == [
        ("2 3", "A", "boundary"),
        ("4", None, None),
        ("5", "A", "correct"),
        ("6", "A", "missed"),
        ("7", None, None),
    ]
    assert parts_of_sentence(words[:2], 0, both[0], gold_kinds) == [("0 1", None, None)]
    longest = ["word"] * (LONGEST_SHOWN + 7)
    labels = np.zeros(len(longest), int)
    labels[[0, LONGEST_SHOWN + 2]] = 1
    entities = find_entities(labels, names, np.array([0, len(labels)]))
    assert [kind for _, kind, _ in parts_of_sentence(longest, 0, entities, ["missed"] * 2)] == [
        "A",
        None,
    ]


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("ner_page.render", "what shows the scores"),
        ("ner_page.f1_intervals", "what shows the scores"),
        ("plots.loss_figure", "the picture of the losses"),
        ("card.make_card", "the model card, README.md,"),
    ],
)
def test_a_page_that_cannot_be_made_costs_a_line_and_not_the_run(
    part, what, model_dir, ner_files, tmp_path, monkeypatch, capfd
):
    def fails(*_, **__):
        raise IndexError("row 7\nhas no column")

    monkeypatch.setattr(f"rawtrain.results.{part}", fails)
    with monkeypatch.context() as patch, pytest.raises(IndexError):  # our tests see a bug of ours
        patch.setattr("rawtrain.errors.TOLERATED", ())
        run_ner(tmp_path / "seen", model_dir, ner_files, "--max_steps", "2")
    capfd.readouterr()
    monkeypatch.setattr("rawtrain.errors.TOLERATED", (Exception,))
    run_ner(tmp_path / "out", model_dir, ner_files, "--max_steps", "2")
    said = f"{what} could not be made: IndexError: row 7 has no column"
    lines = capfd.readouterr().err.splitlines()
    assert said in lines and "Traceback (most recent call last):" not in lines
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"manifest.json", "predictions.conll", "all_results.json"} <= files
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert {"train_loss", "eval_f1", "predict_f1"} <= results.keys()


def test_a_file_whose_name_is_not_utf_8_is_named_with_an_escape(model_dir, tmp_path):
    name = os.fsdecode(b"caf\xe9.conll")
    write_conll(tmp_path / "a.conll", *tagged_sentences(40))
    os.rename(tmp_path / "a.conll", tmp_path / name)
    files = dict.fromkeys(("train_file", "validation_file"), str(tmp_path / name))
    run_ner(tmp_path / "out", model_dir, files, "--max_steps", "1")
    for page in ("report.html", "README.md"):
        assert r"caf\udce9.conll" in (tmp_path / "out" / page).read_text()


# Masked-language models


def test_a_report_of_mlm_that_cannot_be_made_costs_a_line_and_not_the_run(
    model_dir, tmp_path, monkeypatch, capfd
):
    def fails(*_, **__):
        raise StopIteration

    file = tmp_path / "documents.txt"
    file.write_text("".join(" ".join(words) + "\n" for words in tagged_sentences(200)[0]))
    monkeypatch.setattr("rawtrain.results.mlm_page.masked_rows", fails)
    monkeypatch.setattr("rawtrain.errors.TOLERATED", (Exception,))
    run_mlm(tmp_path / "out", model_dir, str(file), "--max_steps", "2")
    assert "what shows the scores could not be made: StopIteration:" in capfd.readouterr().err
    assert "perplexity" in json.loads((tmp_path / "out" / "eval_results.json").read_text())


@pytest.fixture(scope="module")
def mlm_output(tmp_path_factory, model_dir):
    folder = tmp_path_factory.mktemp("mlm")
    words, _ = hostile_sentences(200, seed=0)
    file = folder / "documents.txt"
    file.write_text("\n".join(map(" ".join, words)) + "\n", encoding="utf-8")
    run_mlm(folder / "out", model_dir, str(file), "--max_steps", "5")
    return folder / "out", str(file)


def test_the_report_of_mlm_shows_masked_tokens_and_what_was_predicted(mlm_output):
    page = Page(mlm_output[0] / "report.html")
    assert_harmless(page)
    assert "before training" in page.text
    results = json.loads((mlm_output[0] / "eval_results.json").read_text())
    assert f"loss {results['eval_loss']:.4f}, perplexity {results['perplexity']:.2f}." in page.text
    assert "Masked tokens of the first rows" in page.text and "[MASK]" in page.text


def test_long_rows_of_mlm_are_cut_and_say_so(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("rawtrain.results.mlm_page.LONGEST_SHOWN", 30)
    file = tmp_path / "documents.txt"
    file.write_text("".join(" ".join(words) + "\n" for words in tagged_sentences(200)[0]))
    run_mlm(tmp_path / "out", model_dir, str(file), "--max_steps", "1")
    page = Page(tmp_path / "out" / "report.html")
    assert "and 18 more tokens" in page.text  # of rows of 48


def test_masked_rows_have_what_the_evaluation_predicted(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForMaskedLM.from_pretrained(model_dir).eval()
    settings = MlmSettings(use_cpu=True, per_device_eval_batch_size=4)
    source = token_source("mlm", tokenizer, num_rows=9, longest=40)
    source.columns.values["input_ids"][:] %= len(tokenizer)
    batches = EvaluationBatches(9, settings, PaddedRows(source, tokenizer), source.columns.lengths)
    name = tokenizer.convert_ids_to_tokens
    expected = []
    for number in range(9):
        tokens = source.tokens(np.array([number]))
        best = model(torch.from_numpy(tokens["input_ids"])[None]).logits[0].argmax(-1).tolist()
        labels = tokens["labels"].tolist()
        row = [
            name(seen) if label == -100 else tuple(name([seen, label, said]))
            for seen, label, said in zip(tokens["input_ids"].tolist(), labels, best, strict=True)
        ]
        expected += [row] if set(labels) != {-100} else []
    assert list(masked_rows(source, tokenizer, evaluate(model, batches, settings))) == expected
