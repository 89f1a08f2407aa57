"""What an adaptation changed: measured before and after, and nothing of the training is moved."""

import json

import numpy as np
import pytest
from conftest import tagged_sentences
from hypothesis import given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from transformers import AutoTokenizer

import rawtrain.loop
from rawtrain import MaskFiller, mlm
from rawtrain.cli.command import settings_from
from rawtrain.config import MlmSettings
from rawtrain.data.text import encode_documents
from rawtrain.study.probes import choose_probes, words_of_the_domain

GENERAL = ["we met today", "today we met", "the other day we met them"] * 8


class Killed(BaseException):
    """In the place of kill -9: nothing of the program handles it."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    words, _ = tagged_sentences(150)
    text = "\n".join(f"{' '.join(sentence)} and so on ." for sentence in words)
    (folder / "train.txt").write_text(text, encoding="utf-8")
    (folder / "general.txt").write_text("\n".join(GENERAL), encoding="utf-8")
    return folder


def run(output_dir, model_dir, files, *more, general=True):
    command = f"--model_name_or_path {model_dir} --train_file {files / 'train.txt'} --use_cpu "
    command += f"--line_by_line --learning_rate 3e-3 --save_steps 4 --output_dir {output_dir} "
    command += "--max_steps 24 " + f"--general_file {files / 'general.txt'}" * general
    mlm.main(settings_from(MlmSettings, [*command.split(), "--disable_tqdm", "true", *more]))
    file = output_dir / "probes.json"
    return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture(scope="module")
def output(tmp_path_factory, model_dir, files):
    output_dir = tmp_path_factory.mktemp("runs") / "output"
    run(output_dir, model_dir, files)
    return output_dir


@pytest.fixture(scope="module")
def content(output):
    return json.loads((output / "probes.json").read_text())


def test_hidden_words_are_whole_and_of_the_validation_sentences(content, files):
    lines = (files / "train.txt").read_text().splitlines()[:8]  # 5 % validate
    assert 1 <= len(content["probes"]) <= 10
    for probe in content["probes"]:
        assert probe["text"].replace("[MASK]", probe["word"]) in lines
        assert probe["word"] not in probe["text"].split()
    assert len({probe["text"] for probe in content["probes"]}) == len(content["probes"])
    assert not {"today", "met"} & {probe["word"] for probe in content["probes"]}  # general words


def test_the_values_after_training_are_those_of_the_saved_model(content, output):
    filler = MaskFiller.from_pretrained(output, use_cpu=True)
    for probe in content["probes"]:
        probabilities = filler.probabilities(probe["text"])[0]
        # the run's model attends by another function, in another order of sums
        found = float(probabilities[probe["token"]])
        assert probe["after"]["probability"] == pytest.approx(found, rel=1e-4)
        (likeliest,) = filler(probe["text"], top_k=3)
        assert probe["after"]["likeliest"] == [word["token_str"].strip() for word in likeliest]
        assert probe["before"] != probe["after"]


def test_the_general_text_is_evaluated_before_and_after(content, files):
    general = content["general"]
    assert general["source"] == str(files / "general.txt")
    for scores in (general["before"], general["after"]):
        assert scores["perplexity"] == np.exp(scores["loss"])
    assert general["before"]["loss"] != general["after"]["loss"]


def test_measuring_changes_no_bit_of_the_training(output, model_dir, files, tmp_path, monkeypatch):
    monkeypatch.setattr(mlm, "measure_before", lambda *_: None)
    monkeypatch.setattr(mlm, "choose_probes", lambda *_: None)
    plain = tmp_path / "plain"
    assert run(plain, model_dir, files, general=False) is None
    assert (plain / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


def kill_at(step, monkeypatch):
    steps, original = [0], rawtrain.loop.train_step

    def counted(*arguments):
        steps[0] += 1
        if steps[0] == step:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(rawtrain.loop, "train_step", counted)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_interrupted_run_keeps_the_values_from_before(
    elsewhere, output, content, model_dir, files, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_at(10, patched)
        run(tmp_path / "out", model_dir, files)
    monkeypatch.setattr(mlm, "measure_before", None)  # called, it would fail
    folder, more = tmp_path / "out", ()
    if elsewhere:
        more = ("--resume_from_checkpoint", str(folder / "checkpoint-8"))
        folder = tmp_path / "elsewhere"
    assert run(folder, model_dir, files, *more) == content
    assert (folder / "model.safetensors").read_bytes() == (
        output / "model.safetensors"
    ).read_bytes()


def test_a_general_text_that_was_changed_has_no_loss_from_before(
    model_dir, files, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_at(10, patched)
        run(tmp_path / "out", model_dir, files)
    other = tmp_path / "general.txt"
    other.write_text("another text of which some words are met", encoding="utf-8")
    general = run(tmp_path / "out", model_dir, files, "--general_file", str(other))["general"]
    assert set(general) == {"source", "fingerprint", "after"}
    printed = capsys.readouterr()
    assert "was changed, so there is no loss from before" in printed.err
    assert f"general text ({other}): loss - ->" in printed.out


def test_the_report_is_printed_and_measured_again_where_its_results_are_missing(
    model_dir, files, tmp_path, capsys
):
    content = run(tmp_path / "out", model_dir, files)
    first = capsys.readouterr().out
    assert "mean probability of the hidden word: " in first and "general text (" in first
    (tmp_path / "out" / "eval_results.json").unlink()  # as if killed just before it
    assert run(tmp_path / "out", model_dir, files) == content
    assert capsys.readouterr().out.count("mean probability of the hidden word: ") == 1


def test_without_validation_data_the_general_text_is_measured_all_the_same(
    model_dir, files, tmp_path, capsys
):
    content = run(tmp_path / "out", model_dir, files, "--eval_strategy", "no")
    assert content["probes"] == []
    assert set(content["general"]) == {"source", "fingerprint", "before", "after"}
    assert "general text (" in capsys.readouterr().out


def test_a_general_file_that_is_missing_is_refused(model_dir, files, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"--general_file .*nothing.txt does not exist"):
        run(tmp_path / "out", model_dir, files, "--general_file", str(tmp_path / "nothing.txt"))


counts = st.lists(st.integers(0, 50), min_size=6, max_size=6).map(np.array)


@drawing(max_examples=100, deadline=None, derandomize=True)
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
    assert choose_probes(tokenizer, columns, None, []) == []


def test_a_word_that_stands_twice_or_within_another_is_not_hidden(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    columns = encode_documents(tokenizer, ["Nova"] * 50, 48, line_by_line=True).columns
    general = encode_documents(tokenizer, GENERAL, 48, line_by_line=True).columns
    texts = [
        "when we met Nova today Nova was there",
        "when we met Nova-like people they left",
        "when we met Nova, it was not so long ago",
    ]
    (probe,) = choose_probes(tokenizer, columns, general, texts)
    assert (probe.word, probe.text) == ("Nova", texts[2].replace("Nova", "[MASK]"))
