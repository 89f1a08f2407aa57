"""Raw text to words, as the corpora that taggers are trained on have them.

The docstrings of the first run are cut by it, and so is every text that a tagger is given.

A tagger is trained on words. What it makes of raw text hangs on this being cut into the same words:
a model that has seen "California" and "." knows nothing of "California.". Newswire and Wikipedia
corpora (CoNLL-2003, PAN-X) part signs from words, and this module does as they do:

    Jeff Dean's U.S. office (3,000 m²) isn't in Saint-Étienne...
    Jeff | Dean | 's | U.S. | office | ( | 3,000 | m² | ) | isn't | in | Saint-Étienne | ...

Of the 10,000 validation sentences of PAN-X, joined by blanks, it finds the very words again in 91 %
(English), 91 % (German), 96 % (Spanish) and 94 % (Dutch); of the others most have a "St.", "No." or
"1.", whose dot only a list for each language could tell from the end of a sentence.
"""

import functools

# Marks belong to the letter before them. So do, within a word, a soft hyphen and the two signs that
# join or part letters of Persian and of Indian scripts.
_SPACED = r"[\w\p{M}\p{N}\u200c\u200d\u00ad]"
# Written without blanks: PAN-X has a word for each of their characters.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]"
_LETTER = rf"(?!{_UNSPACED}){_SPACED}"
_CLITIC = rf"['’](?i:s|m|d|re|ve|ll)(?!{_SPACED})"
_PARTS = (
    rf"(?:\p{{L}}\.)+(?!{_SPACED})",  # initials: J. and U.S.
    _CLITIC,  # Dean's
    rf"{_UNSPACED}\p{{M}}*",
    # south-west, O'Neill, AT&T, torch.nn; between digits also 3,000 and 6:4 and 20/21
    rf"(?:{_LETTER})+(?:(?:[-.&·‑–]|(?!{_CLITIC})['’]|(?<=\d)[,:/](?=\d))(?:{_LETTER})+)*",
    rf"([^{_SPACED[1:-1]}\s])\1+",  # one sign several times: ... and ''
    r"(?!\s)\X",  # any other sign, with what modifies it: an emoji of several code points
)


def split_words(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, in code points, the end exclusive.

    Every character that is no white space belongs to exactly one word.
    Raises ValueError for half of a surrogate pair, which is no character.

    >>> text = "Jeff Dean's office."
    >>> [text[start:end] for start, end in split_words(text)]
    ['Jeff', 'Dean', "'s", 'office', '.']
    """
    try:
        words = word_splitter().pre_tokenize_str(text)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start + 1} of the text is half of a surrogate pair (\\ud800 to "
            f"\\udfff), which is no character; expected was text that UTF-8 can hold"
        ) from None
    return [span for _, span in words]


@functools.cache
def word_splitter():
    """It as a pre-tokenizer of the tokenizers library, whose patterns know Unicode's classes."""
    from tokenizers import Regex, pre_tokenizers

    # Inverted: the pattern matches what is kept, and what lies between is removed.
    return pre_tokenizers.Split(Regex("|".join(_PARTS)), "removed", invert=True)
