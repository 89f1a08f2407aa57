"""How the commands on a finished run (gap.py, probes.py) begin: which run, and its settings."""

import argparse
import json
from pathlib import Path
from typing import TypeVar

from rawtrain.config import MlmSettings, NerSettings
from rawtrain.data.files import read_text
from rawtrain.run.durable import MANIFEST, verify
from rawtrain.run.identity import read_identity

Settings = TypeVar("Settings", NerSettings, MlmSettings)


def parser_of(command: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m rawtrain.study.COMMAND RUN`, for more arguments to be added."""
    parser = argparse.ArgumentParser(
        prog=f"python -m rawtrain.study.{command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="output directory of a finished run")
    return parser


def settings_of(run: Path, settings_class: type[Settings]) -> Settings:
    """The settings of the finished run in a folder, with that folder as `output_dir`.

    Raises ValueError if no run of this job has finished there, DamagedError if its model changed.
    """
    if not (run / MANIFEST).is_file():
        raise ValueError(
            f"{run} holds no finished run; expected the --output_dir of {settings_class.command}, "
            f"trained to its end"
        )
    task = (read_identity(run) or {}).get("task")
    if task != settings_class.task:
        raise ValueError(f"{run} holds a run of {task}; expected one of {settings_class.command}")
    verify(run, others_allowed=True)
    values = json.loads(read_text(run / "settings.json"))
    return settings_class(**values | {"output_dir": str(run)})
