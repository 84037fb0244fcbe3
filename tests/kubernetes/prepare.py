"""Builds what needs the internet, which a run of the tests has not: `python -m tests.kubernetes.prepare`."""

import tempfile
from pathlib import Path

from htcgrid_local.building import build
from htcgrid_local.home import Home
from htcgrid_local.processes import Processes
from htcgrid_local.project import find_project
from tests.kubernetes import examples, images


def main() -> None:
    """Build the images on which tests run pods, and the template that a grid deploys."""
    for name in images.BASES:
        images.image(name)
    for language in examples.LANGUAGES:
        examples.example(language)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.clear()
        processes = Processes(lambda _: None)
        try:
            build(find_project(), home, processes)
        finally:
            processes.close()


if __name__ == "__main__":
    main()
