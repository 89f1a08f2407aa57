"""From a docstring to its sentences, with the names that its author marked.

":class:`Tensor`" is a Sphinx role: its author says that Tensor is a class. Without markup a
docstring is prose, and its roles are entity labels made by hand, as noisy as such labels are.
Authors forget roles more often than they write wrong ones; `is_fully_marked` looks for that.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rawtrain.data.raw_text import split_words

# Exceptions are classes, and torch's authors write :func: for many methods. Modules, data and
# objects have a few dozen examples, too few to learn or to score, and count as unmarked.
ENTITY_TYPE_OF_ROLE = {"attr": "ATTR", "class": "CLASS", "exc": "CLASS"}
ENTITY_TYPE_OF_ROLE |= {"func": "FUNC", "meth": "FUNC"}
MIN_WORDS, MAX_WORDS = 4, 40  # longer ones are several run together, and would widen batches


@dataclass(frozen=True)
class Sentence:
    """The text of the rendered page in pieces, each with its entity type or None."""

    pieces: list[tuple[str, str | None]]
    unmarked: list[str]  # quoted as code, or with a role that is not an entity type

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    @property
    def text_without_entities(self) -> str:
        return "".join(text for text, entity_type in self.pieces if not entity_type)

    @property
    def has_entity(self) -> bool:
        return any(entity_type for _, entity_type in self.pieces)

    @property
    def is_fully_marked(self) -> bool:
        """Whether O is reliable: nothing that is unmarked looks like a name."""
        return all(_CONSTANT.fullmatch(code) for code in self.unmarked) and not (
            _LOOKS_LIKE_A_NAME.search(self.text_without_entities)
        )

    def words_and_tags(self) -> tuple[list[str], list[str]]:
        """Words and their IOB2 tags; an entity is the words of one role."""
        words: list[str] = []
        tags: list[str] = []
        for text, entity_type in self.pieces:
            for number, (start, end) in enumerate(split_words(text)):
                words.append(text[start:end])
                tags.append(f"{'I' if number else 'B'}-{entity_type}" if entity_type else "O")
        return words, tags


def sentences(docstring: str) -> Iterator[Sentence]:
    """The sentences of 4 to 40 words, without code, doctests, formulas and tables."""
    for paragraph in _paragraphs(docstring):
        for text in _SENTENCE_END.split(paragraph):
            if not _CODE.search(text):
                sentence = strip_markup(text)
                if _is_prose(sentence.text):
                    yield sentence


def strip_markup(text: str) -> Sentence:
    pieces: list[tuple[str, str | None]] = []
    unmarked, position = [], 0
    for match in _MARKUP.finditer(text):
        role, *contents = match.groups()
        shown = _shown(*filter(None, contents))
        pieces.append((text[position : match.start()].replace("*", ""), None))
        pieces.append((shown, ENTITY_TYPE_OF_ROLE.get(role)))
        if role not in ENTITY_TYPE_OF_ROLE and role not in _ROLES_FOR_PROSE:
            unmarked.append(shown)
        position = match.end()
    return Sentence([*pieces, (text[position:].replace("*", ""), None)], unmarked)


_ROLES_FOR_PROSE = {"ref", "doc", "term"}
_CONSTANT = re.compile(r"True|False|None|[\d.]+")
# requires_grad, IntTensor, CUDA, torch.add, item()
_LOOKS_LIKE_A_NAME = re.compile(r"_|\w[A-Z]|\w{2}\.[A-Za-z]|\w\(\)")
_SENTENCE_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<=[.!?])\s+(?=[A-Z`:(])")
# :role:`text`, ``code``, and `name` or `text <url>`_
_MARKUP = re.compile(r":(?:[\w-]+:)?([\w-]+):`([^`]+)`|``([^`]+)``|`([^`]+)`_{0,2}")
_CODE = re.compile(r":math:|[={}\\|^$#@+]|->|\s[<>]\s")
# ".. note:: text"; without a name it is a comment or the target of a link
_DIRECTIVE = re.compile(r"\.\.\s+(?:([\w-]+) ?::?(?:\s+|$))?(.*)")
_PROSE_DIRECTIVES = {"note", "warning", "important", "tip", "caution", "seealso"}
# "- item", "2. item", "Returns:", "name: what it is", "name (type, optional): what it is"
_LIST_ITEM = re.compile(r"(?:[-*•]|\d+\.|(?:\w+ )?\**\w+(?: ?\([^()]*\))?\s?:)(?:\s+|$)")


def _paragraphs(docstring: str) -> Iterator[str]:
    """Paragraphs and list items, each on one line."""
    lines: list[str] = []
    skipped_below = None  # the indentation of a line whose indented block is not prose
    for line in [*docstring.expandtabs().splitlines(), ""]:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text and skipped_below is not None:
            if indent > skipped_below:
                continue
            skipped_below = None
        directive, item = _DIRECTIVE.match(text), _LIST_ITEM.match(text)
        doctest = text.startswith((">>>", "..."))
        if lines and (not text or directive or item or doctest):
            yield " ".join(lines)
            lines = []
        if directive and directive[1] in _PROSE_DIRECTIVES:
            text = directive[2]
        elif directive or text.endswith("::"):
            skipped_below = indent
            text = ""
        elif item:
            text = text[item.end() :]
        if text and not doctest:
            lines.append(text)


def _shown(content: str) -> str:
    """What Sphinx shows: the title of `title <target>`, c for `~a.b.c` and for `!c`."""
    if titled := re.fullmatch(r"(.+?)\s*<[^<>]+>", content):
        return titled[1]
    name = content.lstrip("!~.").removesuffix("()")
    return name.rpartition(".")[2] if content.startswith("~") else name


def _is_prose(text: str) -> bool:
    """Whether the length fits, and at least half of the words are plain lower-case ones."""
    num_words, num_plain = len(text.split()), len(re.findall(r"\b[a-z]+\b", text))
    return MIN_WORDS <= num_words <= MAX_WORDS and 2 * num_plain >= num_words
