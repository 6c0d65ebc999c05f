"""What pyproject.toml cannot say: a wheel holds conf/ and examples/ inside the package, as inn_lab/conf, inn_lab/examples."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConf(build_py):
    """An editable install reads conf/ where it is. If package-dir named conf/, Hydra would not find hydra_plugins there."""

    def run(self) -> None:
        if self.editable_mode:
            return super().run()
        shutil.rmtree(self.build_lib, ignore_errors=True)  # an earlier build's, with files that are deleted by now
        super().run()
        for folder in ("conf", "examples"):
            shutil.copytree(
                folder, Path(self.build_lib, "inn_lab", folder), ignore=shutil.ignore_patterns("__pycache__", "outputs")
            )


setup(cmdclass={"build_py": WithConf})
