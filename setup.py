"""What the wheel holds: the scripts inside a package of its own, and three commands that run them.

Everything else stands in pyproject.toml.
"""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE, HOME = Path(__file__).parent, "payment_api_monitoring"
INSIDE = ["monitoring", *(f"monitoring.{name}" for name in find_packages("monitoring"))]
NEEDS = [line.partition("#")[0].strip() for line in (HERE / "requirements.txt").open()]


class Build(build_py):
    """Without this file, which stands beside the scripts."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [row for row in found if Path(row[-1]).name != "setup.py"]


setup(
    cmdclass={"build_py": Build},
    packages=[HOME, f"{HOME}.app", *(f"{HOME}.app.{name}" for name in INSIDE)],
    package_dir={
        HOME: f"deploy/package/{HOME}",
        f"{HOME}.app": ".",
        **{f"{HOME}.app.{name}": name.replace(".", "/") for name in INSIDE},
    },
    package_data={
        HOME: ["py.typed"],
        f"{HOME}.app": ["config.example.py"],
        f"{HOME}.app.monitoring.output": ["templates/*"],
    },
    install_requires=[line for line in NEEDS if line],
)
