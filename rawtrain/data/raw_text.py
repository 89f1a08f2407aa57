"""Raw text to words, cut as in the corpora that taggers are trained on.

The docstrings of the first run and the texts given to a tagger are cut by it. A tagger needs the
kind of words that it was trained on: a model that has seen "California" and "." does not know
"California.". Newswire and Wikipedia corpora (CoNLL-2003, PAN-X) separate punctuation from words,
and so does this module:

    Jeff Dean's U.S. office (3,000 m²) isn't in Saint-Étienne...
    Jeff | Dean | 's | U.S. | office | ( | 3,000 | m² | ) | isn't | in | Saint-Étienne | ...

Of the 10,000 validation sentences of PAN-X, joined by spaces, it finds exactly the same words in
91 % (English), 91 % (German), 96 % (Spanish) and 94 % (Dutch). Most others have a "St.", "No." or
"1.", whose dot only a list for each language could tell from the end of a sentence. What training
data shows of apostrophes (l'|Allemagne, foto's) is learnt from it, and makes these shares no worse.
"""

import functools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Regex, pre_tokenizers

logger = logging.getLogger(__name__)

# Marks belong to the letter before them. So do, within a word, a soft hyphen and the two characters
# that join or separate letters in Persian and in Indian scripts.
_SPACED = r"[\w\p{M}\p{N}\u200c\u200d\u00ad]"
# Scripts written without spaces: in PAN-X each character is a word.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]"
_LETTER = rf"(?!{_UNSPACED}){_SPACED}"
MOST_APOSTROPHES = 200  # words that are learnt: the rest are quotations
CLITICS = ("'s", "'m", "'d", "'re", "'ve", "'ll")  # Dean's
# A long text is cut before a blank, or anywhere if it has none: the patterns of the splitter take
# quadratic time, and give up on a word of millions of letters.
_PIECE = re.compile(r"(?s).{1,9999}(?=[ \t\n]|\Z)|.{1,9999}")
_AT_APOSTROPHE = re.compile(r"'[^\W\d_]+|[^\W\d_]+'")
_UNSPACED_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]{2,}")


def learn_apostrophes(sentences: Iterable[Sequence[str]]) -> list[str]:
    """The words of training data that begin or end with an apostrophe: "'s", "l'", "dell'".

    Those of English are kept unless the data has them within words ("foto's") more often. Warns of
    words that raw text is never cut into.
    """
    alone, within = Counter(CLITICS), Counter()
    num_words = num_unspaced = 0
    for word in (word for sentence in sentences for word in sentence):
        num_words += 1
        num_unspaced += bool(_UNSPACED_WORD.fullmatch(word))
        before, mark, after = word.replace("’", "'").casefold().partition("'")
        if before and after:
            within.update([before + mark, mark + after])
        elif mark:
            alone[before + mark + after] += 1
    if num_unspaced > 0.01 * num_words:
        logger.warning(
            f"{num_unspaced:,} of {num_words:,} words have several Chinese, Japanese or Thai "
            f"characters, and rawtrain.tag cuts raw text at each of these: it will find less than "
            f"the scores say. Cut text into such words yourself, and call Tagger.tag_words"
        )
    sound = {w: n for w, n in alone.items() if n >= within[w] and _AT_APOSTROPHE.fullmatch(w)}
    return [word for word, _ in Counter(sound).most_common(MOST_APOSTROPHES)]


def split_words(text: str, at_apostrophes: Sequence[str] = CLITICS) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, in code points, the end exclusive.

    at_apostrophes: what is cut off there, from `learn_apostrophes`. Every character that is not
    white space belongs to exactly one word.
    Raises ValueError for half of a surrogate pair, which is not a character.

    >>> text = "Jeff Dean's office."
    >>> [text[start:end] for start, end in split_words(text)]
    ['Jeff', 'Dean', "'s", 'office', '.']
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start + 1} of the text is half of a surrogate pair (\\ud800 to "
            f"\\udfff), which is not a character; expected text that UTF-8 can hold"
        ) from None
    splitter, words = word_splitter(tuple(at_apostrophes)), []
    for piece in _PIECE.finditer(text):
        begin, found = piece.start(), splitter.pre_tokenize_str(piece.group())
        words += [(begin + start, begin + end) for _, (start, end) in found]
    return words


@functools.cache
def word_splitter(at_apostrophes: tuple[str, ...] = CLITICS) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer that splits words: tokenizers' patterns know the classes of Unicode."""
    sound = [word for word in at_apostrophes if _AT_APOSTROPHE.fullmatch(word)]
    endings = "|".join(word[1:] for word in sound if word[0] == "'") or "(?!)"
    beginnings = "|".join(word[:-1] for word in sound if word[0] != "'")
    clitic = rf"['’](?i:{endings})(?!{_SPACED})"
    parts = [
        *([rf"(?i:{beginnings})['’]"] if beginnings else []),  # l'Allemagne
        rf"(?:\p{{L}}\.)+(?!{_SPACED})",  # initials: J. and U.S.
        clitic,
        rf"{_UNSPACED}\p{{M}}*",
        # south-west, O'Neill, AT&T, torch.nn; between digits also 3,000 and 6:4 and 20/21
        rf"(?:{_LETTER})+(?:(?:[-.&·‑–]|(?!{clitic})['’]|(?<=\d)[,:/](?=\d))(?:{_LETTER})+)*",
        rf"([^{_SPACED[1:-1]}\s])\1+",  # one character several times: ... and ''
        r"(?!\s)\X",  # any other character, with its modifiers: an emoji of several code points
    ]
    # Inverted: the pattern matches what is kept, and everything between is removed.
    return pre_tokenizers.Split(Regex("|".join(parts)), "removed", invert=True)
