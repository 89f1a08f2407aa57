"""The ner command from data to saved model, on tiny data."""

import json
import math
from itertools import chain
from pathlib import Path

import pytest
import torch
from conftest import tagged_sentences, write_conll
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from transformers import AutoModelForTokenClassification, AutoTokenizer, TrainerState, pipeline

from rawtrain import Tagger, ner
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.data.conll import read_conll

RUN_NER_KEYS = {
    "train": "train_loss train_runtime train_samples train_samples_per_second "
    "train_steps_per_second epoch",
    "eval": "eval_loss eval_f1 eval_precision eval_recall eval_accuracy eval_runtime eval_samples "
    "eval_samples_per_second eval_steps_per_second epoch",
    "predict": "predict_loss predict_f1 predict_precision predict_recall predict_accuracy "
    "predict_runtime predict_samples predict_samples_per_second predict_steps_per_second",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        f"{name}_file": write_conll(folder / f"{name}.conll", *tagged_sentences(number, seed))
        for seed, (name, number) in enumerate([("train", 120), ("validation", 30), ("test", 30)])
    }


def run_ner(output_dir, model_dir, files, *more):
    flags = [text for name, file in files.items() for text in (f"--{name}", file)]
    recipe = ["--learning_rate", "5e-3", "--num_train_epochs", "8", "--use_cpu"]
    recipe += ["--disable_tqdm", "true"]
    main = ["--model_name_or_path", model_dir, "--output_dir", str(output_dir)]
    settings = settings_from(NerSettings, [*main, *flags, *recipe, *more])
    ner.main(settings)
    return settings


@pytest.fixture(scope="module")
def output(tmp_path_factory, model_dir, files):
    output_dir = tmp_path_factory.mktemp("runs") / "output"
    run_ner(output_dir, model_dir, files)
    return output_dir


def results(output, name):
    return json.loads((output / f"{name}_results.json").read_text())


def test_the_model_learns(output):
    assert results(output, "predict")["predict_f1"] > 0.8  # a look-up: 0.73


@pytest.mark.parametrize("name", RUN_NER_KEYS)
def test_results_have_the_keys_of_run_ner_and_plain_numbers(output, name):
    found = results(output, name)
    assert set(found) == set(RUN_NER_KEYS[name].split())
    assert all(type(value) in (int, float) and math.isfinite(value) for value in found.values())
    assert found.items() <= results(output, "all").items()


def test_the_scores_are_seqevals_on_the_written_predictions(output, files):
    lines = (output / "predictions.conll").read_text().split("\n")
    predictions = read_conll(output / "predictions.conll", tag_column=2)
    gold = read_conll(output / "predictions.conll", tag_column=1)
    source = read_conll(files["test_file"])
    assert gold.words == source.words and gold.tags == source.tags
    assert all(line == "" or line.count("\t") == 2 for line in lines)
    found = results(output, "predict")
    for name, judge in (
        ("f1", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
        ("accuracy", accuracy_score),
    ):
        assert found[f"predict_{name}"] == judge(gold.tags, predictions.tags)


def test_the_saved_model_predicts_the_same_in_transformers(output, files):
    model = AutoModelForTokenClassification.from_pretrained(output).eval()
    tokenizer = AutoTokenizer.from_pretrained(output)
    predictions = read_conll(output / "predictions.conll", tag_column=2)
    for words, tags in zip(predictions.words, predictions.tags, strict=True):
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            ids = model(**encoded).logits[0].argmax(-1).tolist()
        first = {word: i for i, word in reversed(list(enumerate(encoded.word_ids(0))))}
        assert [model.config.id2label[ids[first[number]]] for number in range(len(words))] == tags


def test_the_saved_model_works_in_the_ner_pipeline(output):
    tagger = pipeline("ner", model=str(output), aggregation_strategy="first")
    found = tagger("we met Ada Nova today")
    assert [(entity["entity_group"], entity["word"]) for entity in found] == [("PER", "Ada Nova")]
    assert tagger.tokenizer.model_max_length == 48  # the model's positions
    tagger("we met Ada today " * 100)  # cut, not a crash


def test_labels_are_iob2_sorted(output):
    config = json.loads((output / "config.json").read_text())
    names = ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"]
    assert list(config["id2label"].values()) == names
    assert config["label2id"] == {name: number for number, name in enumerate(names)}


def test_the_trainer_state_is_read_by_transformers_and_equals_the_metrics_file(output):
    state = TrainerState.load_from_json(output / "trainer_state.json")
    lines = (output / "metrics.jsonl").read_text().splitlines()
    assert state.log_history == [json.loads(line) for line in lines]
    assert state.global_step == state.max_steps == 120
    assert len([entry for entry in state.log_history if "loss" in entry]) >= 20
    assert [entry["epoch"] for entry in state.log_history if "eval_loss" in entry] == list(
        range(1, 9)
    )


def test_the_written_settings_run_again_to_the_same_weights(output, tmp_path, capsys):
    again = tmp_path / "again"
    capsys.readouterr()
    ner.main(
        settings_from(NerSettings, [str(output / "settings.json"), "--output_dir", str(again)])
    )
    assert capsys.readouterr().err.count("encoded rows come from the cache") == 3
    assert (again / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()
    assert (again / "predictions.conll").read_text() == (output / "predictions.conll").read_text()


def test_a_trained_model_keeps_its_order_of_labels_and_predicts_without_training(
    output, files, tmp_path, capsys
):
    renamed = tmp_path / "model"
    model = AutoModelForTokenClassification.from_pretrained(output)
    order = [6, 5, 4, 3, 2, 1, 0]
    names = [model.config.id2label[i] for i in order]
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    model.classifier.weight.data = model.classifier.weight.data[order]
    model.classifier.bias.data = model.classifier.bias.data[order]
    model.save_pretrained(renamed)
    AutoTokenizer.from_pretrained(output).save_pretrained(renamed)
    run_ner(tmp_path / "out", str(renamed), {"test_file": files["test_file"]})
    assert (tmp_path / "out" / "predictions.conll").read_text() == (
        output / "predictions.conll"
    ).read_text()
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("tag", ["", " _", "\tX\t_"])
def test_a_test_file_without_tags_is_predicted_and_not_scored(output, tmp_path, tag, capsys):
    written = (output / "predictions.conll").read_text()
    rows = [line.split("\t") for line in written.split("\n")]
    file = tmp_path / "words.conll"
    file.write_text("\n".join(row[0] + tag if row[0] else "" for row in rows))
    run_ner(tmp_path / "out", str(output), {"test_file": str(file)}, "--do_predict")
    assert f"{file}: has no tags; it is predicted and not scored" in capsys.readouterr().err
    found = (tmp_path / "out" / "predictions.conll").read_text()
    assert found == "\n".join("\t".join([r[0], "_", r[2]]) if r[0] else "" for r in rows)
    assert results(tmp_path / "out", "predict") == {"predict_samples": 30}
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("task", ["ner", "pos"])
def test_a_test_file_without_tags_may_come_with_training_data(model_dir, tmp_path, task):
    files = {name: str(tmp_path / name) for name in ("train_file", "test_file")}
    Path(files["train_file"]).write_text("Ada B-PER\nran I-X\n")
    Path(files["test_file"]).write_text("Ada _\n")
    run_ner(tmp_path / "out", model_dir, files, "--task_name", task, "--num_train_epochs", "1")
    assert (tmp_path / "out" / "predictions.conll").read_text().startswith("Ada\t_\t")


def test_long_sentences_go_through_windows_and_every_word_is_scored(
    output, files, tmp_path, capsys
):
    words, tags = tagged_sentences(60, seed=5)
    long_words, long_tags = [[*chain(*words)]], [[*chain(*tags)]]
    file = write_conll(tmp_path / "long.conll", long_words, long_tags)
    run_ner(tmp_path / "out", str(output), {"test_file": file})
    num_words = len(long_words[0])
    assert f"{num_words:,} words read = {num_words:,} words scored\n" in capsys.readouterr().out
    recall = results(tmp_path / "out", "predict")["predict_recall"]
    run_ner(tmp_path / "cut", str(output), {"test_file": file}, "--stride", "0")
    printed = capsys.readouterr().out
    assert "cut off, counted as O" in printed and "entities cut off" in printed
    assert results(tmp_path / "cut", "predict")["predict_recall"] < recall / 2


def test_label_all_tokens_trains_on_more_and_scores_the_same_words(model_dir, files, tmp_path):
    settings = run_ner(tmp_path / "out", model_dir, files, "--label_all_tokens")
    assert settings.label_all_tokens
    assert results(tmp_path / "out", "predict")["predict_f1"] > 0.8  # the baseline: 0.73
    gold = read_conll(tmp_path / "out" / "predictions.conll", tag_column=1)
    assert gold.tags == read_conll(files["test_file"]).tags


def test_the_best_model_is_kept_and_loaded_at_the_end(model_dir, files, tmp_path):
    run_ner(
        tmp_path / "out", model_dir, files, "--load_best_model_at_end", "--learning_rate", "0.02",
        "--metric_for_best_model", "f1", "--save_strategy", "no", "--save_total_limit", "2",
    )  # fmt: skip
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    scores = {e["step"]: e["eval_f1"] for e in state["log_history"] if "eval_f1" in e}
    assert (
        state["best_metric"] == max(scores.values()) == results(tmp_path / "out", "eval")["eval_f1"]
    )
    assert state["best_global_step"] == min(s for s in scores if scores[s] == state["best_metric"])
    checkpoint = Path(state["best_model_checkpoint"])
    assert checkpoint == tmp_path / "out" / f"checkpoint-{state['best_global_step']}"
    assert (checkpoint / "model.safetensors").read_bytes() == (
        tmp_path / "out" / "model.safetensors"
    ).read_bytes()
    AutoTokenizer.from_pretrained(checkpoint)


@pytest.mark.parametrize("metric", ["MISC_f1", "eval_PER_accuracy"])
def test_a_best_metric_of_a_type_that_is_not_validated_is_refused_before_training(
    metric, model_dir, files, tmp_path, capsys
):
    flags = ["--return_entity_level_metrics", "--metric_for_best_model", metric]
    with pytest.raises(SystemExit) as ended:
        run_ner(tmp_path / "out", model_dir, files, *flags)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"--metric_for_best_model is {metric}; " in said and ": LOC, ORG, PER" in said
    assert not (tmp_path / "out").exists()


def test_the_best_of_a_type_may_decide(model_dir, files, tmp_path):
    flags = ["--return_entity_level_metrics", "--metric_for_best_model", "PER_f1", "--max_steps"]
    run_ner(tmp_path / "out", model_dir, files, *flags, "2", "--load_best_model_at_end")
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert state["best_metric"] == results(tmp_path / "out", "eval")["eval_PER_f1"]


def test_return_entity_level_metrics_adds_the_scores_of_each_type(output, files, tmp_path):
    run_ner(
        tmp_path / "out", str(output), {"test_file": files["test_file"]},
        "--return_entity_level_metrics",
    )  # fmt: skip
    found = results(tmp_path / "out", "predict")
    assert {"predict_PER_f1", "predict_LOC_recall", "predict_ORG_number"} <= set(found)
    assert found["predict_overall_f1"] == found["predict_f1"]


def test_a_word_that_would_steer_the_terminal_is_shown_and_never_sent(model_dir, tmp_path, capsys):
    words, tags = tagged_sentences(30)
    words = [["\x1b]0;owned\x07", "\x9b2J", *sentence] for sentence in words]
    tags = [["O", "B-\x1b[2J", *sentence] for sentence in tags]
    files = {"train_file": write_conll(tmp_path / "t.conll", words, tags)}
    files["validation_file"] = files["train_file"]
    run_ner(tmp_path / "output", model_dir, files, "--num_train_epochs", "1")
    shown = capsys.readouterr()
    assert r"B-\x1b[2J" in shown.out
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.out + shown.err)


def test_only_the_first_samples_are_used(output, files, tmp_path):
    run_ner(
        tmp_path / "out", str(output), files, "--max_train_samples", "16", "--max_steps", "2",
        "--max_eval_samples", "5", "--max_predict_samples", "7",
    )  # fmt: skip
    counts = results(tmp_path / "out", "all")
    assert [counts[f"{name}_samples"] for name in ("train", "eval", "predict")] == [16, 5, 7]
    written = read_conll(tmp_path / "out" / "predictions.conll")
    assert written.words == read_conll(files["test_file"]).words[:7]


def test_raw_text_is_cut_at_apostrophes_as_the_training_data_is(model_dir, files, tmp_path):
    tagged = [("we met l' Oslo d' Oslo", "O O O B-LOC O B-LOC"), ("we met Ada", "O O O")] * 20
    words, tags = ([line.split() for line in lines] for lines in zip(*tagged, strict=True))
    file = write_conll(tmp_path / "train.conll", words, tags)
    run_ner(tmp_path / "out", model_dir, {"train_file": file}, "--eval_strategy", "no")
    found = Tagger.from_pretrained(tmp_path / "out", use_cpu=True)("we met l’Oslo, d'Oslo")
    assert [(one["word"], one["entity_group"]) for one in found] == [("Oslo", "LOC")] * 2


def test_part_of_speech_tags_are_taken_as_they_are(model_dir, tmp_path):
    words, tags = tagged_sentences(60)
    tags = [["NOUN" if tag != "O" else "VERB" for tag in sentence] for sentence in tags]
    file = write_conll(tmp_path / "pos.conll", words, tags)
    files = {"train_file": file, "test_file": file}
    run_ner(tmp_path / "out", model_dir, files, "--task_name", "pos")
    found = results(tmp_path / "out", "predict")
    assert found["predict_accuracy"] == found["predict_f1"] > 0.9
