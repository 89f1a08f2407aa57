"""A third task, text classification from CSV files, without a change to the package.

    python scripts/classify.py --model_name_or_path bert-base-uncased --train_file train.csv \
        --validation_file dev.csv --output_dir my-classifier

The files have the columns text and label. A model of this task has one output for a text, and so a
text has one label: here it stands at the first token of its row, and all other tokens have none.
Then everything that counts labelled tokens counts texts: the divisor, evaluations, checkpoints.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np
from transformers import AutoModelForSequenceClassification

from rawtrain import job
from rawtrain.batches import EvaluationBatches, TrainingBatches
from rawtrain.cli import command
from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.config import DataSettings, ModelSettings, TrainingSettings, setting
from rawtrain.data.choice import choose, weigh_text
from rawtrain.data.columns import IGNORED, Columns
from rawtrain.data.files import sha256_of
from rawtrain.data.tables import read_rows
from rawtrain.data.text import encode_documents
from rawtrain.evaluation import evaluate
from rawtrain.loss import label_loss
from rawtrain.models.loading import check_length, check_vocabulary, load_config, load_model
from rawtrain.models.tokenizers import load_tokenizer
from rawtrain.randomness import fresh_model
from rawtrain.results import terminal
from rawtrain.results.card import note_run
from rawtrain.run.plan import check_steps


@dataclass(frozen=True)
class ClassifyDataSettings(DataSettings):
    label_column_name: str | None = setting(None, "column of the label")


@dataclass(frozen=True)
class ClassifySettings(TrainingSettings, ClassifyDataSettings, ModelSettings):
    """Fine-tune an encoder to classify texts."""

    task = pipeline_tag = "text-classification"
    command = "python scripts/classify.py"
    groups = (ModelSettings, ClassifyDataSettings, TrainingSettings)
    metrics = ("loss", "accuracy")
    embedded_recipe = {}  # noqa: RUF012  there is no data without --train_file

    output_dir: str = setting("classify_output", "where everything is written")


@dataclass(frozen=True)
class LabelledTexts:
    texts: list[str]
    labels: list[str]
    source: str

    @property
    def fingerprint(self) -> str:
        """The same for the same texts and labels: a run with others is another run."""
        return sha256_of(json.dumps([self.texts, self.labels]))


def main(settings: ClassifySettings) -> None:
    """Do the job that `settings` describe: the same story as that of ner.py and mlm.py."""
    with command.reported_mistakes():
        repository = job.prepare(settings)
        splits = read_splits(settings)
        settings = job.decide_work(settings, splits)
        tokenizer = load_tokenizer(settings)
        model = make_model(settings, splits, tokenizer)
        max_length = check_length(settings, tokenizer, model)
        columns = {
            name: encode(split, tokenizer, model.config.label2id, max_length)
            for name, split in splits.items()
        }
        if settings.do_train:
            check_steps(settings, len(columns["train"]))
        run = job.open_run(settings, repository, splits, tokenizer, model)
    if not run.has_work:
        run.close()
        return
    figures = {name: {"texts": len(x.texts), **Counter(x.labels)} for name, x in splits.items()}
    print("\n".join(terminal.table(figures)))
    note_run(run.settings, splits, figures)
    kinds = {"train": TrainingBatches, "validation": EvaluationBatches}
    batches = {
        name: kinds[name](len(c), settings, PaddedRows(TaggedTokens(c), tokenizer), c.lengths)
        for name, c in columns.items()
    }
    if run.settings.do_train:
        run.train(
            batches,
            batch_loss=text_cross_entropy,
            eval_batch_loss=text_cross_entropy,
            score=accuracy,
            num_samples=len(splits["train"].texts),
        )
    for name in run.to_score:
        evaluation = evaluate(model, batches[name], settings, text_cross_entropy)
        metrics = evaluation.metrics("eval", accuracy)
        print(f"\n{name}: loss {metrics['eval_loss']:.4f}, accuracy {metrics['eval_accuracy']:.3f}")
        run.write_scores(name, metrics, len(splits[name].texts))
    run.close()


def text_cross_entropy(model, batch, labelled):
    """A `BatchLoss` (loss.py): a row has one label and one line of logits, so K is B."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs).logits  # (B, C)
    return label_loss(logits, batch["labels"], labelled), logits


def accuracy(evaluation):
    return {"accuracy": float((evaluation.predictions == evaluation.labels).mean())}


def read_splits(settings):
    files = {"train": settings.train_file, "validation": settings.validation_file}
    if settings.dataset_name or not any(files.values()):
        raise ValueError("no CSV files are named; give a --train_file and a --validation_file")
    return {name: read_texts(file, settings) for name, file in files.items() if file}


def by_name(values):
    """No column looks like labels: only one that is named so, or asked for, is taken."""
    return 0


def read_texts(file, settings):
    rows = read_rows(file)
    usual = {"text_column_name": (["text"], weigh_text), "label_column_name": (["label"], by_name)}
    text, label = choose(rows, settings, usual)
    pairs = [(row[text], row[label]) for _, row in rows.read([text, label])]
    return LabelledTexts([text for text, _ in pairs], [label for _, label in pairs], file)


def make_model(settings, splits, tokenizer):
    """The model with an output for each label of the training data, or with those it has."""
    config = load_config(settings)
    if settings.do_train:
        config.id2label = dict(enumerate(sorted(set(splits["train"].labels))))
        config.label2id = {label: number for number, label in config.id2label.items()}
    for split in splits.values():
        if unknown := sorted(set(split.labels) - set(config.label2id)):
            known = ", ".join(config.label2id)
            raise ValueError(f"{split.source}: unknown labels {unknown}; the model has {known}")
    load = partial(load_model, AutoModelForSequenceClassification, config, settings)
    model = fresh_model(load, settings.seed)
    check_vocabulary(tokenizer, model)
    return model


def encode(split, tokenizer, label2id, max_length):
    """A row for each text, cut at `max_length` tokens, its label at the first token."""
    encoded = encode_documents(tokenizer, split.texts, max_length, line_by_line=True).columns
    labels = np.full(len(encoded.values["input_ids"]), IGNORED)
    labels[encoded.offsets[:-1]] = [label2id[label] for label in split.labels]
    return Columns({"input_ids": encoded.values["input_ids"], "labels": labels}, encoded.offsets)


if __name__ == "__main__":
    command.run(main, command.parse(ClassifySettings))
