"""Which name was meant: by the words in it, not by its letters alone.

`swin_v2_t`, `SwinV2-Tiny` and `swinv2_tny` mean `swinv2_tiny`, though `swin_s3_tiny_224` is spelled more alike than
some of them. The first word, the family, counts most; letters stand for sizes as in papers (ViT-B/16).
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable

__all__ = ["meant"]

_ALIASES = {
    "ti": "tiny",
    "t": "tiny",
    "n": "nano",
    "s": "small",
    "m": "medium",
    "b": "base",
    "l": "large",
    "h": "huge",
    "g": "giant",
    "xl": "xlarge",
    "ii": "2",
    "iii": "3",
}
_CALLED = {"coc": "context_cluster", "magneto": "subln_vit", "ptnt": "pyramid_tnt", "pvig": "pyramid_vig"}
"""What official code or a paper calls a family."""
_LIKE = 0.7  # of the letters, for words that are mistyped
_ENOUGH = 0.6  # of the words asked for


def meant(name: str, names: Iterable[str]) -> str:
    """A sentence that names what was meant, or an empty text.

    Args:
        name: what was asked for.
        names: what there is.
    """
    names = list(names)
    if len(name) > 3 and (longer := [each for each in names if each.startswith(name)]):  # resnet5 lacks its end
        return f" Did you mean '{min(longer, key=lambda each: (len(each), each))}'?"
    wanted = _words(name)
    if not wanted:
        return ""
    best = max(names, key=lambda each: (_likeness(wanted, _words(each)), -len(each)), default="")
    return f" Did you mean '{best}'?" if best and _likeness(wanted, _words(best)) >= _ENOUGH else ""


@functools.lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    """The words of a name: `ViT-B/16` has vit, base and 16; `swin_v2` and `swinv2` have the same one."""
    text = re.sub(r"(?<=[a-z]{2}[a-uw-z])(?=\d)", "_", name.lower())  # resnet50, but not swinv2
    words: list[str] = []
    first, *others = filter(None, re.split(r"[^a-z0-9]+", text)) if re.search("[a-z0-9]", text) else [""]
    for part in filter(None, [*_CALLED.get(first, first).split("_"), *others]):
        if words and re.fullmatch(r"v\d", part):
            words[-1] += part
        else:
            words.append(_ALIASES.get(part, part) if words else part)
    return tuple(words)


def _likeness(wanted: tuple[str, ...], offered: tuple[str, ...]) -> float:
    """How much of what is wanted is offered, in [0, 1]; the family may be written in one word or in two."""
    joined = ("".join(wanted[:2]), *wanted[2:])
    return max(_offered(wanted, offered), 0.95 * _offered(joined, offered) if len(wanted) > 1 else 0.0)


def _offered(wanted: tuple[str, ...], offered: tuple[str, ...]) -> float:
    """How much of the words wanted is offered, in [0, 1], a little less for each word beyond them."""
    others = [0.0, *(0.8 * _alike(wanted[0], word) for word in offered[1:])]
    family = max(_alike(wanted[0], offered[0]), 0.95 * _alike(wanted[0], "".join(offered[:2])), *others)
    if not family:
        return 0.0
    rest = [max((_alike(word, other) for other in offered[1:]), default=0.0) for word in wanted[1:]]
    beyond = max(len(offered) - len(wanted), 0)
    return (2 * family + sum(rest)) / (2 + len(rest)) - 0.02 * beyond


@functools.lru_cache(maxsize=65536)
def _alike(word: str, other: str) -> float:
    if word == other:
        return 1.0
    ratio = difflib.SequenceMatcher(None, word, other).ratio()
    if min(len(word), len(other)) >= 3 and (other.startswith(word) or word.startswith(other)):
        return max(0.8, ratio)
    if word.isdigit() and other.strip("abcdefghijklmnopqrstuvwxyz") == word:
        return 0.8  # s18 for 18
    if any(character.isdigit() for character in word) != any(character.isdigit() for character in other):
        return 0.0
    return ratio if ratio >= _LIKE and word[0] == other[0] else 0.0
