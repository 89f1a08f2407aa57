import copy
import dataclasses
import math
import re

import pytest
import torch
from conftest import NoTokenizer, padded, random_rows, tiny_bert
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Trainer, TrainingArguments

import rawtrain.loop
from rawtrain.batches import EvaluationBatches, TrainingBatches
from rawtrain.collate.pack import PackedRows
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.evaluation import evaluate
from rawtrain.fast.head import cross_entropy_at_labels
from rawtrain.loop import train, train_step
from rawtrain.loss import label_loss, summed_cross_entropy
from rawtrain.optim import make_optimizer
from rawtrain.precision import OutOfMemoryError, make_scaler
from rawtrain.run.checkpoint import Checkpoints, in_folder
from rawtrain.run.log import RunLog
from rawtrain.run.step_record import NonFiniteError

CPU = torch.device("cpu")


class Padding:
    """Enough of a tokenizer to lay out rows."""

    pad_token_id = pad_token_type_id = 0


COLUMNS = random_rows()
HELD_OUT = random_rows(10, seed=1)


def run(settings, model, columns=COLUMNS, eval_columns=None, **more):
    """Train `model` on `columns` and return the history."""
    batches = TrainingBatches(len(columns), settings, padded(columns))
    if eval_columns is not None:
        collate = padded(eval_columns)
        more["eval_batches"] = EvaluationBatches(len(eval_columns), settings, collate)
    return train(model, batches, settings, **more)


def same_weights(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def gradients_of_first_step(model, settings, columns, batch_loss=summed_cross_entropy):
    batches = TrainingBatches(len(columns), settings, padded(columns))
    optimizer = make_optimizer(model, settings)
    gradients = {}
    optimizer.register_step_pre_hook(
        lambda *_: gradients.update({n: p.grad.clone() for n, p in model.named_parameters()})
    )
    scaler = make_scaler(settings, CPU)
    result = train_step(model, batches[1], optimizer, scaler, settings, batch_loss)
    return result, gradients


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_loss_and_gradients_do_not_depend_on_how_a_step_is_split(settings, dtype, tolerance):
    """The tolerance is rounding: the same sums in another order."""
    columns = random_rows(8)
    big, big_gradients = None, None
    for size, accumulation in [(8, 1), (4, 2), (2, 4), (1, 8)]:
        chosen = settings(
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=0,
        )
        result, gradients = gradients_of_first_step(tiny_bert().to(dtype), chosen, columns)
        if big is None:
            big, big_gradients = result, gradients
        assert abs(sum(result.losses) - sum(big.losses)) <= tolerance
        assert abs(result.grad_norm - big.grad_norm) <= tolerance * 10  # of a norm above 1
        for name, gradient in gradients.items():
            assert (gradient - big_gradients[name]).abs().max() <= tolerance, name


def test_whole_runs_agree_however_their_steps_are_split(settings):
    histories = []
    for size, accumulation in [(8, 1), (4, 2), (2, 4), (1, 8)]:
        chosen = settings(
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            logging_steps=1,
        )
        histories.append(run(chosen, tiny_bert()))
    for history in histories[1:]:
        assert [entry["step"] for entry in history] == [entry["step"] for entry in histories[0]]
        for ours, theirs in zip(history[:-1], histories[0][:-1], strict=True):
            assert abs(ours["loss"] - theirs["loss"]) < 1e-6  # float32 sums in another order
            assert abs(ours["grad_norm"] - theirs["grad_norm"]) < 1e-6


def test_the_loss_of_a_step_is_the_mean_over_all_its_labelled_tokens(settings):
    chosen = settings(per_device_train_batch_size=3, gradient_accumulation_steps=3)
    model, columns = tiny_bert(), random_rows(9)
    everything = padded(columns)(range(9))
    logits = model(everything["input_ids"], everything["attention_mask"]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), everything["labels"].flatten())
    result, _ = gradients_of_first_step(model, chosen, columns)
    assert sum(result.losses).item() == pytest.approx(expected.item(), abs=1e-6)  # order of sums


def without_labels(columns, rows):
    columns = copy.deepcopy(columns)
    for row in rows:
        columns.row(row)["labels"][:] = -100
    return columns


def test_a_micro_batch_without_labels_changes_nothing(settings):
    split = settings(per_device_train_batch_size=4, gradient_accumulation_steps=2, max_grad_norm=0)
    order = TrainingBatches(8, split, None).rows(1)
    columns = without_labels(random_rows(8), order[1])
    result, gradients = gradients_of_first_step(tiny_bert(), split, columns)
    alone = settings(per_device_train_batch_size=8, max_grad_norm=0)
    expected, expected_gradients = gradients_of_first_step(tiny_bert(), alone, columns)
    assert result.losses[1] == 0 and result.num_labelled_tokens == expected.num_labelled_tokens > 0
    assert sum(result.losses).item() == pytest.approx(sum(expected.losses).item(), abs=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=1e-6)


def test_a_step_without_labels_is_counted_and_not_logged_as_a_loss_of_0(settings):
    chosen = settings(per_device_train_batch_size=4, max_steps=7, logging_steps=1)
    order = TrainingBatches(26, chosen, None)
    columns = without_labels(COLUMNS, order.rows(2)[0])
    history = run(chosen, tiny_bert(), columns)
    assert "loss" not in history[1] and history[1]["steps_without_labels"] == 1
    assert all(entry["loss"] > 0 for entry in history[:-1] if entry["step"] != 2)
    losses = [entry["loss"] for entry in history[:-1] if "loss" in entry]
    assert history[-1]["train_loss"] == pytest.approx(sum(losses) / 6, abs=1e-12)


def test_evaluating_changes_nothing_that_is_learnt(settings):
    never, often = tiny_bert(dropout=0.1), tiny_bert(dropout=0.1)
    run(settings(eval_strategy="no"), never)
    run(settings(eval_strategy="steps", eval_steps=1), often, eval_columns=HELD_OUT)
    assert same_weights(never, often)


def test_the_same_command_gives_the_same_bits_and_another_seed_others(settings):
    models = [tiny_bert(dropout=0.1) for _ in range(4)]
    for model, overrides in zip(
        models, ({}, {"dataloader_num_workers": 2}, {"seed": 1}, {"data_seed": 1}), strict=True
    ):
        run(settings(max_steps=6, **overrides), model)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])
    assert not same_weights(models[0], models[3])


def test_dropout_differs_from_step_to_step(settings):
    """Two steps over one row: with the same dropout they would have the same loss at rate 0."""
    chosen = settings(learning_rate=1e-12, max_steps=2, logging_steps=1)
    history = run(chosen, tiny_bert(dropout=0.5), random_rows(1))
    assert history[0]["loss"] != history[1]["loss"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 10])
def test_the_evaluation_loss_does_not_depend_on_the_batch_size(settings, batch_size):
    model = tiny_bert()
    chosen = settings(per_device_eval_batch_size=batch_size)
    found = evaluate(model, EvaluationBatches(10, chosen, padded(HELD_OUT)), chosen)
    everything = padded(HELD_OUT)(range(10))
    logits = model.eval()(everything["input_ids"], everything["attention_mask"]).logits
    expected = F.cross_entropy(logits.flatten(0, 1).double(), everything["labels"].flatten())
    assert found.loss == pytest.approx(expected.item(), abs=1e-6)  # logits in float32
    is_labelled = everything["labels"] != -100
    assert found.labels.tolist() == everything["labels"][is_labelled].tolist()
    assert found.predictions.tolist() == logits.argmax(-1)[is_labelled].tolist()


@pytest.mark.parametrize("lengths", [None, HELD_OUT.lengths], ids=["as they come", "by length"])
def test_the_losses_of_tokens_are_kept_in_the_order_of_the_data_where_asked_for(settings, lengths):
    model, chosen = tiny_bert(), settings(per_device_eval_batch_size=4)
    batches = EvaluationBatches(10, chosen, padded(HELD_OUT), lengths)
    found = evaluate(model, batches, chosen, keep_token_losses=True)
    everything = padded(HELD_OUT)(range(10))
    logits = model.eval()(everything["input_ids"], everything["attention_mask"]).logits
    labels = everything["labels"].flatten()
    expected = F.cross_entropy(logits.flatten(0, 1), labels, reduction="none")[labels != -100]
    assert found.token_losses == pytest.approx(expected.tolist(), abs=1e-6)  # logits in float32
    assert evaluate(model, batches, chosen).token_losses is None


def test_evaluation_data_without_labels_is_refused(settings):
    nothing = without_labels(HELD_OUT, range(10))
    with pytest.raises(ValueError, match="no labelled token"):
        evaluate(tiny_bert(), EvaluationBatches(10, settings(), padded(nothing)), settings())


def test_the_history_has_the_keys_steps_and_epochs_of_trainers(settings, tmp_path):
    values = {
        "num_train_epochs": 1.3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 3,
        "logging_steps": 2,
        "eval_strategy": "epoch",
    }
    ours = run(settings(**values), tiny_bert(), eval_columns=HELD_OUT, score=lambda _: {"f1": 0.5})
    trainer = Trainer(
        tiny_bert(),
        TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True, **values),
        data_collator=lambda rows: padded(COLUMNS)(rows),
        train_dataset=range(26),
        eval_dataset=range(10),
        compute_metrics=lambda _: {"f1": 0.5},
    )
    trainer.train()
    theirs = trainer.state.log_history
    not_ours = {"total_flos"}  # a guess from the number of parameters
    assert [set(entry) for entry in ours] == [set(entry) - not_ours for entry in theirs]
    for name in ("step", "epoch", "learning_rate"):
        assert [entry.get(name) for entry in ours] == [entry.get(name) for entry in theirs]


class NothingRead(TorchDispatchMode):
    """Within it, no number may leave a tensor: on a GPU the program would wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_reads_no_number_from_the_device(settings, bf16):
    chosen, model = settings(bf16=bf16, gradient_accumulation_steps=2), tiny_bert(dropout=0.1)
    rows = PackedRows(TaggedTokens(COLUMNS), Padding(), width=16)
    batches = TrainingBatches(len(COLUMNS), chosen, rows)
    optimizer, scaler = make_optimizer(model, chosen), make_scaler(chosen, CPU)
    before = model.classifier.weight.clone()
    with NothingRead():
        result = train_step(model, batches[1], optimizer, scaler, chosen, cross_entropy_at_labels)
    assert result.grad_norm > 0 and not torch.equal(before, model.classifier.weight)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_non_finite_loss_or_gradient_stops_the_run_with_its_step_and_rows(settings, where):
    chosen = settings(max_steps=9, logging_steps=4, save_steps=1, save_strategy="steps")
    model, steps_done = tiny_bert(), []

    def poisoned(model, batch, labelled):
        loss_sum, logits = summed_cross_entropy(model, batch, labelled)
        steps_done.append(1)
        if len(steps_done) == 3:
            loss_sum = loss_sum * math.inf if where == "loss" else loss_sum + broken(logits)
        return loss_sum, logits

    def broken(logits):
        """Finite itself, with an infinite derivative: the root at 0."""
        return torch.sqrt(logits.sum() * 0)

    columns = random_rows(72)
    batches = TrainingBatches(72, chosen, padded(columns))
    with pytest.raises(NonFiniteError, match="step 3 ") as stopped:
        checkpoints = Checkpoints(chosen, NoTokenizer())
        train(model, batches, chosen, batch_loss=poisoned, checkpoints=checkpoints)
    assert str(batches.rows(3)[0].tolist()) in str(stopped.value)
    assert [step for step, _ in in_folder(chosen.output_dir)] == [2, 1]


def test_without_log_lines_a_nan_is_found_before_the_run_ends(settings):
    chosen = settings(max_steps=3, logging_strategy="no", eval_strategy="no", save_strategy="no")
    model = tiny_bert()
    model.classifier.weight.data[0, 0] = math.nan
    with pytest.raises(NonFiniteError, match="step 1 "):
        run(chosen, model)


def test_a_step_that_overflows_in_fp16_is_counted_and_the_schedule_waits(settings, monkeypatch):
    """The scaler's own logic, on a CPU in float32: an infinite gradient in step 2."""
    monkeypatch.setattr(
        rawtrain.loop, "make_scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=8.0)
    )
    chosen = settings(max_steps=5, logging_steps=1, learning_rate=1e-3)
    model, forwards, weights = tiny_bert(), [], []

    def overflowing(model, batch, labelled):
        loss_sum, logits = summed_cross_entropy(model, batch, labelled)
        forwards.append(1)
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
        if len(forwards) == 2:  # finite itself, with an infinite derivative: the root at 0
            loss_sum = loss_sum + torch.sqrt(logits.sum() * 0)
        return loss_sum, logits

    history = run(chosen, model, batch_loss=overflowing)
    unchanged = [torch.equal(a, b) for a, b in zip(weights[1], weights[2], strict=True)]
    assert all(unchanged)  # by step 2
    assert [entry["step"] for entry in history] == [1, 2, 3, 4, 5, 5]
    rates = [entry["learning_rate"] for entry in history[:5]]
    assert rates == pytest.approx([1e-3, 8e-4, 8e-4, 6e-4, 4e-4], abs=1e-15)
    assert "loss" not in history[1] and history[1]["skipped_steps"] == 1
    assert all(entry["skipped_steps"] == 1 for entry in history[2:5])
    assert ["grad_norm" in entry for entry in history[:5]] == [True, False, True, True, True]


def test_a_loss_that_is_not_finite_stops_a_run_in_fp16_too(settings, monkeypatch):
    """No scale helps against it: without this every step to come would be skipped."""
    monkeypatch.setattr(rawtrain.loop, "make_scaler", lambda *_: torch.amp.GradScaler("cpu", 8.0))

    def poisoned(model, batch, labelled):
        loss_sum, logits = summed_cross_entropy(model, batch, labelled)
        return loss_sum * math.nan, logits

    with pytest.raises(NonFiniteError, match="step 1 has loss nan"):
        run(settings(max_steps=3, logging_steps=1), tiny_bert(), batch_loss=poisoned)


def test_clipping_sees_true_gradients_whatever_the_scale(settings, monkeypatch):
    norms = []
    for scale in (1.0, 1024.0):
        monkeypatch.setattr(
            rawtrain.loop, "make_scaler", lambda *_, s=scale: torch.amp.GradScaler("cpu", s)
        )
        norms.append([e["grad_norm"] for e in run(settings(logging_steps=1), tiny_bert())[:-1]])
    assert norms[0] == norms[1]  # powers of two: not even rounding


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.5])
def test_gradients_are_clipped_to_max_grad_norm_and_with_0_only_measured(settings, max_grad_norm):
    def steep(model, batch, labelled):
        loss_sum, logits = summed_cross_entropy(model, batch, labelled)
        return loss_sum * 100, logits

    chosen = settings(max_grad_norm=max_grad_norm)
    result, gradients = gradients_of_first_step(tiny_bert(), chosen, COLUMNS, steep)
    applied = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert result.grad_norm > 10
    # the clip divides by the norm plus 1e-6
    assert applied.item() == pytest.approx(max_grad_norm or result.grad_norm.item(), rel=1e-5)


def test_bf16_keeps_the_weights_in_float32_and_stays_near_fp32(settings):
    model = tiny_bert()
    half = run(settings(bf16=True, max_steps=4, logging_steps=1), model)
    full = run(settings(max_steps=4, logging_steps=1), tiny_bert())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert half[0]["loss"] != full[0]["loss"]
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.02)  # 8 bits of mantissa


def test_gradient_checkpointing_changes_no_bit(settings):
    plain, checkpointed = tiny_bert(), tiny_bert()
    run(settings(max_steps=3), plain)
    run(settings(max_steps=3, gradient_checkpointing=True), checkpointed)
    assert checkpointed.bert.encoder.layer[0].gradient_checkpointing
    assert same_weights(plain, checkpointed)


def test_the_metrics_file_grows_with_the_history(settings, tmp_path):
    import json

    log = RunLog(tmp_path / "metrics.jsonl", disable_tqdm=True)
    history = run(settings(max_steps=4, logging_steps=2), tiny_bert(), log=log)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history


def test_evaluations_report_the_plain_loss_whatever_is_minimised(settings):
    def tenfold(model, batch, labelled):
        loss_sum, logits = summed_cross_entropy(model, batch, labelled)
        return 10 * loss_sum, logits

    chosen, model = settings(max_steps=2, eval_strategy="steps", eval_steps=2), tiny_bert()
    history = run(chosen, model, eval_columns=HELD_OUT, batch_loss=tenfold)
    logged = next(entry["eval_loss"] for entry in history if "eval_loss" in entry)
    batches = EvaluationBatches(len(HELD_OUT), chosen, padded(HELD_OUT))
    assert logged == evaluate(model, batches, chosen).loss


class Wrapped(torch.nn.Module):
    """Around a model, as an adapter's library has it."""

    def __init__(self, model):
        super().__init__()
        self.model, self.device = model, model.device

    def forward(self, **batch):
        return self.model(**batch)

    def save_pretrained(self, folder):
        self.model.save_pretrained(folder)


def test_a_model_that_could_not_be_read_back_is_trained_without_checkpoints_alone(settings):
    chosen = settings(max_steps=1)
    with pytest.raises(ValueError, match="a Wrapped cannot be saved and read back; expected a Pre"):
        run(chosen, Wrapped(tiny_bert()), checkpoints=Checkpoints(chosen, NoTokenizer()))
    with_adapter = tiny_bert()
    with_adapter._hf_peft_config_loaded = True  # what transformers' add_adapter leaves there
    with pytest.raises(ValueError, match="saves the adapter alone"):
        run(chosen, with_adapter, checkpoints=Checkpoints(chosen, NoTokenizer()))
    assert run(chosen, Wrapped(tiny_bert()))[-1]["step"] == 1


def test_evaluation_batches_of_like_lengths_change_no_result_and_no_order(settings):
    columns = random_rows(40, seed=5)
    model, chosen = tiny_bert(), settings(per_device_eval_batch_size=3)
    collate = padded(columns)
    plain, in_lengths = (
        evaluate(model, EvaluationBatches(40, chosen, collate, lengths), chosen)
        for lengths in (None, columns.lengths)
    )
    assert in_lengths.num_batches < plain.num_batches == 14
    assert in_lengths.labels.tolist() == plain.labels.tolist()
    assert in_lengths.predictions.tolist() == plain.predictions.tolist()
    assert in_lengths.loss == pytest.approx(plain.loss, rel=1e-6)  # float32 logits of other rows


def test_a_loss_of_16_bit_logits_is_computed_in_32():
    logits, labels = torch.randn(4, 5), torch.tensor([[1, -100], [2, 3]])
    where = torch.tensor([0, 2, 3])
    loss = label_loss(logits[:3].bfloat16(), labels, where)
    assert loss.dtype == torch.float32
    assert label_loss(logits[:3].double(), labels, where).dtype == torch.float64


def test_an_evaluation_without_a_finite_loss_stops_the_run_and_names_rows(settings):
    chosen, model = settings(max_steps=4, eval_strategy="steps", eval_steps=2), tiny_bert()

    def poisoned(model, batch, labelled):
        loss_sum, logits = summed_cross_entropy(model, batch, labelled)
        return loss_sum if torch.is_grad_enabled() else loss_sum * math.nan, logits

    checkpoints = Checkpoints(chosen, NoTokenizer())
    with pytest.raises(
        NonFiniteError, match=r"evaluation has loss nan.*rows.*\[0, 1, 2, 3"
    ) as stop:
        run(chosen, model, eval_columns=HELD_OUT, eval_batch_loss=poisoned, checkpoints=checkpoints)
    assert "NaN" not in str(stop.value) and in_folder(chosen.output_dir) == []


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_that_runs_out_of_memory_is_named_by_shape_with_the_setting(
    settings, error, training
):
    message = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
    chosen = settings(max_steps=4, save_steps=1, save_strategy="steps", eval_strategy="epoch")
    steps = []

    def full(model, batch, labelled):
        steps.append(1)
        if (len(steps) == 3 and training) or not torch.is_grad_enabled():
            raise error(message)
        return summed_cross_entropy(model, batch, labelled)

    model, checkpoints = tiny_bert(), Checkpoints(chosen, NoTokenizer())
    with pytest.raises(OutOfMemoryError) as stop:
        losses = {"batch_loss": full, "eval_batch_loss": full}
        run(chosen, model, eval_columns=HELD_OUT, checkpoints=checkpoints, **losses)
    assert re.search(r"batch of \d+ rows of \d+ sub-words, which hold \d+ labels", str(stop.value))
    size = "train_batch_size and double --grad" if training else "eval_batch_size"
    assert f"--per_device_{size}" in str(stop.value)
    if training:
        assert [step for step, _ in in_folder(chosen.output_dir)] == [2, 1]


def test_other_errors_of_a_batch_stay_what_they_are(settings):
    def wrong(*_):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match=r"^shapes do not match$"):
        run(settings(max_steps=1), tiny_bert(), batch_loss=wrong)


def test_a_run_stops_when_its_evaluations_get_no_better(settings):
    losses = iter([0.5, 0.3, 0.4, 0.35, 0.2])
    chosen = settings(max_steps=50, eval_strategy="steps", eval_steps=2, early_stopping_patience=2)
    chosen = dataclasses.replace(chosen, metric_for_best_model="f1", greater_is_better=False)
    history = run(chosen, tiny_bert(), eval_columns=HELD_OUT, score=lambda _: {"f1": next(losses)})
    assert history[-1]["step"] == 8 and "train_loss" in history[-1]
    assert history[-1]["epoch"] == TrainingBatches(len(COLUMNS), chosen, None).epochs_after(8)
