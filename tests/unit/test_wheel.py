"""What `pip install` of a wheel brings: every file of our packages, and the sample that the demo loads."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("contracts", "domain", "tables", "streams", "sinks", "operations")


def test_the_wheel_has_every_file_of_the_packages_and_the_sample(tmp_path: Path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        sample = archive.read("operations/sample.jsonl")
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert found == ours | {"operations/sample.jsonl"}
    assert sample == (ROOT / "examples" / "sample.jsonl").read_bytes()
