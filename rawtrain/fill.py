"""Fill in hidden words: `python -m rawtrain.fill MODEL_DIR "Transformers are [MASK]."`.

Prints the likeliest words for each mask with their probabilities. use/filler.py does the work.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

from collections.abc import Sequence

from rawtrain.cli.command import parser_of_use, reported_mistakes, run
from rawtrain.errors import visible


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill in the masks of the texts that the arguments name."""
    asked = _parser().parse_intermixed_args(arguments)
    with reported_mistakes():
        from rawtrain.run.log import configure_logging
        from rawtrain.use.filler import MaskFiller  # torch: after a wrong flag was answered

        configure_logging(asked)
        options = {"use_cpu": asked.use_cpu, "trust_remote_code": asked.trust_remote_code}
        filler = MaskFiller.from_pretrained(asked.model_dir, **options)
        for text in asked.text:
            masks = filler(text, asked.top_k)
            print(visible(text))
            for number, likeliest in enumerate(masks, start=1):
                if len(masks) > 1:
                    print(f"  mask {number}")
                for word in likeliest:
                    print(f"  {word['score']:.3f}  {visible(word['token_str'].strip())}")


def _parser():
    parser = parser_of_use(
        "fill",
        "Predict the hidden words of a text with a masked language model.",
        "[MASK] stands for the mask token of any model. A mask is one token: a word of "
        "several sub-words is not found. Each mask is filled independently of the others.",
    )
    parser.add_argument("text", nargs="+", help="texts, each with at least one [MASK]")
    parser.add_argument(
        "--top_k", "--top-k", type=int, default=5, help="words for each mask (default: 5)"
    )
    return parser


if __name__ == "__main__":
    run(main, None)
