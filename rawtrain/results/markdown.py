"""Markdown from data: what it shows, it shows as it is."""

import re

# what Markdown or HTML would take for more than text, anywhere or where a line begins
MARKUP = re.compile(r"([\\`*_\[\]|~$<>&^@]|:(?=//)|^[#+-]|(?<=^\d)[.)])")


def escape(text):
    """Text of data or names as Markdown that shows it and does nothing.

    >>> print(escape("a|b *c* <script>"))
    a\\|b \\*c\\* \\<script\\>
    """
    return MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def code_block(text, language=""):
    """A fenced block, its fence longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(header, rows):
    """A table; the cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
