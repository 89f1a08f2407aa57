"""Masked-language modelling: `python -m rawtrain.mlm`. The whole job, read from top to bottom.

Documents become rows of tokens, some tokens of each row are hidden anew in every epoch, and a
pretrained encoder learns to say what they were: it adapts to the domain of the documents. The job
is that of chapter 9 of *Natural Language Processing with Transformers* and of transformers'
run_mlm.py.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

from rawtrain.cli import command
from rawtrain.cli.command import reported_mistakes
from rawtrain.config import MlmSettings, uses_own_data

if __name__ == "__main__":
    SETTINGS = command.parse(MlmSettings)  # before torch is imported: a wrong flag is told at once

from dataclasses import replace
from functools import partial

from transformers import AutoModelForMaskedLM

from rawtrain import job, match_trainer
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.route import make_batches
from rawtrain.data.cache import cache_of
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.rows import documents_from
from rawtrain.data.small_bert import small_bert_config, train_small_tokenizer
from rawtrain.data.sources import read_documents
from rawtrain.data.text import check_tokens, encode_documents, split_documents
from rawtrain.evaluation import evaluate
from rawtrain.models.loading import check_length, check_vocabulary, load_config, load_model
from rawtrain.models.tokenizers import load_tokenizer
from rawtrain.randomness import fresh_model
from rawtrain.results import terminal
from rawtrain.results.card import note_run
from rawtrain.results.mlm_page import score, show_data, show_scores
from rawtrain.run.plan import check_steps

LONGEST_BY_DEFAULT = 1024  # as in run_mlm.py


def main(settings: MlmSettings) -> None:
    """Do the job that `settings` describe, from the data to the saved model, and report on it."""
    with reported_mistakes():
        repository = job.prepare(settings)
        splits = read_splits(settings)
        settings = job.decide_work(settings, splits)
        tokenizer = make_tokenizer(settings, splits)
        model = make_model(settings, tokenizer)
        encoded = encode(settings, splits, tokenizer, model)
        if settings.do_train:
            check_steps(settings, len(encoded["train"].columns))
        run = job.open_run(settings, repository, splits, tokenizer, model)
    if not run.has_work:
        run.close()
        return
    note_run(run.settings, splits, show_data(splits, encoded, tokenizer, settings))
    sources = {
        name: MaskedTokens(rows.columns, tokenizer, settings) for name, rows in encoded.items()
    }
    batches, batch_loss = make_batches(model, sources, tokenizer, settings)
    if settings.match_trainer:
        batches = match_trainer.masked_batches(encoded, tokenizer, settings)

    if run.settings.do_train:
        first_entry = None
        if "validation" in batches and not run.claim.resumes_from:
            with reported_mistakes():  # so few tokens that none of them is masked
                evaluation = evaluate(model, batches["validation"], settings, batch_loss)
            first_entry = {**evaluation.metrics("eval", score), "epoch": 0.0, "step": 0}
        run.train(
            batches,
            batch_loss=batch_loss,
            eval_batch_loss=batch_loss,
            score=score,
            num_samples=len(encoded["train"].columns),
            first_entry=first_entry,
        )
    for name in run.to_score:
        evaluation = evaluate(model, batches[name], settings, batch_loss)
        show_scores(settings, splits, encoded, tokenizer, evaluation)
        metrics = evaluation.metrics("eval", score)
        metrics["perplexity"] = metrics.pop("eval_perplexity")  # run_mlm.py's key
        run.write_scores(name, metrics, len(encoded[name].columns))
    what_next = f"next: python -m rawtrain.ner --model_name_or_path {run.output_dir}"
    run.close("" if uses_own_data(settings) else what_next)


def read_splits(settings):
    """The documents to train on and to validate on."""
    own_data = uses_own_data(settings)
    documents = read_documents(settings) if own_data else embedded_documents(settings)
    documents.pop("test", None)  # a data set of the hub may have one; nothing is predicted here
    return with_validation(documents, settings)


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
        "validation": replace(train_split, texts=held_out, source=source, left_out={}),
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
    check_vocabulary(tokenizer, model, may_grow=True)
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
            check_tokens(tokenizer, text.columns, split.source, settings.whole_word_mask)
            encoded[name] = replace(text, columns=text.columns.first(max_rows))
    return encoded


if __name__ == "__main__":
    command.run(main, SETTINGS)
