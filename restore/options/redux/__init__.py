"""Option files of traiNNer-redux (the-database/traiNNer-redux, 2026), rewritten into ours before they are checked.

Its schema grew out of BasicSR's: networks and losses have lower-case names that stand for arguments, losses are a
list, patches are counted in pixels of the input, and what a file leaves out has other values. `keys` says what becomes
of each key, `names` what components are called, `networks` which arguments a network's name stands for; `translation`
applies them. What cannot be had is a mistake that says what the key did there and what to write; what makes no
difference to results is logged. Keys of ours that stand in such a file, from `extends` or `--set`, go first.
"""

from restore.options.redux.translation import translate

__all__ = ["translate"]
