"""The mlm command from documents to saved model, on tiny data."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tagged_sentences
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from rawtrain import mlm
from rawtrain.batches import TrainingBatches
from rawtrain.cli.command import settings_from
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.pad import PaddedRows
from rawtrain.config import MlmSettings
from rawtrain.data import text as text_module
from rawtrain.data.text import count_tokens, encode_documents


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    words, _ = tagged_sentences(150)
    file = tmp_path_factory.mktemp("text") / "train.txt"
    file.write_text("\n".join(map(" ".join, words)) + "\n")
    return str(file)


def write(file, lines):
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def run_mlm(output_dir, model_dir, text_file, *more):
    flags = ["--model_name_or_path", model_dir, "--train_file", text_file, "--use_cpu"]
    flags += ["--learning_rate", "3e-3", "--disable_tqdm", "true", "--output_dir", str(output_dir)]
    settings = settings_from(MlmSettings, [*flags, *more])
    mlm.main(settings)
    return settings


@pytest.fixture(scope="module")
def output(tmp_path_factory, model_dir, text_file):
    output_dir = tmp_path_factory.mktemp("runs") / "output"
    run_mlm(output_dir, model_dir, text_file, "--line_by_line")
    return output_dir


def history(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def masked_tokens(model_dir, text_file, **overrides):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    texts = Path(text_file).read_text().splitlines()
    settings = MlmSettings(per_device_train_batch_size=4, **overrides)
    columns = encode_documents(tokenizer, texts, 48, line_by_line=True).columns
    return MaskedTokens(columns, tokenizer, settings)


def collator(model_dir, text_file, **overrides):
    source = masked_tokens(model_dir, text_file, **overrides)
    return PaddedRows(source, source.tokenizer)


def test_the_adapted_model_is_better_than_before(output):
    evaluations = [entry for entry in history(output) if "eval_loss" in entry]
    assert [entry["epoch"] for entry in evaluations] == [0, 1, 2, 3]
    assert evaluations[0]["step"] == 0
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"] - 1
    assert evaluations[-1]["eval_accuracy"] > evaluations[0]["eval_accuracy"]
    for entry in evaluations:
        assert entry["eval_perplexity"] == math.exp(entry["eval_loss"])


def test_results_have_the_keys_of_run_mlm(output):
    speed = "eval_runtime eval_samples_per_second eval_steps_per_second"
    found = json.loads((output / "eval_results.json").read_text())
    assert set(found) == set(
        f"epoch eval_loss eval_accuracy perplexity eval_samples {speed}".split()
    )
    assert found["perplexity"] == math.exp(found["eval_loss"])
    assert found["eval_loss"] == [e for e in history(output) if "eval_loss" in e][-1]["eval_loss"]


def test_the_saved_model_fills_masks_in_transformers(output):
    fill = pipeline("fill-mask", model=str(output))
    assert fill("we [MASK] Ada today")[0]["token_str"] == "met"


def test_two_evaluations_and_two_seeds_have_the_same_masks(model_dir, text_file):
    one, other = (collator(model_dir, text_file, seed=seed) for seed in (1, 2))
    rows = np.arange(20)
    assert all(torch.equal(one(rows)[name], other(rows)[name]) for name in one(rows))
    assert not torch.equal(one(rows, epoch=0)["input_ids"], other(rows, epoch=0)["input_ids"])


def test_masks_are_new_in_each_epoch_and_the_same_for_any_batch(model_dir, text_file):
    tokens = masked_tokens(model_dir, text_file).tokens
    rows = np.array([7, 3, 99, 12])
    together = tokens(rows, epoch=1)["input_ids"]
    apart = [tokens(rows[i : i + 1], epoch=1)["input_ids"] for i in range(4)]
    assert together.tolist() == np.concatenate(apart).tolist()
    first, second = (tokens(np.arange(150), epoch)["input_ids"] for epoch in (0, 1))
    assert (first != second).any()


def test_what_is_not_masked_is_unchanged_and_labels_are_the_original(model_dir, text_file):
    source = masked_tokens(model_dir, text_file)
    rows = np.arange(150)
    where, _ = source.columns.token_index(rows)
    original = source.columns.values["input_ids"][where]
    masked, labels = source.tokens(rows, epoch=0).values()
    is_hidden = labels != -100
    assert (masked[~is_hidden] == original[~is_hidden]).all()
    assert (labels[is_hidden] == original[is_hidden]).all()
    assert not is_hidden[source.columns.values["special"][where]].any()


def test_a_batch_is_padded_as_transformers_pads(model_dir, text_file):
    collate = collator(model_dir, text_file)
    rows = np.array([0, 5, 9])
    batch = collate(rows)
    features = [{"input_ids": collate.source.columns.row(row)["input_ids"]} for row in rows]
    expected = collate.tokenizer.pad(features, return_tensors="pt")
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    is_open = batch["labels"] == -100
    assert torch.equal(batch["input_ids"][is_open], expected["input_ids"][is_open])
    assert (batch["labels"][expected["attention_mask"] == 0] == -100).all()
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64


def test_whole_word_mask_hides_all_pieces_of_a_word_or_none(model_dir, text_file):
    source = masked_tokens(model_dir, text_file, whole_word_mask=True, mlm_probability=0.4)
    for row in range(30):
        words = source.columns.row(row)["word_starts"].cumsum()
        labels = source.tokens(np.array([row]), epoch=0)["labels"]
        for word in np.unique(words):
            assert len(set((labels[words == word] != -100).tolist())) == 1


def test_loss_and_accuracy_are_those_of_the_masked_positions(output, model_dir, text_file):
    """Counted once more, row by row without padding, from the saved model."""
    model = AutoModelForMaskedLM.from_pretrained(output).eval()
    collate = collator(model_dir, text_file)
    loss_sum, num_right, num_labels = 0.0, 0, 0
    for row in range(8):  # the first 5 % of 150 documents
        batch = collate(np.array([row]))
        hidden = batch["labels"] != -100
        with torch.no_grad():
            logits = model(batch["input_ids"]).logits[hidden]
        loss_sum += F.cross_entropy(
            logits.double(), batch["labels"][hidden], reduction="sum"
        ).item()
        num_right += int((logits.argmax(-1) == batch["labels"][hidden]).sum())
        num_labels += int(hidden.sum())
    found = json.loads((output / "eval_results.json").read_text())
    assert found["eval_samples"] == 8
    assert found["eval_loss"] == pytest.approx(loss_sum / num_labels, abs=1e-6)  # padding, float32
    assert found["eval_accuracy"] == num_right / num_labels


def test_workers_change_no_bit(output, model_dir, text_file, tmp_path):
    run_mlm(
        tmp_path / "out", model_dir, text_file, "--line_by_line", "--dataloader_num_workers", "2"
    )
    weights = [(folder / "model.safetensors").read_bytes() for folder in (output, tmp_path / "out")]
    assert weights[0] == weights[1]


def test_a_second_run_finds_its_rows_in_the_cache_and_ends_with_the_same_weights(
    output, model_dir, text_file, tmp_path, capsys
):
    weights = (output / "model.safetensors").read_bytes()
    for flags, num_found in (([], 2), (["--overwrite_cache"], 0)):
        again = tmp_path / f"found{num_found}"
        flags += ["--preprocessing_num_workers", "1"]
        run_mlm(again, model_dir, text_file, "--line_by_line", *flags)
        assert capsys.readouterr().err.count("encoded rows come from the cache") == num_found
        assert (again / "model.safetensors").read_bytes() == weights


def test_token_counts_are_those_of_all_tokens_at_once(model_dir, text_file, monkeypatch):
    monkeypatch.setattr(text_module, "COUNTED", 100)
    columns = masked_tokens(model_dir, text_file).columns
    ids, special = columns.values["input_ids"], columns.values["special"]
    assert count_tokens(columns).tolist() == np.bincount(ids[~special]).tolist()


def test_without_line_by_line_all_tokens_are_in_blocks(model_dir, text_file, tmp_path, capsys):
    run_mlm(tmp_path / "out", model_dir, text_file, "--max_seq_length", "16", "--max_steps", "2")
    printed = capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    texts = Path(text_file).read_text().splitlines()
    num_tokens = sum(len(tokenizer(text)["input_ids"]) for text in texts[8:])
    assert f"{num_tokens:,}" in printed
    assert f"{-(-num_tokens // 16):,}" in printed
    assert "tokens cut off" not in printed


def test_documents_that_are_cut_are_counted(model_dir, text_file, tmp_path, capsys):
    run_mlm(
        tmp_path / "out", model_dir, text_file, "--line_by_line", "--max_seq_length", "6",
        "--max_steps", "1",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "tokens cut off" in printed and "documents cut" in printed


@pytest.mark.parametrize("how", ["--line_by_line", "--max_seq_length=16"])
def test_documents_of_which_the_tokenizer_makes_no_token_are_counted_and_left_out(
    how, model_dir, tmp_path, capsys
):
    lines = Path(write(tmp_path / "clean.txt", [f"we met Ada {n}" for n in range(30)]))
    nothing = "\u200b\u200d\n"
    dirty = tmp_path / "dirty.txt"
    dirty.write_text("".join(nothing + line + "\n" for line in lines.read_text().splitlines()))
    flags = ["--max_steps", "2", "--per_device_train_batch_size", "1", how]
    for file in (lines, dirty):
        for run in ("first", "cached"):
            validation = ["--validation_file", str(file)]
            run_mlm(tmp_path / file.stem / run, model_dir, str(file), *flags, *validation)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("documents without a token 30 30") == 2
    clean, *others = [
        (tmp_path / name / "model.safetensors").read_bytes()
        for name in ("clean/first", "clean/cached", "dirty/first", "dirty/cached")
    ]
    assert all(other == clean for other in others)


def test_whole_words_as_long_as_rows_are_warned_of(model_dir, tmp_path, capsys):
    file = write(tmp_path / "dna.txt", ["AGaPaAcmenGlobexoOslo" * 3 for _ in range(30)])
    flags = ["--line_by_line", "--max_steps", "1"]
    run_mlm(tmp_path / "pieces", model_dir, file, *flags)
    assert "as long as rows" not in capsys.readouterr().err
    run_mlm(tmp_path / "words", model_dir, file, *flags, "--whole_word_mask")
    said = capsys.readouterr().err
    assert "words are as long as rows" in said and "Leave it out" in said
    file = write(tmp_path / "words.txt", ["we met Ada today"] * 30)
    run_mlm(tmp_path / "several", model_dir, file, *flags, "--whole_word_mask")
    assert "as long as rows" not in capsys.readouterr().err


def test_a_tokenizer_without_mask_token_is_refused(model_dir, text_file, tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(SystemExit) as stopped:
        run_mlm(
            tmp_path / "out", model_dir, text_file, "--tokenizer_name", str(tmp_path / "tokenizer")
        )
    assert stopped.value.code == 2
    assert "mask token" in capsys.readouterr().err


def test_the_first_documents_validate_unless_nothing_is_evaluated(model_dir, text_file, tmp_path):
    run_mlm(
        tmp_path / "out", model_dir, text_file, "--line_by_line", "--max_steps", "1",
        "--validation_split_percentage", "20",
    )  # fmt: skip
    counts = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert (counts["train_samples"], counts["eval_samples"]) == (120, 30)
    run_mlm(tmp_path / "no", model_dir, text_file, "--max_steps", "1", "--eval_strategy", "no")
    assert not (tmp_path / "no" / "eval_results.json").exists()


def test_a_batch_has_one_position_in_the_run_whatever_drew_before(model_dir, text_file):
    collate = collator(model_dir, text_file)
    batches = TrainingBatches(150, collate.source.settings, collate)
    late = batches[50][0]["input_ids"]
    list(map(batches.__getitem__, range(1, 10)))
    np.random.rand(3), torch.rand(3)
    assert torch.equal(batches[50][0]["input_ids"], late)


def test_a_loss_whose_perplexity_is_too_large_for_a_number_ends_no_run(
    model_dir, text_file, tmp_path, capfd
):
    model = AutoModelForMaskedLM.from_pretrained(model_dir)
    bias = model.get_output_embeddings().bias
    bias.data.normal_(std=1e4, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path / "model")
    best = ["--load_best_model_at_end", "--metric_for_best_model", "perplexity"]
    more = [*best, "--max_steps", "2", "--save_strategy", "epoch", "--eval_strategy", "epoch"]
    run_mlm(tmp_path / "out", str(tmp_path / "model"), text_file, "--line_by_line", *more)
    shown = capfd.readouterr()
    card, report = ((tmp_path / "out" / name).read_text() for name in ("README.md", "report.html"))
    assert re.search(r"before training +[\d.]+ +inf +0", shown.out)
    assert "perplexity inf" in shown.err and "perplexity inf." in report
    assert re.search(r"\| after training \| [\d.]+ \| inf \| 0", card)
    for file in ("eval_results.json", "trainer_state.json"):
        json.loads((tmp_path / "out" / file).read_text(), parse_constant=pytest.fail)
    found = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert found["perplexity"] == math.inf and found["eval_loss"] > 709
    assert [entry["eval_perplexity"] for entry in history(tmp_path / "out")[:1]] == [math.inf]


def test_validation_data_in_which_nothing_is_masked_is_a_mistake(
    model_dir, text_file, tmp_path, capsys
):
    flags = ["--line_by_line", "--mlm_probability", "0.001", "--max_eval_samples", "2"]
    with pytest.raises(SystemExit) as stopped:
        run_mlm(tmp_path / "out", model_dir, text_file, *flags)
    assert stopped.value.code == 2
    assert "no labelled token" in capsys.readouterr().err


def test_a_data_set_with_test_data_is_trained_and_validated_on_and_no_more(model_dir, tmp_path):
    (tmp_path / "corpus").mkdir()
    for split in ("train", "validation", "test"):
        words, _ = tagged_sentences(20)
        lines = "".join(json.dumps({"text": " ".join(sentence)}) + "\n" for sentence in words)
        (tmp_path / "corpus" / f"{split}.jsonl").write_text(lines)
    flags = ["--dataset_name", str(tmp_path / "corpus"), "--model_name_or_path", model_dir]
    flags += ["--output_dir", str(tmp_path / "out"), "--max_steps", "2", "--use_cpu"]
    mlm.main(settings_from(MlmSettings, flags))
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert "eval_loss" in results and not [name for name in results if "predict" in name]
