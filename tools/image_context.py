"""Makes the context of an image build: the Dockerfile and every wheel that it installs, fetched or built here.

`python tools/image_context.py server DIR`, then `docker build DIR` (or buildah, or the bed's load_image). A build needs
no network then, and gets exactly the versions of constraints.txt.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "server": ("service", ("./raft", "./service[server]")),
    "operator": ("operator", ("./raft", "./service", "./operator")),
}
"""Part: the folder of its Dockerfile, and what is installed."""
SECONDS_MAX = 900


def make(part: str, directory: Path, python: str = sys.executable) -> Path:
    """The context of a part in a directory, from nothing. `python` has pip. Raises CalledProcessError, OSError."""
    folder, packages = PARTS[part]
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    shutil.copy(ROOT / folder / "Dockerfile", directory / "Dockerfile")
    wheel = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    wheel += ["--constraint", "constraints.txt", "--wheel-dir", str(directory / "wheels")]
    subprocess.run([*wheel, *packages, "pip"], check=True, cwd=ROOT, timeout=SECONDS_MAX)
    return directory


def main() -> int:
    """Exit code 0, or 1 after the failed program's own message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("directory", type=Path, help="removed and made anew")
    arguments = parser.parse_args()
    try:
        make(arguments.part, arguments.directory)
    except subprocess.CalledProcessError as error:
        return error.returncode or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
