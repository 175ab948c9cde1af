"""Pages and parts of pages from templates: one stylesheet, one script, no network.

`templates/page.html.j2` is the frame of a page, `macros.html.j2` holds what stands in one: tables,
pictures, texts with tinted tokens. Everything that is filled in is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from trimtab.evaluation.text import is_figure, markdown_field, number
from trimtab.types.html import tinted_html

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("trimtab.evaluation"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = _file("page.js").strip()
    # The page's policy lets this script run and no other, whatever a text holds.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.tests["figure"] = is_figure
    environment.filters["field"] = markdown_field
    environment.globals |= {
        "number": number,
        "tinted": lambda tokens: Markup(tinted_html(tokens).strip()),
        "style": _file("style.css").strip(),
        "script": script,
        "script_hash": f"sha256-{digest}",
    }
    return environment


def _file(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def render(template: str, **context: Any) -> str:
    """A template of `templates/`, filled in."""
    return _environment().get_template(template).render(**context)


def fragment(macro: str, *arguments: Any) -> str:
    """What a macro of `macros.html.j2` makes: a part of a page, for a notebook."""
    module = _environment().get_template("macros.html.j2").module
    return str(getattr(module, macro)(*arguments))
