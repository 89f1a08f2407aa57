"""report.html: one file about a run, for any browser, without scripts and without a network.

The page has settings, data and curves, and a section for each split that was evaluated. The jobs
make the sections (ner_page.py, mlm_page.py); one of another split that is there already is kept,
so that a later --do_predict adds to what --do_eval wrote.

All text of the data, of the settings and of the labels is escaped by the templates.
"""

import base64
import dataclasses
import datetime
import io
import re
from functools import cache
from pathlib import Path

import jinja2
import torch
import transformers
from markupsafe import Markup

from rawtrain.config import public_values
from rawtrain.results.files import read_history
from rawtrain.results.plots import panel_figure, panels_of
from rawtrain.run.durable import write_text

REPORT = "report.html"
SPLITS = ("validation", "test")


def write_report(settings, splits, figures, split, section) -> None:
    """Write report.html with this section for `split`, beside those of other splits.

    splits: the data by split, each with a `source`. figures: what the data is in numbers, as
    `terminal.table` takes them. section: HTML that `render` made.
    """
    output_dir = Path(settings.output_dir)
    sections = {**_sections_in(output_dir / REPORT), split: section}
    page = render(
        "page.html.jinja",
        settings=settings,
        changed=_changed(settings),
        unchanged=_unchanged(settings),
        sources={name: data.source for name, data in splits.items()},
        figures=figures,
        figure_names=list(dict.fromkeys(name for column in figures.values() for name in column)),
        curves=_curves(read_history(output_dir)),
        sections={name: sections[name] for name in SPLITS if name in sections},
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
    )
    write_text(output_dir / REPORT, page)


def render(template: str, **values) -> Markup:
    """The HTML of one of the templates, every value in it escaped that is not HTML already."""
    return Markup(_templates().get_template(template).render(values))


@cache
def _templates():
    return jinja2.Environment(
        loader=jinja2.PackageLoader("rawtrain.results"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _sections_in(page: Path) -> dict[str, Markup]:
    """The sections of an earlier page. Text of the data cannot be taken for one: it is escaped."""
    html = page.read_text(encoding="utf-8") if page.exists() else ""
    found = re.findall(r'<section id="(\w+)">(.*?)</section><!-- \1 -->', html, re.DOTALL)
    return {name: Markup(content) for name, content in found}


def _changed(settings):
    """(name, value, default) of the settings that are not at their default."""
    fields = [(field.name, getattr(settings, field.name), field.default) for field in _of(settings)]
    return [field for field in fields if field[1] != field[2]]


def _unchanged(settings):
    values = [(field.name, getattr(settings, field.name), field.default) for field in _of(settings)]
    return [(name, value) for name, value, default in values if value == default]


def _of(settings):
    public = public_values(settings)
    return [field for field in dataclasses.fields(settings) if field.name in public]


def _curves(history):
    """(title, last values, picture as a data URI) of each curve of a training, if there was one."""
    if not any("loss" in entry or "eval_loss" in entry for entry in history):
        return []
    return [
        (panel.title, panel.last_values, _as_data_uri(panel_figure(panel)))
        for panel in panels_of(history)
    ]


def _as_data_uri(figure):
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.getvalue()).decode()}"
