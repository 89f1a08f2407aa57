"""Named-entity recognition: `python -m rawtrain.ner`. The whole job, read from top to bottom.

Words with tags become sub-words with labels, an encoder with a classification head learns them,
and entities are scored over all words of data that it has not seen. The job is that of chapter 4
of *Natural Language Processing with Transformers* and of transformers' run_ner.py.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

from rawtrain.cli import command
from rawtrain.cli.command import reported_mistakes
from rawtrain.config import NerSettings, uses_own_data

if __name__ == "__main__":
    SETTINGS = command.parse(NerSettings)  # before torch is imported: a wrong flag is told at once

from dataclasses import replace
from functools import partial

from transformers import AutoModelForTokenClassification

from rawtrain import job
from rawtrain.collate.route import make_batches
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.data.cache import cache_of
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.labels import choose_labels, label_ids, labels_of_data
from rawtrain.data.raw_text import learn_apostrophes
from rawtrain.data.small_bert import small_bert_config, train_small_tokenizer
from rawtrain.data.sources import read_tagged
from rawtrain.data.tags import TaggedCorpus
from rawtrain.data.words import default_stride, encode_words
from rawtrain.evaluation import evaluate
from rawtrain.fast.vocabulary import compact_vocabulary
from rawtrain.models.loading import (
    check_length,
    check_vocabulary,
    load_config,
    load_model,
    named_labels,
)
from rawtrain.models.tokenizers import load_word_tokenizer
from rawtrain.randomness import fresh_model
from rawtrain.results import terminal
from rawtrain.results.card import note_run
from rawtrain.results.ner_page import show_data, show_scores, write_predictions
from rawtrain.results.word_scorer import WordScorer, check_best_metric
from rawtrain.run.plan import check_steps

THE_REAL_JOB = (
    "python -m rawtrain.ner --model_name_or_path xlm-roberta-base --dataset_name google/xtreme "
    "--dataset_config_name PAN-X.de --output_dir panx"
)


def main(settings: NerSettings) -> None:
    """Do the job that `settings` describe, from the data to the saved model, and report on it."""
    with reported_mistakes():
        repository = job.prepare(settings)
        embedded = None if uses_own_data(settings) else read_docstring_corpus()
        corpus = embedded_corpus(embedded, settings) if embedded else read_tagged(settings)
        settings = job.decide_work(settings, corpus.splits)
        tokenizer = make_tokenizer(settings, embedded)
        model, label_names = make_model(settings, corpus, tokenizer)
        splits = first_samples(settings, corpus.splits)
        encoded = encode(settings, splits, tokenizer, model, label_names)
        if settings.do_train:
            check_steps(settings, len(encoded["train"].columns))
            check_best_metric(settings, splits.get("validation"))
        run = job.open_run(settings, repository, corpus.splits, tokenizer, model)
    if not run.has_work:
        run.close()
        return
    note_run(run.settings, splits, show_data(corpus, splits, encoded, tokenizer, label_names))
    sources = {name: TaggedTokens(rows.columns) for name, rows in encoded.items()}
    batches, batch_loss = make_batches(model, sources, tokenizer, settings)
    scorers = {
        name: WordScorer(rows, label_names, settings, splits[name].gold_tags)
        for name, rows in encoded.items()
    }

    if run.settings.do_train:
        run.train(
            batches,
            batch_loss=batch_loss,
            eval_batch_loss=batch_loss,
            score=scorers.get("validation"),
            num_samples=len(splits["train"].words),
            while_training=compact_vocabulary(model, encoded["train"].columns, settings),
        )
    for name in run.to_score:
        evaluation = evaluate(model, batches[name], settings, batch_loss, keep_token_losses=True)
        metrics = {}
        if splits[name].gold_tags:
            show_scores(name, settings, splits, encoded, scorers[name], evaluation)
            metrics = evaluation.metrics(job.PREFIXES[name], scorers[name])
        if name == "test":
            file, tags = run.output_dir / "predictions.conll", scorers[name].tags(evaluation)
            write_predictions(file, splits[name].words, splits[name].tags, tags)
        run.write_scores(name, metrics, len(splits[name].words))
    run.close("" if uses_own_data(settings) else f"the real job: {THE_REAL_JOB}")


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
    label_names = labels_of_data(corpus.splits, "IOB2", settings)
    return TaggedCorpus(corpus.splits, label_names, scheme="IOB2", num_repaired=0)


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
    model_labels = named_labels(config, settings)
    label_names = choose_labels(settings, corpus, model_labels)
    is_new = settings.do_train and label_names != model_labels
    if settings.do_train:
        config.id2label = dict(enumerate(label_names))
        config.label2id = {name: number for number, name in enumerate(label_names)}
        config.words_at_apostrophes = learn_apostrophes(corpus.splits["train"].words)
    load = partial(load_model, AutoModelForTokenClassification, config, settings, new_head=is_new)
    model = fresh_model(load, settings.seed)
    check_vocabulary(tokenizer, model)
    return model, label_names


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
    return {
        name: encode_words(
            tokenizer,
            split.words,
            split.tags,
            label_ids(label_names, split.tags),
            max_length,
            stride,
            settings.label_all_tokens,
            settings.preprocessing_num_workers,
            cache_of(settings),
        )
        for name, split in splits.items()
    }


if __name__ == "__main__":
    command.run(main, SETTINGS)
