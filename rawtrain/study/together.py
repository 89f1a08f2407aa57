"""Several corpora as one: the training and validation data of all of them, to train on together."""

import hashlib
from dataclasses import replace

from rawtrain.errors import raise_problems
from rawtrain.run.durable import write_text
from rawtrain.study.runs import Corpus, files_of

ALL = "all"


def corpus_of_all(corpora, settings, folder) -> Corpus:
    """All corpora as one without test data; what is in it is known before its files are written."""
    files, hashes = {}, {}
    for split, limit in _limits(settings).items():
        parts = [corpus.hashes[split] for corpus in corpora if split in corpus.hashes]
        if parts:
            files[split] = folder / ALL / f"{split}.conll"
            hashes[split] = hashlib.sha256(f"{parts} {limit}".encode()).hexdigest()
    return Corpus(ALL, files, hashes)


def settings_of_all(settings):
    """The settings of a run on its files, which are cut already and have columns of their own."""
    return replace(
        settings, max_train_samples=None, max_eval_samples=None, token_column=0, tag_column=-1
    )


def write_corpus_of_all(together, corpora, settings) -> None:
    """Write its files: of each corpus the first sentences, up to max_train_samples or max_eval_...

    Raises ValueError if test data have tags that the training data of another corpus do not have.
    """
    from rawtrain.data.sources import read_tagged  # pyarrow takes a second

    read = {corpus.name: read_tagged(replace(settings, **files_of(corpus))) for corpus in corpora}
    _check_tags(read)
    for split, limit in _limits(settings).items():
        parts = [corpus.splits[split] for corpus in read.values() if split in corpus.splits]
        sentences = [
            "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
            for part in parts
            for words, tags in zip(part.words[:limit], part.tags[:limit], strict=True)
        ]
        if parts:
            together.files[split].parent.mkdir(parents=True, exist_ok=True)
            write_text(together.files[split], "\n".join(sentences))


def _limits(settings):
    return {"train": settings.max_train_samples, "validation": settings.max_eval_samples}


def _check_tags(read):
    problems = []
    for corpus in read.values():
        test = corpus.splits["test"]
        tags = {tag for sentence in test.tags for tag in sentence}
        for name, other in read.items():
            if unknown := sorted(tags - set(other.label_names)):
                problems.append(
                    f"{test.source}: has tags that the training data of {name} do not have: "
                    f"{', '.join(unknown)}"
                )
    raise_problems(problems, "Corpora of one table share their tags: rename what means the same.")
