from __future__ import annotations

import json

import numpy as np
import pytest

from restore.errors import DataError, OptionsError
from restore.images import encode_image, read_image, write_image
from restore.leaderboard.scoring import Scorer, score, score_program
from restore.leaderboard.tracks import TRACKS
from restore.metrics import PROTOCOLS, psnr, ssim
from restore.metrics.correlation import plcc, srcc


@pytest.fixture
def server(challenge, tmp_path, noise, readme):
    """A function: a CodaLab input folder with a submission to the challenge; files can be changed or added."""

    def make(changes=None, track="sr_x4"):
        folder = tmp_path / "server"
        (folder / "res").mkdir(parents=True)
        (challenge / "hr").rename(folder / "ref")
        files = {"readme.txt": readme.encode()}
        for number in (901, 902, 903):
            name = f"{number:04}x4.png" if track != "denoise50" else f"{number:04}.png"
            files[name] = encode_image(noise(24, 32, 3), ".png")
        for name, content in {**files, **(changes or {})}.items():
            if content is not None:
                (folder / "res" / name).write_bytes(content)
        return folder

    return make


@pytest.mark.parametrize(
    ("track", "protocol"),
    [("sr_x4", None), ("sr_x4", "ntire_sr25_eval"), ("sr_x4", "div2k2017"), ("esr", None), ("denoise50", None)],
)
def test_psnr_and_ssim_are_those_of_the_metrics_under_the_same_protocol(server, tmp_path, track, protocol):
    folder = server(track=track)
    if protocol == "div2k2017":  # shaves 10 px, so 24x32 is too small for the window of SSIM
        for path in [*folder.glob("res/*.png"), *folder.glob("ref/*.png")]:
            write_image(path, np.tile(read_image(path).pixels, (2, 2, 1)))
    scores = score_program(Scorer(TRACKS[track], protocol), folder, tmp_path / "out")
    arguments = PROTOCOLS[protocol or TRACKS[track].protocol].arguments(TRACKS[track].scale)
    pairs = []
    for number in (901, 902, 903):
        name = f"{number:04}x4.png" if track != "denoise50" else f"{number:04}.png"
        pairs.append([read_image(folder / part).pixels for part in (f"res/{name}", f"ref/{number:04}.png")])
    assert scores.values["psnr"] == pytest.approx(np.mean([psnr(*pair, **arguments) for pair in pairs]), abs=1e-9)
    assert scores.values["ssim"] == pytest.approx(np.mean([ssim(*pair, **arguments) for pair in pairs]), abs=1e-9)


def test_protocols_are_told_apart(noise):
    """Integer luma or exact luma, border 4 or 10, RGB or Y: all by name, all different on the same pair."""
    pair = noise(48, 48, 3), noise(48, 48, 3)
    names = ("ntire_esr", "div2k2017", "ntire_sr25_board", "ntire_sr25_eval")
    values = {name: psnr(*pair, **PROTOCOLS[name].arguments(4)) for name in names}
    assert len({round(value, 9) for value in values.values()}) == 4
    assert PROTOCOLS["ntire_esr"].arguments(4)["border_px"] == 4
    assert PROTOCOLS["div2k2017"].arguments(4)["border_px"] == 10
    rounded = psnr(*pair, border_px=4, luma=True, y_rounding="matlab")
    exact = psnr(*pair, border_px=4, luma=True, y_rounding="none")
    assert rounded == values["ntire_sr25_board"]
    assert 0 < abs(rounded - exact) < 0.05


def test_what_is_written(server, tmp_path):
    scores = score_program(Scorer(TRACKS["sr_x4"]), server(), tmp_path / "out")
    lines = (tmp_path / "out/scores.txt").read_text().splitlines()
    assert lines == [f"{name}: {value:.6f}" for name, value in scores.values.items()]
    assert [line.split(":")[0] for line in lines] == ["psnr", "ssim", "runtime"]
    assert json.loads((tmp_path / "out/scores.json").read_text())["psnr"] == scores.values["psnr"]
    assert set(json.loads((tmp_path / "out/details.json").read_text())["images"]) == set(scores.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0902x4.png": None}, "1 of 4 files are missing: 0902x4.png"),
        ({f"extra{number}.png": b"" for number in range(20)}, "20 files do not belong there"),
        ({"0902x4.png": encode_image(np.zeros((24, 31, 3), np.uint8), ".png")}, "31x24 .* expected: 32x24"),
        ({"0902x4.png": encode_image(np.zeros((24, 32), np.uint8), ".png")}, "8 bit grey; expected: 8 bit RGB"),
        ({"readme.txt": b"\xff\xfe"}, "not a text file in UTF-8"),
        ({"readme.txt": None}, "missing: readme.txt"),
    ],
)
def test_refused_submissions_write_nothing(server, tmp_path, changes, message):
    folder = server(changes)
    with pytest.raises(DataError, match=message):
        score_program(Scorer(TRACKS["sr_x4"]), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_references_larger_by_a_remainder(server, tmp_path, noise):
    folder = server()
    reference = read_image(folder / "ref/0901.png").pixels
    write_image(folder / "ref/0901.png", np.pad(reference, ((0, 3), (0, 2), (0, 0))))
    scores = score(Scorer(TRACKS["sr_x4"]), folder / "res", folder / "ref")
    given = read_image(folder / "res/0901x4.png").pixels
    arguments = PROTOCOLS["ntire_sr25_board"].arguments(4)
    assert scores.images["0901x4.png"]["psnr"] == psnr(given, reference, **arguments)


def test_denoised_images_may_be_cut_to_8_as_by_the_template(server, noise):
    folder = server(track="denoise50")
    for path in folder.glob("ref/*.png"):
        write_image(path, np.pad(read_image(path).pixels, ((0, 5), (0, 1), (0, 0))))
    assert score(Scorer(TRACKS["denoise50"]), folder / "res", folder / "ref").values["psnr"] > 0


def test_names_without_x4_and_of_the_hybrid_set(server, tmp_path):
    folder = server(track="denoise50")
    for path in folder.glob("res/*.png"):
        path.rename(path.with_name(f"{path.stem}noise50.png"))
    score(Scorer(TRACKS["denoise50"]), folder / "res", folder / "ref")
    for path in folder.glob("res/*.png"):
        path.rename(path.with_name(path.name.replace("noise50", "")))
    score(Scorer(TRACKS["esr"]), folder / "res", folder / "ref")


def test_efficient_sr_scores_with_what_the_network_costs(server):
    folder = server()
    cost = {"runtime_ms": 16.69, "flops_g": 16.70, "params_m": 0.276}
    scorer = Scorer(TRACKS["esr"], year=2025, cost=cost)
    values = score(scorer, folder / "res", folder / "ref").values
    assert next(iter(values)) == "score"
    assert values["score"] == pytest.approx(np.exp(2))
    assert values["score_runtime"] == pytest.approx(np.exp(2))
    assert values["eligible"] == 0.0
    with pytest.raises(OptionsError, match="needs runtime_ms, flops_g, params_m"):
        score(Scorer(TRACKS["esr"], year=2025), folder / "res", folder / "ref")


def test_perceptual_score_asks_the_six_measures(server, monkeypatch):
    values = {"lpips": 0.2, "dists": 0.1, "clipiqa": 0.7, "maniqa": 0.5, "musiq": 70.0, "niqe": 4.0}
    measures = {label: (lambda _restored, _reference, value=value: value) for label, value in values.items()}
    monkeypatch.setattr("restore.leaderboard.scoring._perceptual_metrics", lambda: measures)
    folder = server()
    found = score(Scorer(TRACKS["sr_x4"], perceptual=True), folder / "res", folder / "ref").values
    assert next(iter(found)) == "perceptual"
    assert found["perceptual"] == pytest.approx(0.8 + 0.9 + 0.7 + 0.5 + 0.7 + 0.6)


@pytest.fixture
def opinions(tmp_path, readme):
    """A function: an input folder with these lines of scores against ten opinions."""
    random = np.random.default_rng(1)
    names = [f"A0001_{number:02}_00.bmp" for number in range(10)]
    labels = random.normal(1450, 120, 10)

    def make(scores):
        folder = tmp_path / "iqa"
        for part in ("res", "ref"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "ref/A0001.txt").write_text("".join(f"{n},{v}\n" for n, v in zip(names, labels, strict=True)))
        lines = [f"{name},{value}" for name, value in zip(names, scores, strict=False)]
        (folder / "res/output.txt").write_text("\n".join(reversed(lines)))
        (folder / "res/readme.txt").write_text(readme)
        return folder

    return make, labels


def test_opinions_are_scored_by_srcc_and_plcc(opinions):
    make, labels = opinions
    noisy = labels + np.random.default_rng(2).normal(0, 60, 10)
    for sign in (1, -1):
        folder = make(sign * noisy)
        values = score(Scorer(TRACKS["perceptual_iqa"]), folder / "res", folder / "ref").values
        assert values["main"] == pytest.approx(srcc(noisy, labels) + plcc(noisy, labels), abs=1e-9)
        assert np.sign(values["srcc"]) == sign


def test_lines_that_are_missing_or_no_numbers(opinions):
    make, labels = opinions
    folder = make(labels[:-1])
    with pytest.raises(DataError, match=r"A0001_09_00.bmp has no line"):
        score(Scorer(TRACKS["perceptual_iqa"]), folder / "res", folder / "ref")
    folder = make([*labels[:-1], "nan"])
    with pytest.raises(DataError, match=r"line 1: 'A0001_09_00.bmp,nan'; expected NAME,SCORE"):
        score(Scorer(TRACKS["perceptual_iqa"]), folder / "res", folder / "ref")
    for absurd in ("inf", "-inf", "1e999", "1e300", "-1e10"):
        folder = make([*labels[:-1], absurd])
        with pytest.raises(DataError, match=r"line 1: "):
            score(Scorer(TRACKS["perceptual_iqa"]), folder / "res", folder / "ref")
