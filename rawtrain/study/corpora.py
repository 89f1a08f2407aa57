"""Corpora in folders, for the studies that train on one after another, and all of them as one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rawtrain.config import NerSettings
from rawtrain.data.files import sha256_of
from rawtrain.errors import raise_problems
from rawtrain.run.durable import write_text

FILE_NAMES = {
    "train": ("train.conll",),
    "validation": ("validation.conll", "dev.conll", "val.conll"),
    "test": ("test.conll",),
}
ALL = "all"  # corpora together


@dataclass(frozen=True)
class Corpus:
    """The files of a corpus, by split."""

    name: str
    files: dict[str, Path]  # of "train", "validation" and "test" those that there are

    @cached_property
    def hashes(self) -> dict[str, str]:
        return {split: sha256_of(file) for split, file in self.files.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that name the data of a run on it; None for what it does not have."""
        names = {split: str(file) for split, file in self.files.items()}
        files = {f"{split}_file": names.get(split) for split in FILE_NAMES}
        return files | {"dataset_name": None, "dataset_config_name": None}


def find_corpus(name: str, folder: str | Path) -> Corpus:
    """The corpus in a folder. ValueError if training or test data are missing."""
    files = {}
    for split, names in FILE_NAMES.items():
        found = [file for file in (Path(folder) / n for n in names) if file.is_file()]
        if len(found) > 1:
            raise ValueError(f"{folder}: both {found[0].name} and {found[1].name}; keep one")
        if not found and split != "validation":
            raise ValueError(
                f"{folder}: no {names[0]} there; expected a folder with train.conll, test.conll "
                f"and, if there is any, {' or '.join(FILE_NAMES['validation'])}"
            )
        if found:
            files[split] = found[0]
    return Corpus(name, files)


def write_corpus_of_all(
    corpora: Sequence[Corpus], settings: NerSettings, folder: Path
) -> tuple[Corpus, NerSettings]:
    """All corpora as one without test data, and the settings of a run on it.

    It holds the first sentences of each, up to max_train_samples and max_eval_samples. Raises
    ValueError if test data have tags that the training data of another corpus do not have.
    """
    from rawtrain.data.sources import read_tagged  # pyarrow takes a second

    read = {corpus.name: read_tagged(replace(settings, **corpus.settings)) for corpus in corpora}
    problems = [
        f"{corpus.splits['test'].source}: has tags that the training data of {name} do not have: "
        f"{', '.join(unknown)}"
        for corpus in read.values()
        for name, other in read.items()
        if (unknown := sorted(set().union(*corpus.splits["test"].tags) - set(other.label_names)))
    ]
    raise_problems(problems, "Corpora of one table share their tags: rename what means the same.")
    (folder / ALL).mkdir(parents=True, exist_ok=True)
    limits = {"train": settings.max_train_samples, "validation": settings.max_eval_samples}
    files = {}
    for split, limit in limits.items():
        sentences = [
            "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
            for corpus in read.values()
            if (part := corpus.splits.get(split))
            for words, tags in zip(part.words[:limit], part.tags[:limit], strict=True)
        ]
        if sentences:
            files[split] = folder / ALL / f"{split}.conll"
            write_text(files[split], "\n".join(sentences))
    whole: dict[str, Any] = {"max_train_samples": None, "max_eval_samples": None}
    return Corpus(ALL, files), replace(settings, **whole, token_column=0, tag_column=-1)
