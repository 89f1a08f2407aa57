"""What the README and the pages that it links show is what the program does."""

import inspect
import re
from pathlib import Path

import one_step
import pytest
from conftest import save_model, tagged_sentences, write_conll
from transformers import pipeline

from rawtrain import loop
from rawtrain.study import differences

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "rawtrain").rglob("*.md"))]


def block_after(heading, language=""):
    """The first code block below a heading of the README."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def test_the_step_in_the_readme_is_that_of_the_loop():
    assert block_after("The step", "python") == inspect.getsource(loop.train_step)


def test_the_numbers_of_one_step_in_the_readme_are_those_of_the_script(capsys):
    one_step.main()
    assert block_after("One step, with numbers") == capsys.readouterr().out


def test_the_losses_of_the_lesson_are_those_of_the_study():
    shown = differences.accumulation()
    for whose, losses in (("Trainer", shown.trainer), ("rawtrain", shown.ours)):
        cells = " | ".join(f"{float(loss):.3f}" for loss in losses.split())
        assert f"| {whose} | {cells} |" in README


def test_the_tests_that_the_readme_names_exist():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    named = re.findall(r"`(test_\w+)`", README)
    assert len(named) >= 6
    assert [name for name in named if f"def {name}(" not in tests] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_a_document_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (document.parent / link).exists()] == []
    files = re.findall(r"`((?:rawtrain|scripts|tests)/[\w/]+\.(?:py|sh|md))`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_readme_can_be_read_in_one_go():
    assert len(README.splitlines()) <= 250


# The book's pages


def pages():
    text = (ROOT / "rawtrain" / "BOOK.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def no_picture_is_drawn():
    """Here they are."""


@pytest.fixture
def run_page(tmp_path, monkeypatch):
    """Runs a page where a model and data of the names in it are; returns the names it leaves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "panx").mkdir()
    for seed, (name, number) in enumerate([("train", 200), ("validation", 40)]):
        words, tags = tagged_sentences(number, seed)
        write_conll(tmp_path / "panx" / f"{name}.conll", words, tags)
    words, _ = tagged_sentences(120, seed=2)
    texts = [" ".join(sentence) for sentence in words]
    (tmp_path / "issues.txt").write_text("\n".join(texts), encoding="utf-8")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}
    sizes |= {"initializer_range": 0.5}  # large enough that a few steps at the page's rate show
    save_model("my_model", "mlm", [*texts, "transformers are awesome!"] * 2, 90, **sizes)

    def run(number):
        names = {}
        exec(compile(pages()[number], f"page {number + 1} of BOOK.md", "exec"), names)
        return names

    return run


def test_there_are_two_pages():
    assert len(pages()) == 2


def test_the_page_of_chapter_4_trains_scores_saves_and_uploads_a_tagger(run_page, inside):
    names = run_page(0)
    evaluations = [entry for entry in names["log_history"] if "eval_f1" in entry]
    assert [entry["epoch"] for entry in evaluations] == [1, 2, 3]
    losses = [entry["eval_loss"] for entry in evaluations]
    assert losses[0] > losses[-1]
    tagger = pipeline("ner", model="my_tagger")
    assert tagger.model.config.id2label == names["index2tag"]
    assert names["index2tag"][6] == "O" and len(names["index2tag"]) == 7
    weights = names["model"].state_dict()
    assert all(tensor.equal(weights[name]) for name, tensor in tagger.model.state_dict().items())
    uploaded = inside.repos["ada/my_tagger"]["files"]
    assert uploaded["model.safetensors"] == Path("my_tagger/model.safetensors").read_bytes()


def test_the_page_of_chapter_9_shows_masks_adapts_and_draws_the_losses(run_page, capsys):
    names = run_page(1)
    table = names["table"]
    chosen = table.loc["Labels"] != -100
    assert chosen.any() and not chosen.all()
    assert (table.loc["Labels"][chosen] == table.loc["Original input_ids"][chosen]).all()
    assert (
        table.loc["Masked input_ids"][~chosen] == table.loc["Original input_ids"][~chosen]
    ).all()
    assert "[MASK]" in table.loc["Masked tokens"].tolist()
    assert "Original tokens" in capsys.readouterr().out
    log = names["df_log"]
    assert len(log["eval_loss"].dropna()) == 17 and len(log["loss"].dropna()) == 16
    assert log["eval_loss"].dropna().iloc[-1] < log["eval_loss"].dropna().iloc[0]
    labels = [line.get_label() for line in names["axes"].get_lines()]
    assert labels == ["Validation", "Train"]
    assert Path("losses.png").read_bytes()[:4] == b"\x89PNG"
