"""Option files: BasicSR's schema, typed and extended.

    options = load("options/swinir_x4.yml", ["runtime.tile=256", "val.save_img=false"])
    options.scale, options.network_g, options.paths.results_root
    for dataset in options.phases("test"): ...

A file is YAML. It may begin with `extends: other.yml`, and `--set a.b=value` changes what it says (see
`restore.options.source` for how they combine). Everything is checked at once: unknown keys, wrong types, components and
their arguments; each mistake is reported with its path, file and line.
"""

from restore.options.arguments import add_option_arguments, add_override_arguments, load_from_arguments
from restore.options.loading import load
from restore.options.schema import Options
from restore.options.source import Override

__all__ = [
    "Options",
    "Override",
    "add_option_arguments",
    "add_override_arguments",
    "load",
    "load_from_arguments",
]
