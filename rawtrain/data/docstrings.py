"""The corpus of the first run: docstrings of the Python standard library and of torch.

Every installation has them, so both commands do something real without a network or a file. Source
files are read as text: importing them would be slow and have side effects, and parsing them with
`ast` takes many seconds. Between two triple quotes there is a docstring or, in a few files, code,
which `roles.sentences` leaves out.
"""

import json
import platform
import re
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import util
from importlib.metadata import version
from pathlib import Path

from rawtrain.data.files import sha256_of
from rawtrain.data.roles import Sentence, sentences
from rawtrain.data.tags import TaggedSentences

# Where the prose is; the rest of torch (compiler, test tools, code generators) is mostly code.
TORCH_FOLDERS = """
    accelerator amp ao autograd cuda distributed distributions export fft futures jit linalg masked
    nested nn optim package sparse special utils xpu"""
LIBRARY_FOLDERS = "asyncio concurrent email http importlib json logging unittest urllib xml"

MIN_SENTENCES = 500
VALIDATION_SHARE, TEST_SHARE = 0.10, 0.15


@dataclass(frozen=True)
class DocstringCorpus:
    splits: dict[str, TaggedSentences]  # keys: "train", "validation", "test"
    documents: list[str]  # the prose of one docstring each, without the held-out sentences
    description: str  # the versions of Python and torch that the text is from

    @property
    def types(self) -> list[str]:
        """The entity types, in alphabetical order."""
        return sorted({tag[2:] for tags in self.splits["train"].tags for tag in tags if tag != "O"})

    @property
    def fingerprint(self) -> str:
        """A hash of all text and tags: runs with the same one had the same data."""
        splits = [[split.words, split.tags] for split in self.splits.values()]
        return sha256_of(json.dumps([splits, self.documents]))[:12]


def read_docstring_corpus(files: Iterable[Path] | None = None) -> DocstringCorpus:
    """Sentences with marked names in three splits, and documents without the held-out ones.

    The split of a sentence is a function of its text (see `_split_of`), the same on every machine
    and for all versions. Of sentences that differ only in names, case, digits or punctuation one is
    kept, and near duplicates mostly share a split, so that memorized text counts little in the
    test. Splits and documents are sorted by a hash of their text: the first n are a fair sample.

    Raises ValueError if there is too little text, as in an installation without source files.
    """
    files = docstring_files() if files is None else list(files)
    docstrings = [list(sentences(docstring)) for path in files for docstring in _docstrings(path)]
    tagged = [s for found in docstrings for s in found if s.has_entity and s.is_fully_marked]
    # Two sentences can differ only in their names, or only in which names are marked.
    tagged = _one_each(tagged, lambda sentence: sentence.text)
    tagged = _one_each(tagged, lambda sentence: sentence.text_without_entities)
    if len(tagged) < MIN_SENTENCES:
        raise ValueError(
            f"the docstrings in {len(files)} source files of Python and torch hold {len(tagged)} "
            f"sentences with marked names, expected at least {MIN_SENTENCES}: this installation "
            "came without sources or with stripped ones. Name your own data with --train_file."
        )
    splits: dict[str, list[Sentence]] = {"train": [], "validation": [], "test": []}
    for sentence in tagged:
        splits[_split_of(sentence)].append(sentence)
    held_out = splits["validation"] + splits["test"]
    return DocstringCorpus(
        {name: _tagged_sentences(split, name) for name, split in splits.items()},
        _documents(docstrings, held_out),
        description=f"docstrings of Python {platform.python_version()}, torch {version('torch')}",
    )


def docstring_files() -> list[Path]:
    """The source files that are read, in an order that does not depend on where they are."""
    library = Path(sysconfig.get_path("stdlib"))
    torch = util.find_spec("torch")  # does not import it
    assert torch and torch.origin
    files: list[Path] = []
    for root, folders in ((library, LIBRARY_FOLDERS), (Path(torch.origin).parent, TORCH_FOLDERS)):
        files += sorted(root.glob("*.py"))
        for folder in folders.split():
            files += sorted((root / folder).rglob("*.py"))
    return files


def _docstrings(path: Path) -> list[str]:
    return re.findall(r'"""(.*?)"""', path.read_text("utf-8", errors="replace"), flags=re.DOTALL)


def _tagged_sentences(split: list[Sentence], name: str) -> TaggedSentences:
    pairs = [sentence.words_and_tags() for sentence in sorted(split, key=_sentence_hash)]
    words, tags = [words for words, _ in pairs], [tags for _, tags in pairs]
    lines = [[number] * len(sentence) for number, sentence in enumerate(words, start=1)]
    return TaggedSentences(words, tags, lines, f"docstrings ({name})", at=", sentence ")


def _documents(docstrings: list[list[Sentence]], held_out: list[Sentence]) -> list[str]:
    """The sentences of each docstring joined: every sentence once, held-out ones left out."""
    seen = {_pattern(sentence.text) for sentence in held_out}
    documents = []
    for docstring in docstrings:
        kept = []
        for sentence in docstring:
            pattern = _pattern(sentence.text)
            # The second condition leaves out near duplicates of held-out sentences.
            if pattern not in seen and not (sentence.has_entity and _split_of(sentence) != "train"):
                seen.add(pattern)
                kept.append(sentence.text)
        if kept:
            documents.append(" ".join(kept))
    return sorted(documents, key=sha256_of)


def _one_each(tagged: list[Sentence], part: Callable[[Sentence], str]) -> list[Sentence]:
    """One sentence of each pattern: the one with the smallest hash, whatever their order."""
    kept: dict[str, Sentence] = {}
    for sentence in tagged:
        pattern = _pattern(part(sentence))
        kept[pattern] = min(kept.get(pattern, sentence), sentence, key=_sentence_hash)
    return list(kept.values())


def _pattern(text: str) -> str:
    """The words of a text in lower case, without digits and punctuation."""
    return " ".join(re.findall(r"[^\W\d_]+", text.lower()))


def _split_of(sentence: Sentence) -> str:
    """The split, decided by the smallest hash of the sentence's runs of three words (MinHash).

    Two sentences that share a fraction of their runs share the smallest one, and so the split, with
    that probability. Names are left out, because sentences from one template differ in them.
    """
    words = _pattern(sentence.text_without_entities).split()
    runs = [" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))]
    position = int(sha256_of("split " + min(runs, key=sha256_of))[:8], 16) / 16**8
    if position < TEST_SHARE:
        return "test"
    return "validation" if position < TEST_SHARE + VALIDATION_SHARE else "train"


def _sentence_hash(sentence: Sentence) -> str:
    return sha256_of(json.dumps(sentence.pieces))
