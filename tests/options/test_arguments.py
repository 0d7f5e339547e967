"""The command line that training and testing share."""

from __future__ import annotations

import argparse

import pytest

from restore.options import Override, add_option_arguments, load_from_arguments


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_option_arguments(parser)
    return parser.parse_args(argv)


def test_overrides_keep_their_order_across_flags():
    arguments = parsed("-opt", "a.yml", "--force_yml", "a:b=1", "c=2", "--set", "a.b=3", "--force_yml", "d=4")
    assert [str(override) for override in arguments.overrides] == [
        "--force_yml a:b=1",
        "--force_yml c=2",
        "--set a.b=3",
        "--force_yml d=4",
    ]
    assert parsed("-opt", "a.yml").overrides == []


@pytest.mark.parametrize("flag", ["--local_rank=3", "--local-rank=3"])
def test_both_spellings_of_local_rank(flag):
    assert parsed("-opt", "a.yml", flag).local_rank == 3


def test_loading(training, fakes):
    arguments = parsed(
        "-opt", str(training), "--launcher", "pytorch", "--auto_resume", "--debug", "--set", "train.total_iter=7"
    )
    options = load_from_arguments(arguments, is_train=True)
    assert options.is_train
    assert options.auto_resume
    assert (options.launcher, options.name, options.train.total_iter) == ("pytorch", "debug_small", 7)
    assert not load_from_arguments(parsed("-opt", str(training)), is_train=False).is_train


def test_the_option_file_is_required(capsys):
    with pytest.raises(SystemExit):
        parsed("--debug")
    assert "-opt" in capsys.readouterr().err


def test_override_is_readable():
    assert str(Override("a.b=1")) == "--set a.b=1"
