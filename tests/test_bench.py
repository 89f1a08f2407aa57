"""What scripts/bench.py says is counted right, and it runs; how fast anything is, no test says."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import bench
import bench_contenders
import bench_limit
import pytest
import torch
from conftest import tagged_sentences, tiny_bert, write_conll
from torch.utils.flop_counter import FlopCounterMode

from rawtrain.collate import route
from rawtrain.fast import cpu, vocabulary
from rawtrain.fast.attention import ROW_ATTENTION
from rawtrain.fast.dropout import FastDropout
from rawtrain.fast.head import cross_entropy_at_labels

BENCH = Path(__file__).parent.parent / "scripts" / "bench.py"


def test_the_weights_of_linear_layers_are_counted_by_body_and_head():
    layer = 4 * 16 * 16 + 2 * 16 * 24  # four projections of the attention, two layers after it
    assert bench_limit.model_size(tiny_bert()) == bench_limit.Size(2 * layer, 16 * 5, 2, 16)


def test_useful_work_is_what_torch_counts_in_a_forward_without_padding():
    model = tiny_bert()
    model.set_attn_implementation("eager")  # whose products torch's counter knows on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for length in (3, 7):
            model(input_ids=torch.full((1, length), 5))
    size = bench_limit.model_size(model)
    found = bench_limit.useful_flops(size, [3, 7], num_labels=10, passes=1)
    assert found == counter.get_total_flops()
    assert bench_limit.useful_flops(size, [3, 7], num_labels=10) == 3 * found


def test_the_limit_is_the_rate_of_the_best_shape(monkeypatch):
    monkeypatch.setattr(bench_limit, "rate", lambda rows, inputs, outputs, *_: rows)
    assert bench_limit.best_rate([(8, 16, 16), (16, 16, 16), (9, 16, 16)], None, None) == 16


def side(seconds, tokens, flops):
    found = {"steps": 2, "peak_mib": 1500, "peak_gpu_mib": 0, "result": "loss 1.0"}
    return found | {"seconds": seconds, "tokens": tokens, "flops": flops}


def test_figures_are_medians_over_the_turns_after_the_first():
    ours = side([9.0, 1.0, 1.0, 1.0], [1, 1, 1, 1], [1, 1, 1, 1])
    theirs = side([9.0, 2.0, 4.0, 1.0], [2, 40, 40, 20], [0, 40, 40, 20])
    assert dict(zip(bench.FIGURES, bench.figures(theirs, ours, limit=100), strict=True)) == {
        "ms": "1,000.0",  # of 1000, 2000, 500: a turn has two steps
        "real tokens/s": "20",  # of 20, 10, 20
        "of the limit": "20.0 %",  # of 20, 10, 20
        "peak MiB": "1,500",
        "GPU MiB": "0",
        "ratio": "2.00 (1.00 to 4.00)",
        "at the end": "loss 1.0",
    }


@pytest.fixture
def job(model_dir, settings, tmp_path):
    file = write_conll(tmp_path / "train.conll", *tagged_sentences(30))
    return bench_contenders.prepare(
        settings(model_name_or_path=model_dir, train_file=file, do_train=True, max_steps=12)
    )


def test_trainer_takes_the_rows_that_are_counted_for_each_step(job):
    job = replace(job, settings=replace(job.settings, logging_steps=12))
    turns = SimpleNamespace(step_done=lambda step: None)
    _, counted = bench_contenders.by_trainer(job, turns, evaluates=False)
    rows = bench_contenders.rows_of_steps(job, evaluates=False)
    assert len(rows) == 12  # three epochs
    assert counted == [job.columns.lengths[step].sum() for step in rows]
    assert counted != sorted(counted)


def test_both_sides_score_one_model_alike(job):
    job = replace(job, settings=replace(job.settings, max_steps=1))
    turns = SimpleNamespace(step_done=lambda step: None)
    theirs, _ = bench_contenders.by_trainer(job, turns, evaluates=True)
    assert (
        bench_contenders.by_rawtrain(job, turns, evaluates=True).split(", ")[1:]
        == (
            theirs.split(", ")[1:]  # Trainer's loss is a mean over rows, not over tokens
        )
    )


def parts_in_use(job):
    """What of rawtrain/fast a model is trained with; changes the model."""
    batches, batch_loss = route.make_batches(
        job.model, {"train": job.source}, job.tokenizer, job.settings
    )
    with vocabulary.compact_vocabulary(job.model, job.columns, job.settings):
        is_compact = isinstance(job.model.get_input_embeddings(), vocabulary.CompactEmbedding)
    return {
        "without packed rows": "position_ids" in batches["train"][1][0],
        "without row attention": job.model.config._attn_implementation == ROW_ATTENTION,
        "without fast dropout": any(isinstance(m, FastDropout) for m in job.model.modules()),
        "head at all tokens": batch_loss is cross_entropy_at_labels,
        "whole vocabulary": is_compact,
    }


@pytest.mark.parametrize("part", [None, *bench_contenders.PARTS])
def test_a_part_that_is_left_out_is_left_out_alone(job, part, monkeypatch):
    tuned = {"malloc as it is": False, "float32 by MKL": False}
    monkeypatch.setattr(cpu, "keep_freed_memory", lambda: tuned.update({"malloc as it is": True}))
    monkeypatch.setattr(
        cpu, "use_fastest_true_float32", lambda: tuned.update({"float32 by MKL": True})
    )
    if part is not None:
        switch = bench_contenders.PARTS[part]
        if isinstance(switch, tuple):
            monkeypatch.setattr(*switch[:2], getattr(*switch[:2]))  # put back afterwards
        job = replace(job, settings=bench_contenders.without(part, job.settings))
    if job.settings.is_fast:
        cpu.tune_process(job.model.device)
    in_use = parts_in_use(job) | tuned
    left_out = set(in_use) if part == "without rawtrain/fast" else {part} - {None}
    assert {name for name, is_used in in_use.items() if not is_used} == left_out


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--stepz", "3"], "--stepz is not a setting; did you mean"),
        (["--steps", "0"], "numbers from 1"),
        (["--max_steps", "3"], "--max_steps is for the benchmark to decide"),
        (["--gradient_accumulation_steps", "2"], "--gradient_accumulation_steps is for the bench"),
        (["--train_file", "missing.conll"], "does not exist"),
    ],
)
def test_a_wrong_flag_gives_one_message_before_anything_is_measured(flags, message):
    named = ["--task", "ner", "--model", "x", "--train_file", __file__]
    with pytest.raises(ValueError, match=message):
        bench.parse([*named, *flags])


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--task", "ner"], ["--task", "mlm", "--evaluate"]])
def test_a_small_run_prints_a_table_of_both_sides(model_dir, tmp_path, flags):
    file = write_conll(tmp_path / "train.conll", *tagged_sentences(30))
    flags = [*flags, "--model", model_dir, "--train_file", file, "--precision", "fp32"]
    flags += ["--steps", "1", "--rounds", "1", "--use_cpu", "--max_seq_length", "32"]
    run = subprocess.run([sys.executable, BENCH, *flags], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    table = [line.split()[0] for line in run.stdout.splitlines() if "loss " in line]
    assert table[:2] == ["Trainer", "rawtrain"]


@pytest.mark.slow
def test_a_mistake_that_a_process_finds_is_reported_without_a_traceback(tmp_path, model_dir):
    (tmp_path / "empty.conll").write_text("")
    flags = ["--task", "ner", "--model", model_dir, "--train_file", tmp_path / "empty.conll"]
    run = subprocess.run([sys.executable, BENCH, *flags], capture_output=True, text=True)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert "empty.conll" in run.stderr
