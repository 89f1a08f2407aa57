"""rawtrain.study.probes: the model that a run started from, beside the one that it ended with."""

import json
import shutil

import numpy as np
import pytest
from conftest import tagged_sentences
from hypothesis import given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from rawtrain import MaskFiller, mlm
from rawtrain.cli.command import settings_from
from rawtrain.config import MlmSettings
from rawtrain.data.text import encode_documents
from rawtrain.study import probes
from rawtrain.study.probes import choose_words, words_of_the_domain

GENERAL = ["we met today", "today we met", "the other day we met them"] * 8


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    words, _ = tagged_sentences(150)
    text = "\n".join(f"{' '.join(sentence)} and so on ." for sentence in words)
    (folder / "train.txt").write_text(text, encoding="utf-8")
    (folder / "general.txt").write_text("\n".join(GENERAL), encoding="utf-8")
    return folder


def train(output_dir, files, *flags):
    command = f"--train_file {files / 'train.txt'} --use_cpu --line_by_line --learning_rate 3e-3 "
    command += f"--max_steps 24 --disable_tqdm true --output_dir {output_dir} {' '.join(flags)}"
    mlm.main(settings_from(MlmSettings, command.split()))
    return output_dir


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model_dir, files):
    output_dir = tmp_path_factory.mktemp("runs") / "output"
    return train(output_dir, files, "--model_name_or_path", model_dir)


def measured(output_dir, *arguments):
    probes.main([str(output_dir), *map(str, arguments)])
    return json.loads((output_dir / "probes.json").read_text())


@pytest.fixture(scope="module")
def content(finished, files):
    return measured(finished, "--general_file", files / "general.txt")


def test_hidden_words_are_whole_and_of_the_validation_sentences(content, files):
    lines = (files / "train.txt").read_text().splitlines()[:8]  # 5 % validate
    assert 1 <= len(content["probes"]) <= 10
    for probe in content["probes"]:
        assert probe["text"].replace("[MASK]", probe["word"]) in lines
        assert probe["word"] not in probe["text"].split()
    assert not {"today", "met"} & {probe["word"] for probe in content["probes"]}  # general words


def test_before_is_the_named_model_and_after_is_that_of_the_run(content, finished, model_dir):
    for when, folder in (("before", model_dir), ("after", finished)):
        filler = MaskFiller.from_pretrained(folder, use_cpu=True)
        for probe in content["probes"]:
            found = float(filler.probabilities(probe["text"])[0][probe["token"]])
            assert probe[when]["probability"] == found
            (likeliest,) = filler(probe["text"], top_k=3)
            assert probe[when]["likeliest"] == [word["token_str"].strip() for word in likeliest]
    assert all(probe["before"] != probe["after"] for probe in content["probes"])


def test_general_text_is_evaluated_as_a_run_evaluates_it(content, files, model_dir, tmp_path):
    general = content["general"]
    flags = ["--model_name_or_path", model_dir, "--validation_file", str(files / "general.txt")]
    train(tmp_path / "run", files, *flags)  # its first evaluation is before the training
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    # this run attends by another function, in another order of sums
    assert general["before"]["loss"] == pytest.approx(log[0]["eval_loss"], rel=1e-6)
    assert general["before"]["accuracy"] == log[0]["eval_accuracy"]
    for scores in general.values():
        assert scores["perplexity"] == np.exp(scores["loss"])
    assert general["before"]["loss"] != general["after"]["loss"]


def test_it_prints_what_it_keeps(content, finished, files, capsys):
    assert measured(finished, "--general_file", files / "general.txt") == content
    lines = capsys.readouterr().out.splitlines()
    for probe in content["probes"]:
        place = lines.index(f"  {probe['text']}") + 1
        numbers = [f"{probe[when]['probability']:.3f}" for when in ("before", "after")]
        assert lines[place].startswith(f"    {probe['word']}: {' -> '.join(numbers)}   (")
    means = [
        np.mean([probe[when]["probability"] for probe in content["probes"]])
        for when in ("before", "after")
    ]
    shown = "mean probability of the hidden word: {:.3f} -> {:.3f}".format(*means)
    losses = [content["general"][when]["loss"] for when in ("before", "after")]
    assert shown in lines
    assert any(
        line.startswith("general text: loss {:.3f} -> {:.3f}, ".format(*losses)) for line in lines
    )
    is_worse = losses[1] > losses[0]
    assert lines[-1].startswith("more loss than before") == is_worse


def test_a_new_model_is_made_again_as_the_run_made_it(files, model_dir, tmp_path, capsys):
    flags = ["--config_name", model_dir, "--tokenizer_name", model_dir, "--eval_strategy", "no"]
    output_dir = train(tmp_path / "run", files, *flags, "--seed", "7")
    general = measured(output_dir, "--general_file", files / "general.txt")["general"]
    assert general["after"]["loss"] < general["before"]["loss"]
    assert "none in the validation data\n" in capsys.readouterr().out  # which this run has not


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        probes.main([str(argument) for argument in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_what_changed_since_the_run_began_is_refused(files, model_dir, tmp_path, capsys):
    model = shutil.copytree(model_dir, tmp_path / "model")
    data = shutil.copytree(files, tmp_path / "data")
    output_dir = train(tmp_path / "run", data, "--model_name_or_path", str(model))
    with (data / "train.txt").open("a") as file:
        file.write("\none more")
    assert refusal(capsys, output_dir) == f"error: {output_dir}: its data changed since it began"
    shutil.copy(files / "train.txt", data)
    weights = load_file(model / "model.safetensors")
    weights["cls.predictions.bias"] += 1
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert refusal(capsys, output_dir) == f"error: {output_dir}: its model changed since it began"
    shutil.rmtree(model)
    assert str(model) in refusal(capsys, output_dir)


def test_wrong_arguments_are_answered_with_a_message(finished, model_dir, tmp_path, capsys):
    assert refusal(capsys, model_dir).startswith(f"error: {model_dir} holds no finished run; ")
    missing = tmp_path / "nothing.txt"
    answer = refusal(capsys, finished, "--general_file", missing)
    assert answer == f"error: {missing}: no such file"


counts = st.lists(st.integers(0, 50), min_size=6, max_size=6).map(np.array)


@drawing(max_examples=100)
@given(counts, counts)
def test_words_of_the_domain_have_four_times_the_share_and_are_ordered_by_count(train, general):
    words = [1, 2, 3, 5]
    chosen = words_of_the_domain(words, train, general)
    total, total_general = sum(train[words]), sum(general[words] + 1)
    for word in words:
        # fractions compared as products of whole numbers, so exactly
        has_more = train[word] * total_general >= 4 * (general[word] + 1) * max(total, 1)
        assert (word in chosen) == has_more
    assert [train[word] for word in chosen] == sorted(train[chosen], reverse=True)


def test_without_a_general_text_the_order_of_the_vocabulary_stands_for_it(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    # two words share the text; the second of 40 is expected to have 12 % of it, the last 0.6 %
    assert words_of_the_domain(range(40), np.bincount([1, 39] * 5)) == [1, 39]
    assert words_of_the_domain(range(40), np.bincount([0, 39] * 5)) == [39]
    columns = encode_documents(tokenizer, ["we met Grace"], 48, line_by_line=True).columns
    assert choose_words(tokenizer, columns, None, []) == []


def test_a_word_that_stands_twice_or_within_another_is_not_hidden(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    columns = encode_documents(tokenizer, ["Nova"] * 50, 48, line_by_line=True).columns
    general = encode_documents(tokenizer, GENERAL, 48, line_by_line=True).columns
    texts = [
        "when we met Nova today Nova was there",
        "when we met Nova-like people they left",
        "when we met Nova, it was not so long ago",
    ]
    (hidden,) = choose_words(tokenizer, columns, general, texts)
    assert (hidden["word"], hidden["text"]) == ("Nova", texts[2].replace("Nova", "[MASK]"))
