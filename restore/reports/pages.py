"""Pages from templates: each is one file that needs no network and no other file.

A room keeps its own templates in a folder `page`. They extend `page.html` of this package (or `results.html`, for runs
that can be stopped), which brings the style, the tables that can be sorted and the charts that can be asked.
"""

from __future__ import annotations

from typing import Any

from restore import __version__
from restore.reports.format import arrow, breakable, figure, heading, memory, milliseconds, signed, titled, verdict

__all__ = ["fill_page"]

_FILTERS = (arrow, breakable, figure, heading, memory, milliseconds, signed, titled, verdict)


def fill_page(package: str, template: str, *, title: str, **values: Any) -> str:
    """The page that a template makes of `values`, as text; figures are written as on the terminal.

    Args:
        package: dotted name of the package whose folder `page` holds the template.
        template: name of the file.
        title: heading of the page.
        values: what the template shows, by name. `facts`, if given, stand below the title.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader

    loader = ChoiceLoader([PackageLoader(package, "page"), PackageLoader("restore.reports", "page")])
    environment = Environment(loader=loader, autoescape=True)
    environment.filters |= {function.__name__: function for function in _FILTERS}
    return environment.get_template(template).render(version=__version__, title=title, **values)
