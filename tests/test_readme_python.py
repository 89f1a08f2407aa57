"""The pages "from Python" of README.md run as they are printed."""

import re
from pathlib import Path

import pytest
from conftest import tagged_sentences, write_conll
from transformers import BertConfig, BertForMaskedLM, pipeline

from rawtrain.data.small_bert import train_small_tokenizer

README = Path(__file__).parents[1] / "README.md"


def pages():
    section = README.read_text(encoding="utf-8").split("## The book's pages, from Python\n")[1]
    return re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)


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
    tokenizer = train_small_tokenizer([*texts, "transformers are awesome!"] * 2, vocab_size=90)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,  # large enough that a few steps at the page's rate show
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "my_model")
    tokenizer.save_pretrained(tmp_path / "my_model")

    def run(number):
        names = {}
        exec(compile(pages()[number], f"page {number + 1} of README.md", "exec"), names)
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
