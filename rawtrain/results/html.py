"""report.html: one file about a run, for any browser, without scripts and without a network.

The page has settings, data and curves, and a section for each split that was evaluated, which
ner_page.py or mlm_page.py makes. A section of another split that is there already is kept, so a
later --do_predict adds to what --do_eval wrote.

The templates escape all text of the data, of the settings and of the labels.
"""

import base64
import dataclasses
import datetime
import io
import re
from pathlib import Path

import jinja2
import torch
import transformers
from markupsafe import Markup

from rawtrain.config import TrainingSettings, public_values
from rawtrain.results.files import read_history
from rawtrain.results.plots import loss_figure, panels_of
from rawtrain.run.durable import write_text

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("rawtrain.results"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def write_report(
    settings: TrainingSettings, splits, figures: dict[str, dict], split: str, section: Markup
) -> None:
    """Write report.html with this section for `split`, beside those of other splits.

    splits: the data by split, each with a `source`. figures: as `terminal.table` takes them.
    section: HTML that `render` made.
    """
    file = Path(settings.output_dir) / "report.html"
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    rows = [(name, value, defaults[name]) for name, value in public_values(settings).items()]
    sections = {**_sections_in(file), split: section}
    page = render(
        "page.html.jinja",
        settings=settings,
        changed=[row for row in rows if row[1] != row[2]],
        unchanged=[row for row in rows if row[1] == row[2]],
        sources={name: data.source for name, data in splits.items()},
        figures=figures,
        figure_names=list(dict.fromkeys(name for column in figures.values() for name in column)),
        curves=_picture(read_history(file.parent)),
        sections={name: sections[name] for name in ("validation", "test") if name in sections},
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
    )
    write_text(file, page)


def percent(share: float) -> str:
    """A share for a narrow cell.

    >>> percent(0.934), percent(0.0004), percent(0.9996), percent(1)
    ('93 %', '<1 %', '>99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def render(template: str, **values) -> Markup:
    """The HTML of one of the templates. A value is escaped unless it is HTML that this returned."""
    return Markup(TEMPLATES.get_template(template).render(values))


def _sections_in(page):
    """The sections of an earlier page. Text of the data cannot be taken for one: it is escaped."""
    html = page.read_text(encoding="utf-8") if page.exists() else ""
    found = re.findall(r'<section id="(\w+)">(.*?)</section><!-- \1 -->', html, re.DOTALL)
    return {name: Markup(content) for name, content in found}


def _picture(history):
    """The curves of a training as an SVG in a data URI; nothing if there are none."""
    if not panels_of(history):
        return None
    picture = io.BytesIO()
    figure = loss_figure(history)  # without a background, for a page of any colour
    figure.savefig(picture, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.getvalue()).decode()}"
