"""Runs every row of a table of small inputs on which an earlier version failed, and prints which behave now.

    python scripts/cases.py                        # the folder cases/ of what RESTORE_TEST_DATA names
    python scripts/cases.py FOLDER --only hdr.tif  # rows whose first column holds this text

The rows are those of README.md in the folder: files, the command, what happened, what is right. What is right is
checked here in code, row by row, by commands as users run them: each in a process of its own with a limit of time, its
exit code, output, files, and peak of memory looked at. A row that nothing here checks is printed as such. Exit code 1
if a row does not behave.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from command_bench import Bench, says
from PIL import Image

Check = Callable[["Bench"], Iterator[tuple[bool, str]]]
CHECKS: dict[str, Check] = {}


def row(*keys: str) -> Callable[[Check], Check]:
    """Decorator: what checks the row whose first column holds one of these texts."""

    def register(check: Check) -> Check:
        CHECKS.update(dict.fromkeys(keys, check))
        return check

    return register


@row("33_nan.pth")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run(bench.cases / "weights/33_nan.pth")
    yield found.refuses(r"finite.*\w+\.\w+"), str(found)


@row("17_numpy.pth", "08_generator.pth")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    names = ["17_numpy", "18_namespace", "08_generator", "30_nested"]
    for name in names:
        found = bench.run(bench.cases / f"weights/{name}.pth")
        is_warned = name != "18_namespace" or says(found.said, "argparse.Namespace.*left out")
        yield found.is_clean and found.code == 0 and is_warned, f"{name}: {found}"


@row("41_safetensors_as_pth")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run(bench.cases / "weights/41_safetensors_as_pth.safetensors")
    yield found.is_clean and found.code == 0, str(found)
    for name, words in (("24_html", "web page"), ("26_trunc", "cut off"), ("35_empty", "empty")):
        found = bench.run(bench.cases / f"weights/{name}.pth")
        yield found.refuses(words), f"{name}: {found}"


@row("r255.tif")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    for name in ("r255", "r65535", "hdr", "neg"):
        found = bench.run(bench.identity, bench.images(f"{name}.tif"))
        yield (
            found.is_clean and says(found.said, r"-?\d[\d.e+]* (to|\.\.|,|and) ?-?\d|\[-?\d.*\d\]"),
            f"{name}: {found}",
        )
    scaled = bench.run(bench.identity, bench.images("r255.tif"), "--input-range", "0,255")
    yield scaled.is_clean and scaled.code == 0, f"--input-range: {scaled}"


@row("nan.tif")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run(bench.identity, bench.images("nan.tif"))
    yield found.is_clean and found.code != 0 and says(found.said, "nan|finite"), str(found)


@row("grad16.png")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run("swinir_light_x4", bench.images("grad16.png"))
    import cv2

    result = cv2.imread(str(bench.work / "out/grad16.png"), cv2.IMREAD_UNCHANGED)
    values = len(np.unique(result)) if result is not None else 0
    yield found.is_clean and (values > 2000 or says(found.said, "bf16.*16 bit")), f"{values} values; {found}"


@row("tall8200.png")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    for name, ext in (("tall8200", "webp"), ("tall33000", "jpg")):
        found = bench.run("swinir_light_x2", bench.images(f"{name}.png"), "--ext", ext)
        yield found.refuses("is not restored, as", code=(1, 2)), f"{name}: {found}"
    options = bench.restore("run", "--help").said
    yield "--depth" in options and "--alpha" in options, "--depth and --alpha"


@row("a.png b.jpg")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    for source in ("a.png", "b.jpg", "c.tif", "d.bmp"):
        for ext in ("png", "jpg", "tif", "bmp"):
            output = f"{source}_{ext}"
            found = bench.run(bench.cases / "weights/random_x2.pth", bench.images(source), "--ext", ext, output=output)
            result = next((bench.work / output).glob(f"*.{ext}"), None)
            dpi = Image.open(result).info.get("dpi", (0, 0))[0] if result else 0
            yield found.is_clean and abs(float(dpi) - 300) < 1, f"{source} to {ext}: {float(dpi):.1f} dpi; {found}"


@row("still1.gif")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run(bench.identity, bench.images("still1.gif"))
    names = sorted(path.name for path in (bench.work / "out").rglob("*.*"))
    yield found.is_clean and names == ["still1.png"], f"{names}; {found}"


@row("gama_p3.png")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run(bench.identity, bench.images("gama_p3.png"))
    result = bench.work / "out/gama_p3.png"
    data = result.read_bytes() if result.is_file() else b""
    kept = b"gAMA" in data and b"cHRM" in data
    yield found.is_clean and (kept or says(found.said, "gAMA|gamma")), f"kept: {kept}; {found}"


@row("noEOI.jpg")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    for name in ("noEOI.jpg", "badcrc_anc.png"):
        found = bench.run(bench.identity, bench.images(name))
        yield found.is_clean and found.code == 0 and name in found.said, f"{name}: {found}"


@row("trunc.tif")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run(bench.identity, bench.images("trunc.tif"))
    yield found.is_clean and found.code in (1, 2) and says(found.said, r"trunc\.tif.*(truncated|cut off)"), str(found)


@row("chap.mkv")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.restore("run", "-m", bench.identity, "-i", bench.cases / "video/chap.mkv", "-o", "o.mkv")
    chapter = b"\x10\x43\xa7\x70"  # the element of a Matroska file that holds them
    kept = (bench.work / "o.mkv").is_file() and chapter in (bench.work / "o.mkv").read_bytes()
    yield found.is_clean and (kept or says(found.said, "chapter")), f"kept: {kept}; {found}"


@row("alpha.webm")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.restore("run", "-m", bench.identity, "-i", bench.cases / "video/alpha.webm", "-o", "o.webm")
    kept = (bench.work / "o.webm").is_file() and b"\x53\xc0\x81\x01" in (
        bench.work / "o.webm"
    ).read_bytes()  # AlphaMode
    yield found.is_clean and (kept or says(found.said, "transparen|alpha")), f"kept: {kept}; {found}"


@row("quality/koniq")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    folder = Path(shutil.copytree(bench.cases / "quality/koniq", bench.work / "koniq"))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    found = bench.restore("data", "check", "-opt", "t.yml", cwd=folder)
    yield found.is_clean and found.code in (0, 1), f"data check: {found}"
    lists = [f"datasets.{each}.{key}" for each in ("train", "val") for key in ("listing=list100.txt", "part=all")]
    found = bench.restore("train", "-opt", "t.yml", "--set", *lists, cwd=folder)
    yield found.is_clean and says(found.said, r"0 ?(\.\.|to|-) ?100"), f"a list of 0 to 100: {found}"


@row("float.mat")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    given = bench.cases / "options/float.mat"
    found = bench.restore("submit", "sidd", "-m", "swinir_light_color_dn", "-i", given, "-o", "o")
    yield found.refuses("uint8") and not (bench.work / "o").exists(), str(found)


@row("wide.png")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    names = ("wide.png", "samples_per_pixel_65535.tif")
    folder = bench.folder(*(f"hostile/{name}" for name in names))
    yield from _over_a_folder(bench, folder, names)


@row("b_unfinished.tif")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    names = ("b_unfinished.tif", "d_truncated_libtiff.tif")
    folder = bench.folder(*(f"hostile/{name}" for name in names))
    options = _options_of_training(bench, folder)
    for command in (("data", "check", "-opt"), ("train", "-opt")):
        found = bench.restore(*command, options)
        yield found.is_clean and found.code != 0 and any(name in found.said for name in names), f"{command[0]}: {found}"


@row("missing_rows.png")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    for name in ("missing_rows.png", "uint8_strips.tif", "uint16_deflate.tif", "tiles_missing.tif"):
        found = bench.run(bench.identity, bench.cases / "hostile" / name)
        yield found.refuses("truncated|cut off|missing", code=(1, 2)), f"{name}: {found}"


@row("deflate_bomb.tif")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    usual = bench.run(bench.identity).peak_mib
    found = bench.run(bench.identity, bench.cases / "hostile/deflate_bomb.tif")
    yield found.refuses(code=(1, 2)) and found.peak_mib < usual + 300, f"{found} ({usual:.0f} MiB for a usual image)"


@row("h_*.pth")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    for path in [*sorted((bench.cases / "hostile").glob("h_*.pth")), bench.cases / "hostile/z0185.pth"]:
        found = bench.run(path)
        yield found.refuses(path.name), f"{path.name}: {found}"
    path = bench.cases / "hostile/h_meta_q.safetensors"  # its weights are whole, its header does not say of what model
    found = bench.run(path)
    yield found.is_clean and found.code in (0, 2), f"{path.name}: {found}"
    judged = bench.restore(
        "score", "-r", bench.images("a.png"), "--metrics", "niqe", "-o", "o", code=_LOAD_QUALITY % str(path)
    )
    yield judged.refuses("damaged"), f"{path.name} as a quality model: {judged}"


@row("10_million_blocks")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.run(bench.cases / "hostile/network_block_of_10_million_blocks.pth")
    yield found.refuses() and found.seconds < 30, str(found)


@row("names_a_hub_model")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    found = bench.restore(
        *("run", "-m", bench.cases / "hostile/network_block_names_a_hub_model.pth"),
        *("-i", bench.images("a.png"), "-o", "out"),
        code=_WATCHED,
    )
    yield found.refuses() and not says(found.said, "ASKED THE NETWORK"), str(found)


@row("sidd_bus_error.mat")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    from scipy.io import savemat

    for name in ("res", "ref"):
        (bench.work / "s" / name).mkdir(parents=True)
    shutil.copy(bench.cases / "hostile/sidd_bus_error.mat", bench.work / "s/res/SubmitSrgb.mat")
    savemat(bench.work / "s/ref/clean.mat", {"ValidationGtBlocksSrgb": np.zeros((2, 1, 16, 16, 3), np.uint8)})
    found = bench.restore("leaderboard", "score", "sidd", "s", "o")
    yield found.refuses(), str(found)


@row("alias_bomb.yml")
def _(bench: Bench) -> Iterator[tuple[bool, str]]:
    for name in ("alias_bomb.yml", "deeplist1000.yml"):
        found = bench.restore("options", "check", bench.cases / "hostile" / name)
        is_short = len(found.said.splitlines()) <= 2 and name in found.said
        yield found.is_clean and found.code == 2 and is_short and found.seconds < 60, f"{name}: {found}"


_LOAD_QUALITY = """
from restore import cli
from restore.quality import load_quality
sys.exit(cli.guarded(lambda: load_quality(%r) and 0))
"""
_WATCHED = """
import socket
def refuse(*arguments, **named):
    sys.stderr.write("ASKED THE NETWORK\\n")
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
"""


def _over_a_folder(bench: Bench, folder: Path, bad: tuple[str, ...]) -> Iterator[tuple[bool, str]]:
    """Every command over the folder names the bad files, does the good one, and ends with 1."""
    good, options = "zgood", _options_of_training(bench, folder)
    commands: dict[str, tuple[object, ...]] = {
        "run": ("run", "-m", bench.identity, "-i", folder, "-o", "o_run"),
        "score": ("score", "-r", folder, "--metrics", "niqe", "-o", "o_score"),
        "degrade": ("degrade", "-i", folder, "-o", "o_degrade", "--recipe", "bicubic"),
        "data subimages": ("data", "subimages", "-i", folder, "-o", "o_sub", "--size", 48, "--step", 48),
        "data lmdb": ("data", "lmdb", "-i", folder, "-o", "o.lmdb"),
        "data check": ("data", "check", "-opt", options),
    }
    for name, arguments in commands.items():
        found = bench.restore(*arguments)
        output = bench.work / str(arguments[arguments.index("-o") + 1]) if "-o" in arguments else None
        texts = (
            [path.read_text("utf-8", "replace") for path in output.rglob("*.*") if path.suffix in (".txt", ".csv")]
            if output
            else []
        )
        made = (
            output is None
            or any(good in path.name for path in output.rglob("*"))
            or any(good in text for text in texts)
        )
        named = all(each in found.said for each in bad)
        yield found.is_clean and found.code == 1 and named and made, f"{name}: {found}"


def _options_of_training(bench: Bench, folder: Path) -> Path:
    block = f"{{name: %s, type: PairedImageDataset, dataroot_gt: {folder}, dataroot_lq: {folder}%s}}"
    more = ", gt_size: 16, batch_size_per_gpu: 1, num_worker_per_gpu: 0"
    path = bench.work / "training.yml"
    path.write_text(
        "name: case\nscale: 1\nnum_gpu: 0\nmanual_seed: 0\ndatasets:\n"
        f"  train: {block % ('a', more)}\n"
        "network_g: {type: SwinIR, upscale: 1, embed_dim: 8, depths: [1], num_heads: [2], window_size: 4}\n"
        "train: {total_iter: 9, optim_g: {type: Adam, lr: 1e-3}, pixel_opt: {type: L1Loss}}\n"
    )
    return path


def rows_of(readme: Path) -> list[tuple[str, str]]:
    """The first and the last column of every row of the table."""
    found = []
    for line in readme.read_text("utf-8").splitlines():
        columns = [column.strip() for column in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(columns) == 4 and columns[0] != "file" and not columns[0].startswith("---"):
            found.append((columns[0], columns[-1]))
    return found


def main() -> int:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = os.environ.get("RESTORE_TEST_DATA")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(usual) / "cases" if usual else None)
    parser.add_argument("--only", default="", help="rows whose first column holds this text")
    parser.add_argument("--all", action="store_true", help="print every outcome, also of rows that behave")
    arguments = parser.parse_args()
    if arguments.folder is None or not (arguments.folder / "README.md").is_file():
        parser.error("name the folder of cases, one with a README.md, or set RESTORE_TEST_DATA")
    failed, rows = 0, [each for each in rows_of(arguments.folder / "README.md") if arguments.only in each[0]]
    for files, right in rows:
        check = next((check for key, check in CHECKS.items() if key in files), None)
        if check is None:
            outcomes = [(False, "nothing here checks this row")]
        else:
            with tempfile.TemporaryDirectory() as work:
                try:
                    outcomes = list(check(Bench(arguments.folder.resolve(), Path(work))))
                except Exception:
                    outcomes = [(False, f"the check itself failed: {traceback.format_exc().splitlines()[-1]}")]
        behaves = all(is_right for is_right, _ in outcomes)
        failed += not behaves
        print(f"{'yes' if behaves else 'NO ':<4} {files[:64]:<64} {right[:70]}", flush=True)
        for is_right, words in outcomes:
            if arguments.all or not is_right:
                print(f"       {'ok' if is_right else 'not right'}: {words}", flush=True)
    print(f"{len(rows) - failed} of {len(rows)} rows behave as their last column says")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
