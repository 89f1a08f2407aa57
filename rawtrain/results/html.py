"""report.html: one file about a run, for any browser, without scripts and without a network.

The page has settings, data and curves, and a section for each split that was evaluated, which
ner_page.py or mlm_page.py makes; a later --do_predict adds to what --do_eval wrote. The templates
escape all text of the data, of the settings and of the labels.
"""

import base64
import dataclasses
import datetime
import re
from pathlib import Path

import jinja2
import torch
import transformers
from markupsafe import Markup

from rawtrain.config import TrainingSettings, public_values
from rawtrain.results.files import read_facts, read_history
from rawtrain.results.plots import loss_picture
from rawtrain.run.durable import write_text

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("rawtrain.results"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
NO_DATE = {"Date": None}  # in the picture


def write_report(settings: TrainingSettings, split: str, section: Markup) -> None:
    """Write report.html with this section for `split`, HTML that `render` made, beside others."""
    file = Path(settings.output_dir) / "report.html"
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    rows = [(name, value, defaults[name]) for name, value in public_values(settings).items()]
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    # text of the data cannot be taken for a section: it is escaped
    found = re.findall(r'<section id="(\w+)">(.*?)</section><!-- \1 -->', before, re.DOTALL)
    sections = {name: Markup(content) for name, content in found} | {split: section}
    svg = loss_picture(read_history(file.parent), format="svg", transparent=True, metadata=NO_DATE)
    page = render(
        "page.html.jinja",
        settings=settings,
        changed=[row for row in rows if row[1] != row[2]],
        unchanged=[row for row in rows if row[1] == row[2]],
        data=read_facts(file.parent)["data"],
        curves=svg and f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}",
        sections={name: sections[name] for name in ("validation", "test") if name in sections},
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
    )
    write_text(file, page)


def render(template: str, **values) -> Markup:
    """The HTML of one of the templates. A value is escaped unless it is HTML that this returned."""
    return Markup(TEMPLATES.get_template(template).render(values))
