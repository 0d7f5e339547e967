from __future__ import annotations

import pytest

from restore.errors import DataError
from restore.leaderboard.readme import Readme

CANONICAL = """runtime per image [s] : 10.43
CPU[1] / GPU[0] : 1
Extra Data [1] / No Extra Data [0] : 1
Other description : Solution based on A+ of Timofte et al. ACCV 2014.
More lines may follow.
"""
VARIANTS = {
    "canonical": CANONICAL,
    "spaced": CANONICAL.replace("CPU[1] / GPU[0] :", "CPU [1] / GPU [0]:"),
    "frame": CANONICAL.replace("per image", "per frame"),
    "video": CANONICAL.replace("runtime per image [s] :", "Runtime per video [s]:"),
    "no space": CANONICAL.replace("Other description :", "Other description:"),
    "windows": "\ufeff" + CANONICAL.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_all_spellings_in_use(text):
    found = Readme.parse(text)
    assert (found.runtime_s, found.on_cpu, found.extra_data) == (10.43, True, True)
    assert found.description.startswith("Solution based on A+")
    assert found.description.endswith("More lines may follow.")


def test_what_is_written_is_canonical_and_comes_back():
    readme = Readme(10.43, True, False, "one\ntwo")
    assert str(readme).splitlines()[:3] == [
        "runtime per image [s] : 10.43",
        "CPU[1] / GPU[0] : 1",
        "Extra Data [1] / No Extra Data [0] : 0",
    ]
    assert Readme.parse(str(readme)) == readme
    assert Readme.parse(str(Readme(0.00123456, False, False, ""))).runtime_s == 0.001235


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("10.43", "fast"), "the runtime is 'fast'"),
        (("10.43", "-1"), "the runtime is '-1'"),
        (("GPU[0] : 1", "GPU[0] : 2"), "CPU / GPU is '2'"),
        (("Extra Data [1]", "More Data [1]"), "line 3 should be 'Extra Data"),
        ((CANONICAL, ""), "line 1 should be .*line 2 should be .*line 4 should be"),
        (("runtime per image [s] : 10.43\n", ""), "line 1 should be 'runtime per image"),
    ],
)
def test_what_is_wrong_is_said(change, message):
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        Readme.parse(CANONICAL.replace(*change))
