"""Tag raw text: `python -m rawtrain.tag MODEL_DIR "Jeff Dean works at Google"`.

Each text is printed with its entities marked, and an entity a line below it; with --json as one
JSON object a line. use/tagger.py does the work.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

import json
import signal
import sys
from collections.abc import Sequence
from itertools import islice

from rawtrain.cli.command import parser_of_use, reported_mistakes, run
from rawtrain.data.files import iterate_lines, lines_of
from rawtrain.errors import visible

TEXTS_AT_ONCE = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Tag the texts that the arguments name, and print their entities."""
    asked = _parser().parse_intermixed_args(arguments)  # --json may stand before the texts
    with reported_mistakes():
        from rawtrain.fast.cpu import tune_process  # torch: after a wrong flag was answered
        from rawtrain.run.log import configure_logging
        from rawtrain.use.tagger import Tagger

        configure_logging(asked)
        options = {"max_seq_length": asked.max_seq_length, "batch_size": asked.batch_size}
        options |= {"use_cpu": asked.use_cpu, "trust_remote_code": asked.trust_remote_code}
        tagger = Tagger.from_pretrained(asked.model_dir, **options)
        tune_process(tagger.model.device)
        is_typed = not asked.file and not asked.text and sys.stdin.isatty()
        if is_typed:
            print("type a text a line; ^D ends", file=sys.stderr)
        texts = iter(_texts(asked))
        num_texts = 0
        while chunk := list(islice(texts, 1 if is_typed else TEXTS_AT_ONCE)):
            found = _tagged(tagger, chunk, num_texts + 1)
            num_texts += len(chunk)
            for text, entities in zip(chunk, found, strict=True):
                as_json = json.dumps({"text": text, "entities": entities})  # ASCII: for any locale
                print(as_json if asked.json else _for_people(text, entities), flush=is_typed)


def _parser():
    parser = parser_of_use(
        "tag",
        "Find names in text with a model that rawtrain.ner trained.",
        "Offsets count code points from 0; the end is exclusive. The score is the "
        "mean probability of the labels of an entity's words.",
    )
    parser.add_argument("text", nargs="*", help="texts (default: each line of standard input)")
    parser.add_argument("--file", help="tag each line of this file instead")
    parser.add_argument("--encoding", default="utf-8", help="of the file (default: utf-8)")
    parser.add_argument("--json", action="store_true", help="write a JSON object for each text")
    rows = "rows at once (default: 32)"
    parser.add_argument("--batch_size", "--batch-size", type=int, default=32, help=rows)
    longest = "longest window over a text, in sub-words (default: the model's limit)"
    parser.add_argument("--max_seq_length", "--max-seq-length", type=int, help=longest)
    return parser


def _tagged(tagger, texts, number):
    """The entities of the texts. A ValueError, or a panic of a tokenizer, names the text at fault.

    number: of the first text, from 1.
    """
    try:
        return tagger(texts)
    except BaseException as error:  # a panic is no Exception
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        if len(texts) == 1:
            raise ValueError(f"text {number} cannot be tagged: {error}") from None
    half = len(texts) // 2
    return _tagged(tagger, texts[:half], number) + _tagged(tagger, texts[half:], number + half)


def _texts(asked):
    if asked.file and asked.text:
        raise ValueError(f"--file {asked.file} is given, and texts too; leave one of them out")
    if asked.file:
        return iterate_lines(asked.file, asked.encoding)
    return asked.text or lines_of(sys.stdin.buffer, "standard input", asked.encoding)


def _for_people(text, entities):
    """The text with its entities in brackets, and a line for each entity."""
    marked, lines, position = "", [], 0
    for entity in entities:
        start, end, kind = entity["start"], entity["end"], entity["entity_group"]
        word = entity["word"]
        marked += f"{text[position:start]}[{word} | {kind}]"
        lines.append(f"  {start:>5}-{end:<5} {entity['score']:.3f}  {kind:<6} {word}")
        position = end
    return visible("\n".join([marked + text[position:], *lines]))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` may end this program
    run(main, None)
