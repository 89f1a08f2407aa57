"""`python -m rawtrain` lists the commands. It imports nothing heavy, so it answers at once."""

import sys

COMMANDS = {
    "ner": "fine-tune an encoder for named-entity recognition",
    "mlm": "adapt an encoder to the language of documents",
    "tag": "find the names in your own texts with a model from ner",
    "fill": "fill in [MASK] with a model from mlm",
    "study.gap": "what a tagger scores, and what its users get from a pipeline",
    "study.probes": "what an adaptation learnt, and what it forgot",
    "study.parity": "train beside transformers' Trainer and compare every bit",
    "study.kill": "kill runs at any instant, start them again and compare",
    "study.zoo": "which architectures train packed, and resume with the same bits",
    "study.transfer": "train in each language, test in all others",
    "study.curve": "scores over the number of training sentences",
    "study.seeds": "how much of a score is luck: mean and deviation over seeds",
    "study.compare": "whether one run is better than another, or just luckier",
}


def main(arguments: list[str]) -> int:
    """Print the list; returns the exit code, which is 2 for any argument but --help."""
    unknown = [argument for argument in arguments if argument not in ("-h", "--help")]
    out = sys.stderr if unknown else sys.stdout
    if unknown:
        typed = unknown[0].partition("=")[0]  # never the value, which may be a token
        name = typed.removeprefix("rawtrain.")
        hint = f"did you mean python -m rawtrain.{name}?" if name in COMMANDS else "known are:"
        print(f"error: unknown argument {typed!r}; {hint}\n", file=out)
    width = max(map(len, COMMANDS)) + 2
    for command, line in COMMANDS.items():
        print(f"python -m rawtrain.{command:<{width}}{line}", file=out)
    print("\nEach lists its settings with --help; README.md has examples.", file=out)
    return 2 if unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
