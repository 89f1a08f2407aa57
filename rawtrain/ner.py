"""Named-entity recognition: `python -m rawtrain.ner`. The whole job, read from top to bottom.

Words with tags become sub-words with labels, an encoder with a classification head learns them,
and entities are scored over all words of data that it has not seen. The job is that of chapter 4
of *Natural Language Processing with Transformers* and of transformers' run_ner.py.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

from rawtrain.cli.command import parse, reported_mistakes, run
from rawtrain.config import NerSettings, uses_own_data

if __name__ == "__main__":
    SETTINGS = parse(NerSettings)  # before torch is imported: a wrong flag is answered at once

from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import AutoModelForTokenClassification

from rawtrain.collate.route import make_batches
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.data.cache import cache_of
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.small_bert import small_bert_config, train_small_tokenizer
from rawtrain.data.sources import TaggedCorpus, read_tagged
from rawtrain.data.tags import label_list
from rawtrain.data.words import default_stride, encode_words
from rawtrain.evaluation import evaluate
from rawtrain.fast.cpu import tune_process
from rawtrain.fast.vocabulary import compact_vocabulary
from rawtrain.loop import train
from rawtrain.models.loading import (
    check_length,
    check_vocabulary,
    load_config,
    load_model,
    load_word_tokenizer,
    named_labels,
)
from rawtrain.precision import choose_device
from rawtrain.randomness import fresh_model, seed_as_trainer
from rawtrain.results import terminal
from rawtrain.results.bootstrap import f1_intervals
from rawtrain.results.card import note_data, note_run, note_scores
from rawtrain.results.files import (
    decide_work,
    epoch_of,
    work_left,
    write_metrics,
    write_training_results,
)
from rawtrain.results.hub import log_in
from rawtrain.results.metrics import format_scores, majority_baseline
from rawtrain.results.ner_page import write_ner_report
from rawtrain.results.predictions import write_predictions
from rawtrain.results.publish import publish
from rawtrain.results.word_scorer import WordScorer
from rawtrain.run.best import check_best_metric
from rawtrain.run.checkpoint import Checkpoints, save_model
from rawtrain.run.directory import open_run
from rawtrain.run.identity import identity_of
from rawtrain.run.log import RunLog, configure_logging
from rawtrain.run.plan import check_steps
from rawtrain.run.state import load_weights
from rawtrain.run.trackers import start_trackers
from rawtrain.study.gap import measure_gap

THE_REAL_JOB = (
    "python -m rawtrain.ner --model_name_or_path xlm-roberta-base --dataset_name google/xtreme "
    "--dataset_config_name PAN-X.de --output_dir panx"
)


def main(settings):
    """Do the job that `settings` describe, from the data to the saved model, and report on it."""
    configure_logging(settings)
    with reported_mistakes():
        repository = log_in(settings)
        device = choose_device(settings)
        if settings.is_fast:
            tune_process(device)
        embedded = None if uses_own_data(settings) else read_docstring_corpus()
        corpus = embedded_corpus(embedded, settings) if embedded else read_tagged(settings)
        asked, settings = settings, decide_work(settings, corpus.splits)
        tokenizer = make_tokenizer(settings, embedded)
        model, label_names = make_model(settings, corpus, tokenizer)
        splits = first_samples(settings, corpus.splits)
        encoded = encode(settings, splits, tokenizer, model, label_names)
        if settings.do_train:
            check_steps(settings, len(encoded["train"].columns))
            check_best_metric(settings, splits.get("validation"))
        directory = open_run(settings, identity_of(settings, corpus.splits, tokenizer, model))
        trackers = start_trackers(settings, directory)
    output_dir = directory.path
    if directory.is_finished:
        settings = work_left(asked, settings)
        if not (settings.do_eval or settings.do_predict):
            publish(settings, repository)
            return
        model.load_state_dict(load_weights(model, output_dir))
    figures = show_data(corpus, splits, encoded, tokenizer, label_names)
    if settings.do_train:
        note_run(asked, splits, figures)
    elif directory.is_finished:  # evaluated on data that may be others than before
        note_data(output_dir, splits, figures)

    model.to(device)
    sources = {name: TaggedTokens(rows.columns) for name, rows in encoded.items()}
    batches, batch_loss = make_batches(model, sources, tokenizer, settings)
    scorers = {name: WordScorer(rows, label_names, settings) for name, rows in encoded.items()}

    def evaluate_on(name):
        return evaluate(model, batches[name], settings, batch_loss, keep_token_losses=True)

    if settings.do_train:
        seed_as_trainer(settings)
        with signals.held():  # until what was learnt is on the disk
            with compact_vocabulary(model, encoded["train"].columns, settings):
                history = train(
                    model,
                    batches["train"],
                    settings,
                    eval_batches=batches.get("validation"),
                    score=scorers.get("validation"),
                    batch_loss=batch_loss,
                    checkpoints=Checkpoints(settings, tokenizer, directory),
                    log=RunLog(output_dir / "metrics.jsonl", settings.disable_tqdm, trackers),
                )
            write_training_results(settings, history, len(splits["train"].words))
            save_model(model, tokenizer, output_dir)
    if settings.do_eval:
        evaluation, validation = evaluate_on("validation"), splits["validation"]
        metrics = evaluation.metrics("eval", scorers["validation"]) | epoch_of(output_dir)
        metrics["eval_samples"] = len(validation.words)
        show_scores("validation", settings, splits, encoded, scorers, evaluation)
        tags = scorers["validation"].tags(evaluation)
        measure_gap(output_dir, validation.words, validation.tags, tags, settings)
        write_metrics(output_dir, "eval", metrics)  # last: it says that the rest is there
    if settings.do_predict:
        evaluation, test = evaluate_on("test"), splits["test"]
        metrics = evaluation.metrics("predict", scorers["test"])
        metrics["predict_samples"] = len(test.words)
        show_scores("test", settings, splits, encoded, scorers, evaluation)
        with reported_mistakes():  # the test file may have changed meanwhile
            write_test_predictions(settings, test, scorers["test"].tags(evaluation))
        write_metrics(output_dir, "predict", metrics)  # last: it says that the rest is there
    print(f"\nmodel and results: {output_dir}/")
    if not uses_own_data(settings):
        print(f"the real job: {THE_REAL_JOB}")
    publish(settings, repository)


def embedded_corpus(corpus, settings):
    """The sentences of every installation's docstrings, with the names that authors marked."""
    model = settings.model_name_or_path or "a new BERT of two layers, trained from scratch"
    print(
        f"No data is named. This run learns from text that is on this machine already:\n"
        f"{corpus.description} (hash {corpus.fingerprint}).\n"
        f"Their authors marked names in it, and these marks are the labels: "
        f"{', '.join(corpus.types)}.\n"
        f"The model: {model}. The scores are those of this small task.\n"
        f"Its recipe: {terminal.recipe(settings)}\n"
    )
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    return TaggedCorpus(splits, label_list(corpus.train.tags), scheme="IOB2", num_repaired=0)


def make_tokenizer(settings, embedded):
    """The model's tokenizer; a new one for the new model of the run on embedded text."""
    if embedded and settings.model_name_or_path is None:
        return train_small_tokenizer(embedded.documents)
    return load_word_tokenizer(settings)


def make_model(settings, corpus, tokenizer):
    """The model with one output per label, and the labels in the model's order."""
    if settings.model_name_or_path is None and not uses_own_data(settings):
        config = small_bert_config(tokenizer)
    else:
        config = load_config(settings)
    label_names = choose_labels(settings, corpus, named_labels(config, settings))
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: number for number, name in enumerate(label_names)}
    load = partial(load_model, AutoModelForTokenClassification, config, settings)
    model = fresh_model(load, settings.seed)
    check_vocabulary(tokenizer, model)
    return model, label_names


def choose_labels(settings, corpus, model_labels):
    """The data's labels; in the model's order if it was trained on the very same ones.

    Raises ValueError if an untrained-on label would have to be predicted without training.
    """
    unknown = sorted(set(corpus.label_names) - set(model_labels))
    if not settings.do_train and unknown:
        raise ValueError(
            f"the data has tags that the model {settings.model_name_or_path} does not know: "
            f"{', '.join(unknown)}; it knows {', '.join(model_labels)}. Train it with --train_file"
        )
    same = set(corpus.label_names) == set(model_labels)
    return model_labels if same or not settings.do_train else list(corpus.label_names)


def first_samples(settings, splits):
    """The splits that the run works on, cut to the first max_..._samples sentences."""
    limits = {
        "train": (settings.do_train, settings.max_train_samples),
        "validation": (
            settings.do_eval or (settings.do_train and settings.eval_strategy != "no"),
            settings.max_eval_samples,
        ),
        "test": (settings.do_predict, settings.max_predict_samples),
    }
    return {
        name: replace(split, words=split.words[:limit], tags=split.tags[:limit])
        for name, split in splits.items()
        for wanted, limit in [limits[name]]
        if wanted
    }


def encode(settings, splits, tokenizer, model, label_names):
    """Every split as rows of sub-words, cached; see `data.words`."""
    max_length = check_length(settings, tokenizer, model)
    stride = 0 if settings.match_trainer else settings.stride
    if stride is None:
        stride = default_stride(tokenizer, max_length)
    label2id = {name: number for number, name in enumerate(label_names)}
    return {
        name: encode_words(
            tokenizer,
            split.words,
            split.tags,
            label2id,
            max_length,
            stride,
            settings.label_all_tokens,
            settings.preprocessing_num_workers,
            cache_of(settings),
        )
        for name, split in splits.items()
    }


def show_scores(name, settings, splits, encoded, scorers, evaluation):
    """Print the scores by type, and write them with all the rest to report.html.

    Beside them, if there is training data, stands what a look-up scores.
    """
    scorer, baseline = scorers[name], None
    if "train" in splits:
        train_split = splits["train"]
        tagged = majority_baseline(train_split.words, train_split.tags, splits[name].words)
        baseline = scorer.scores_of([tag for tags in tagged for tag in tags])
    print(f"\n{name}: {terminal.accounting(encoded[name])}\n")
    intervals = f1_intervals(*scorer.entities(evaluation), scorer.rows.sentence_offsets)
    print(format_scores(scorer.scores(evaluation), baseline, intervals[None]))
    if baseline:
        print("baseline: every word tagged as it mostly is in the training data")
    write_ner_report(name, settings, splits, encoded, scorer, evaluation, baseline, intervals)
    note_scores(name, splits[name], scorer, evaluation, baseline)


def write_test_predictions(settings, split, tags):
    """Write predictions.conll, and print a sentence as it is tagged."""
    write_predictions(
        Path(settings.output_dir) / "predictions.conll",
        settings.test_file,
        split.words,
        split.tags,
        tags,
        settings.token_column,
        settings.tag_column,
    )
    print(f"\na sentence as tagged: {terminal.tagged_example(split, tags)}")


def show_data(corpus, splits, encoded, tokenizer, label_names):
    """Print what the data is, and one row as the model sees it; returns the figures by split."""
    print("\n".join(terminal.describe_corpus(corpus)))
    columns = {
        name: terminal.describe_tagged(split, encoded[name]) for name, split in splits.items()
    }
    print("\n" + "\n".join(terminal.table(columns)))
    name = next(iter(encoded))
    print(f"\na row of {name}:\n")
    print("\n".join(terminal.aligned_example(tokenizer, encoded[name].columns, label_names)))
    return columns


if __name__ == "__main__":
    run(main, SETTINGS)
