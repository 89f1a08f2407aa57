"""Raw text to words, cut as in the corpora that taggers are trained on.

The docstrings of the first run and the texts given to a tagger are cut by it. A tagger needs the
kind of words that it was trained on: a model that has seen "California" and "." does not know
"California.". Newswire and Wikipedia corpora (CoNLL-2003, PAN-X) separate punctuation from words,
and so does this module:

    Jeff Dean's U.S. office (3,000 m²) isn't in Saint-Étienne...
    Jeff | Dean | 's | U.S. | office | ( | 3,000 | m² | ) | isn't | in | Saint-Étienne | ...

Of the 10,000 validation sentences of PAN-X, joined by spaces, it finds exactly the same words in
91 % (English), 91 % (German), 96 % (Spanish) and 94 % (Dutch). Most others have a "St.", "No." or
"1.", whose dot only a list for each language could tell from the end of a sentence.
"""

import functools

from tokenizers import Regex, pre_tokenizers

# Marks belong to the letter before them. So do, within a word, a soft hyphen and the two characters
# that join or separate letters in Persian and in Indian scripts.
_SPACED = r"[\w\p{M}\p{N}\u200c\u200d\u00ad]"
# Scripts written without spaces: in PAN-X each character is a word.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]"
_LETTER = rf"(?!{_UNSPACED}){_SPACED}"
_CLITIC = rf"['’](?i:s|m|d|re|ve|ll)(?!{_SPACED})"
_PARTS = (
    rf"(?:\p{{L}}\.)+(?!{_SPACED})",  # initials: J. and U.S.
    _CLITIC,  # Dean's
    rf"{_UNSPACED}\p{{M}}*",
    # south-west, O'Neill, AT&T, torch.nn; between digits also 3,000 and 6:4 and 20/21
    rf"(?:{_LETTER})+(?:(?:[-.&·‑–]|(?!{_CLITIC})['’]|(?<=\d)[,:/](?=\d))(?:{_LETTER})+)*",
    rf"([^{_SPACED[1:-1]}\s])\1+",  # one character several times: ... and ''
    r"(?!\s)\X",  # any other character, with its modifiers: an emoji of several code points
)


def split_words(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, in code points, the end exclusive.

    Every character that is not white space belongs to exactly one word.
    Raises ValueError for half of a surrogate pair, which is not a character.

    >>> text = "Jeff Dean's office."
    >>> [text[start:end] for start, end in split_words(text)]
    ['Jeff', 'Dean', "'s", 'office', '.']
    """
    try:
        words = word_splitter().pre_tokenize_str(text)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start + 1} of the text is half of a surrogate pair (\\ud800 to "
            f"\\udfff), which is not a character; expected text that UTF-8 can hold"
        ) from None
    return [span for _, span in words]


@functools.cache
def word_splitter() -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer that splits words: tokenizers' patterns know the classes of Unicode."""
    # Inverted: the pattern matches what is kept, and everything between is removed.
    return pre_tokenizers.Split(Regex("|".join(_PARTS)), "removed", invert=True)
