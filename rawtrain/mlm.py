"""Masked-language modelling: `python -m rawtrain.mlm`. The whole job, read from top to bottom.

Documents become rows of tokens, some tokens of each row are hidden anew in every epoch, and a
pretrained encoder learns to say what they were: it adapts to the domain of the documents. The job
is that of chapter 9 of *Natural Language Processing with Transformers* and of transformers'
run_mlm.py.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

from rawtrain.cli.command import parse, reported_mistakes, run
from rawtrain.config import MlmSettings, uses_own_data

if __name__ == "__main__":
    SETTINGS = parse(MlmSettings)  # before torch is imported: a wrong flag is answered at once

from dataclasses import replace
from functools import partial

import numpy as np
from transformers import AutoModelForMaskedLM

from rawtrain import match_trainer
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.route import make_batches
from rawtrain.data.cache import cache_of
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.rows import documents_from
from rawtrain.data.small_bert import small_bert_config, train_small_tokenizer
from rawtrain.data.sources import read_document_file, read_documents
from rawtrain.data.text import check_tokens, count_tokens, encode_documents, split_documents
from rawtrain.evaluation import evaluate
from rawtrain.fast.cpu import tune_process
from rawtrain.loop import train
from rawtrain.models.loading import (
    check_length,
    check_vocabulary,
    load_config,
    load_model,
    load_tokenizer,
)
from rawtrain.precision import choose_device
from rawtrain.randomness import fresh_model, seed_as_trainer
from rawtrain.results import terminal
from rawtrain.results.adaptation import adaptation, adaptation_table, score, unigram_scores
from rawtrain.results.card import note, note_data, note_run
from rawtrain.results.files import (
    decide_work,
    epoch_of,
    read_history,
    work_left,
    write_metrics,
    write_training_results,
)
from rawtrain.results.hub import log_in
from rawtrain.results.mlm_page import masked_rows, write_mlm_report
from rawtrain.results.publish import publish
from rawtrain.run.checkpoint import Checkpoints, save_model
from rawtrain.run.directory import open_run
from rawtrain.run.identity import identity_of
from rawtrain.run.log import RunLog, configure_logging
from rawtrain.run.plan import check_steps
from rawtrain.run.state import load_weights
from rawtrain.run.trackers import start_trackers
from rawtrain.study.probes import (
    carry_over,
    choose_probes,
    measure_after,
    measure_before,
    probes_report,
)

LONGEST_BY_DEFAULT = 1024  # as in run_mlm.py


def main(settings):
    """Do the job that `settings` describe, from the data to the saved model, and report on it."""
    configure_logging(settings)
    with reported_mistakes():
        repository = log_in(settings)
        device = choose_device(settings)
        if settings.is_fast:
            tune_process(device)
        splits = read_splits(settings)
        asked, settings = settings, decide_work(settings, splits)
        tokenizer = make_tokenizer(settings, splits)
        model = make_model(settings, tokenizer)
        encoded = encode(settings, splits, tokenizer, model)
        if settings.do_train:
            check_steps(settings, len(encoded["train"].columns))
        directory = open_run(settings, identity_of(settings, splits, tokenizer, model))
        trackers = start_trackers(settings, directory)
    output_dir = directory.path
    if directory.is_finished:
        settings = work_left(asked, settings)
        if not settings.do_eval:
            publish(settings, repository)
            return
        model.load_state_dict(load_weights(model, output_dir))
    figures = show_data(splits, encoded, tokenizer, settings)
    if settings.do_train:
        note_run(asked, splits, figures)
    elif directory.is_finished:  # evaluated on data that may be others than before
        note_data(output_dir, splits, figures)

    model.to(device)
    sources = {
        name: MaskedTokens(rows.columns, tokenizer, settings) for name, rows in encoded.items()
    }
    batches, batch_loss = make_batches(model, sources, tokenizer, settings)
    if settings.match_trainer:
        batches = match_trainer.masked_batches(encoded, tokenizer, settings)

    def evaluate_on(name):
        return evaluate(model, batches[name], settings, batch_loss)

    if settings.do_train:
        log = RunLog(output_dir / "metrics.jsonl", settings.disable_tqdm, trackers)
        if directory.resumes_from:
            carry_over(directory.resumes_from, output_dir)
        elif "validation" in encoded or "general" in encoded:
            with reported_mistakes():  # so few tokens that none of them is masked
                if "validation" in encoded:
                    scores = evaluate_on("validation").metrics("eval", score)
                    log.add({**scores, "epoch": 0.0, "step": 0})
                general = general_scores(splits, evaluate_on)
            probes = probes_of(tokenizer, splits, encoded)
            measure_before(output_dir, model, tokenizer, probes, general)
        seed_as_trainer(settings)
        with signals.held():  # until what was learnt is on the disk
            history = train(
                model,
                batches["train"],
                settings,
                eval_batches=batches.get("validation"),
                score=score,
                batch_loss=batch_loss,
                checkpoints=Checkpoints(settings, tokenizer, directory),
                log=log,
            )
            write_training_results(settings, history, len(encoded["train"].columns))
            save_model(model, tokenizer, output_dir)
    if content := measure_after(output_dir, model, tokenizer, general_scores(splits, evaluate_on)):
        print("\n" + "\n".join(probes_report(content)))
    if settings.do_eval:
        evaluation = evaluate_on("validation")
        metrics = evaluation.metrics("eval", score) | epoch_of(output_dir)
        metrics["perplexity"] = metrics.pop("eval_perplexity")  # run_mlm.py's key
        metrics["eval_samples"] = len(encoded["validation"].columns)
        changes = show_adaptation(output_dir, encoded, evaluation)
        rows = masked_rows(model, sources["validation"], tokenizer, settings, batch_loss)
        write_mlm_report(settings, splits, encoded, evaluation, rows, changes)
        write_metrics(output_dir, "eval", metrics)  # last: it says that the rest is there
    print(f"\nmodel and results: {output_dir}/")
    if not uses_own_data(settings):
        print(f"next: python -m rawtrain.ner --model_name_or_path {output_dir}")
    publish(settings, repository)


def probes_of(tokenizer, splits, encoded):
    """Words of the training rows to ask the model for, in sentences of the validation data."""
    texts = splits["validation"].texts if "validation" in splits else []
    general = encoded["general"].columns if "general" in encoded else None
    return choose_probes(tokenizer, encoded["train"].columns, general, texts)


def show_adaptation(output_dir, encoded, evaluation):
    """Print the scores before and after training beside those of a count of tokens; returns them.

    evaluation: of the validation data, after training. Without a training there is nothing to show.
    """
    history = read_history(output_dir)
    if not history:
        return {}
    unigram = unigram_scores(count_tokens(encoded["train"].columns), evaluation.labels)
    note(output_dir, unigram=unigram)  # for the model card
    changes = adaptation(history, unigram)
    print("\n" + "\n".join(adaptation_table(changes)))
    return changes


def general_scores(splits, evaluate_on):
    """The scores of the model on the general text, and which text it is; None without one."""
    if "general" not in splits:
        return None
    evaluation, text = evaluate_on("general"), splits["general"]
    identity = {"source": text.source, "fingerprint": text.fingerprint}
    return identity | {"loss": evaluation.loss} | score(evaluation)


def read_splits(settings):
    """The documents by split; "general" is the text of --general_file."""
    has_data = uses_own_data(settings)
    documents = read_documents(settings) if has_data else embedded_documents(settings)
    splits = with_validation(documents, settings)
    if settings.general_file:
        splits["general"] = read_document_file(settings.general_file, settings)
    return splits


def with_validation(documents, settings):
    """The splits of the data; where none validates, the first documents of training do."""
    if "train" not in documents or "validation" in documents or settings.eval_strategy == "no":
        return documents
    train_split = documents["train"]
    texts, held_out = split_documents(train_split.texts, settings.validation_split_percentage)
    if not texts:
        raise ValueError(
            f"{train_split.source}: one document is not enough to train and to validate on; give "
            f"a --validation_file, or --eval_strategy no"
        )
    source = f"the first {settings.validation_split_percentage} % of {train_split.source}"
    return {
        "train": replace(train_split, texts=texts),
        "validation": replace(train_split, texts=held_out, source=source, num_empty=0),
    }


def embedded_documents(settings):
    """The text that comes with every installation, without the sentences that test ner."""
    corpus = read_docstring_corpus()
    model = settings.model_name_or_path or "a new BERT of two layers, trained from scratch"
    print(
        f"No data is named. This run learns from text that is on this machine already:\n"
        f"{corpus.description} (hash {corpus.fingerprint}),\n"
        f"without the sentences that validate and test rawtrain.ner.\n"
        f"The model: {model}. Half a minute is too short to learn a language:\n"
        f"compare its loss with that of token frequencies, in the table at the end.\n"
        f"Its recipe: {terminal.recipe(settings)}\n"
    )
    return {"train": documents_from(lambda: corpus.documents, corpus.description)}


def make_tokenizer(settings, splits):
    if is_from_scratch(settings):
        return train_small_tokenizer(splits["train"].texts)
    tokenizer = load_tokenizer(settings)
    if tokenizer.mask_token_id is None:
        raise ValueError(
            f"{tokenizer.name_or_path}: its tokenizer has no mask token; choose a model that "
            f"was trained by masked-language modelling"
        )
    return tokenizer


def make_model(settings, tokenizer):
    """The model, with embeddings for all tokens of the tokenizer."""
    config = small_bert_config(tokenizer) if is_from_scratch(settings) else load_config(settings)
    load = partial(load_model, AutoModelForMaskedLM, config, settings)
    model = fresh_model(load, settings.seed)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    check_vocabulary(tokenizer, model)
    return model


def is_from_scratch(settings):
    """Whether this is the run on embedded text that makes its own small model."""
    return not (uses_own_data(settings) or settings.model_name_or_path)


def encode(settings, splits, tokenizer, model):
    """The splits that the run works on as rows of tokens, cached; see `data.text`."""
    max_length = check_length(settings, tokenizer, model, LONGEST_BY_DEFAULT)
    wanted = {
        "train": (settings.do_train, settings.max_train_samples),
        "validation": (True, settings.max_eval_samples),
        "general": (True, settings.max_eval_samples),
    }
    encoded = {}
    for name, split in splits.items():
        is_wanted, max_rows = wanted.get(name, (False, None))
        if is_wanted:
            text = encode_documents(
                tokenizer,
                split.texts,
                max_length,
                settings.line_by_line,
                settings.preprocessing_num_workers,
                cache_of(settings),
            )
            check_tokens(tokenizer, text.columns, split.source)
            encoded[name] = replace(text, columns=text.columns.first(max_rows))
    return encoded


def show_data(splits, encoded, tokenizer, settings):
    """Print what the data is, and how a row begins as the model sees it; returns the figures."""
    for name in encoded:
        print(f"{name}: {splits[name].source}")
    figures = {name: terminal.describe_text(splits[name], text) for name, text in encoded.items()}
    print("\n" + "\n".join(terminal.table(figures)))
    columns = next(iter(encoded.values())).columns
    masked = MaskedTokens(columns, tokenizer, settings).tokens(np.array([0]), epoch=0)
    print("\n" + "\n".join(terminal.masked_example(tokenizer, **masked)))
    return figures


if __name__ == "__main__":
    run(main, SETTINGS)
