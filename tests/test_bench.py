"""What scripts/bench.py says is counted right, and it runs; how fast anything is, no test says."""

import doctest
import json
import subprocess
import sys
from pathlib import Path

import bench
import bench_contenders
import bench_limit
import bench_parts
import bench_report
import numpy as np
import pytest
import torch
from conftest import tagged_sentences, tiny_bert, write_conll
from torch.utils.flop_counter import FlopCounterMode

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


def test_the_limit_is_the_rate_of_the_best_shape():
    rates = bench_limit.best_rate([(8, 16, 16), (16, 16, 16)], torch.bfloat16, torch.device("cpu"))
    assert rates > 0


def turn(seconds, tokens):
    waited = {"waited_seconds": 1.0, "waited_cpu_seconds": 0.01}
    return {"seconds": seconds, "cpu_seconds": seconds, "tokens": tokens, **waited}


def test_the_first_turn_does_not_count():
    turns = [turn(9.0, [1, 1]), turn(2.0, [30, 10]), turn(4.0, [20, 20]), turn(1.0, [10, 10])]
    found = bench_report.summary(turns, flops=[0, 40, 40, 20], rate=100)
    assert found == {
        "tokens_per_second": 20.0,  # of 20, 10, 20
        "ms_per_step": 1000.0,  # of 1000, 2000, 500
        "cores_used": 1.0,
        "share_of_limit": 0.2,  # of 0.2, 0.1, 0.2
    }


def test_other_rows_are_noticed_in_a_single_step():
    ours, theirs = [turn(1, [5, 7]), turn(1, [6, 8])], [turn(2, [5, 7]), turn(2, [6, 8])]
    assert bench_report.other_rows({"rawtrain": ours, "plain": theirs}) is None
    theirs[1]["tokens"] = [8, 6]  # as many in the turn
    assert "turn 1 rawtrain had [6, 8]" in bench_report.other_rows({"rawtrain": ours, "p": theirs})


def test_a_worker_that_waits_in_circles_is_noticed():
    calm, busy = [turn(1, [5])], [turn(1, [5]) | {"waited_cpu_seconds": 0.9}]
    assert bench_report.busy_while_waiting({"rawtrain": calm, "plain": busy}) == ["plain"]


def test_collators_are_compared_up_to_the_choice_of_masks():
    def batch(ids, labels):
        return {"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])}

    bench_parts.check_equal(batch([4, 9], [-100, 7]), batch([9, 7], [4, -100]))
    with pytest.raises(RuntimeError, match="input_ids"):
        bench_parts.check_equal(batch([4, 9], [-100, 7]), batch([9, 7], [5, -100]))


def test_the_plain_loop_and_rawtrain_take_the_rows_in_one_order(settings):
    batch_settings = settings(per_device_train_batch_size=4)
    batches = bench_contenders.TrainingBatches(10, batch_settings, collate=None)
    ours = [rows.tolist() for step in range(1, 7) for rows in batches.rows(step)]
    plain = bench_contenders.plain_batches(range(10), list, batch_settings)
    assert ours == [next(plain) for _ in range(6)]
    assert sorted(np.concatenate(ours[:3])) == list(range(10))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stepz", "3"], "--stepz is not a setting; did you mean"),
        (["--steps", "none"], "argument --steps: found 'none'"),
        (["--train_file", "x.conll"], "--task ner"),
        (["--task", "ner", "--train_file", "missing.conll", "--model", "x"], "does not exist"),
        (["--max_steps", "3"], "--max_steps is the benchmark's to decide"),
        (["--", "--per_device_train_batch_size", "3"], "per_device_train_batch_size is the bench"),
        (["--task", "ner", "--blocks"], "--blocks is for --task mlm"),
        (["--json", "no/such/folder/out.json"], "no such folder"),
    ],
)
def test_a_wrong_argument_gives_one_message_before_anything_is_measured(
    arguments, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        bench.parse(arguments, tmp_path)


def test_the_examples_in_the_report_hold():
    assert doctest.testmod(bench_report).failed == 0


def test_a_small_run_prints_a_table_and_writes_every_turn(model_dir, tmp_path):
    file = write_conll(tmp_path / "train.conll", *tagged_sentences(30))
    flags = ["--task", "ner", "--model", model_dir, "--train_file", file, "--precision", "fp32"]
    flags += ["--steps", "1", "--rounds", "1", "--threads", "1", "--batch_size", "4", "--use_cpu"]
    flags += ["--json", str(tmp_path / "found.json"), "--", "--stride", "0"]
    command = [sys.executable, BENCH, *flags]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert [name for name in bench_report.NAMES.values() if f"\n{name} " in run.stdout] == [
        "rawtrain",
        "Trainer",
        "plain loop",
    ]
    (case,) = json.loads((tmp_path / "found.json").read_text())["cases"]
    tokens = {name: [t["tokens"] for t in c["turns"]] for name, c in case["contenders"].items()}
    assert tokens["rawtrain"] == tokens["trainer"] == tokens["plain"]
    assert [len(turns) for turns in tokens.values()] == [2, 2, 2]
