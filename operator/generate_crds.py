"""Writes the chart's CustomResourceDefinitions from the typed models; `--check` only says whether they differ.

python operator/generate_crds.py            # or: make generate
python operator/generate_crds.py --check    # exit code 1 and one line per file that is not as the models say
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from lockmaster_operator.models.crd import KINDS, custom_resource_definition
from lockmaster_operator.models.part import GROUP

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "charts" / "lockmaster-operator" / "files" / "crds"
HEADER = "# Generated from operator/src/lockmaster_operator/models by `make generate`; edits are lost.\n"


def rendered() -> dict[str, str]:
    """File name -> text, one file per kind."""
    texts = {}
    for kind in KINDS:
        body = yaml.safe_dump(custom_resource_definition(kind), sort_keys=False, allow_unicode=True, width=110)
        texts[f"{GROUP}_{kind.plural}.yaml"] = HEADER + body
    return texts


def differences(texts: dict[str, str]) -> list[str]:
    """Names of files that are missing, different, or there without a model."""
    there = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))}
    return sorted(name for name in {*texts, *there} if texts.get(name) != there.get(name))


def main() -> int:
    """Writes or checks. Exit code 1 if `--check` found a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    arguments = parser.parse_args()
    texts = rendered()
    changed = differences(texts)
    if arguments.check:
        for name in changed:
            print(f"{name} is not what the models say: run make generate", file=sys.stderr)
        return 1 if changed else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in changed:
        path = FOLDER / name
        if name in texts:
            path.write_text(texts[name])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
