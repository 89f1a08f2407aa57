"""`python -m rawtrain`: the list of commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rawtrain
from rawtrain.__main__ import COMMANDS, main

FOLDER = Path(rawtrain.__file__).parent


def test_it_lists_every_command_with_a_line(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        out, err = capsys.readouterr()
        lines = out.splitlines()[: len(COMMANDS)]
        assert [line.split()[2] for line in lines] == [f"rawtrain.{name}" for name in COMMANDS]
        assert all(len(line) <= 100 for line in out.splitlines()) and err == ""


def test_every_module_with_a_command_line_is_in_the_list():
    commands = {
        ".".join(file.relative_to(FOLDER).with_suffix("").parts)
        for file in FOLDER.rglob("*.py")
        if re.search(r'^if __name__ == "__main__":', file.read_text(), re.MULTILINE)
    }
    assert {"ner", "mlm", "study.kill"} <= commands
    assert commands - {"__main__"} <= set(COMMANDS)


def test_an_unknown_argument_gets_the_list_and_2_and_never_shows_a_value(capsys):
    assert main(["--hub_token=hf_secret"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "hf_secret" not in err
    assert err.startswith("error: unknown argument '--hub_token'; known are:\n\npython -m")
    for typed in ("ner", "rawtrain.ner"):
        assert main([typed, "--seed", "1"]) == 2
        assert "did you mean python -m rawtrain.ner?\n" in capsys.readouterr().err


@pytest.mark.slow
def test_it_imports_nothing_heavy():
    script = "import sys, runpy; sys.argv = ['x']\n"
    script += "try: runpy.run_module('rawtrain', run_name='__main__')\n"
    script += "except SystemExit: assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
