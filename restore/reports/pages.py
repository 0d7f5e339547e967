"""Pages from the templates in the folder `page`: each is one file that needs no network and no other file."""

from __future__ import annotations

from typing import Any

from restore import __version__
from restore.reports.format import figure, heading, memory, milliseconds, signed, verdict

__all__ = ["fill_page"]

_FILTERS = (figure, heading, memory, milliseconds, signed, verdict)


def fill_page(template: str, **values: Any) -> str:
    """The page that a template makes of `values`, as text; figures are written as on the terminal."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("restore.reports", "page"), autoescape=True)
    environment.filters |= {function.__name__: function for function in _FILTERS}
    return environment.get_template(template).render(version=__version__, **values)
