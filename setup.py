"""Packaging of the NPLP plugin; the library lives in projects/NPLP/nplp."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CONFIGURATIONS = "configs"
OF_CONFIGURATIONS = "nplp_commands"
"""The package that has the configurations in a build; in a checkout people edit them in that folder."""


class BuildWithConfigurations(build_py):
    """Copies ``configs`` into the package, and gives all files one mode, so that builds are equal."""

    def run(self):
        """Build, and add what is no part of the packages' folders."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / OF_CONFIGURATIONS / CONFIGURATIONS
        # What an earlier build left there may have been renamed since.
        shutil.rmtree(target, ignore_errors=True)
        for path in sorted((ROOT / CONFIGURATIONS).rglob("*.yml")):
            copy = target / path.relative_to(ROOT / CONFIGURATIONS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        for path in Path(self.build_lib).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


def read_requirements(name: str) -> list[str]:
    """Return the requirement lines of a requirements file, without comments."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "projects/NPLP/nplp/__init__.py").read_text(encoding="utf-8")
).group(1)
REQUIRED = read_requirements("requirements.txt")
CPU_ONLY = [line for line in REQUIRED if line.startswith("faiss-cpu")]

setup(
    name="nplp",
    version=VERSION,
    description="Noisy pseudo-label processing for unsupervised domain-adaptive person re-ID, on fastreid",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12)),
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    cmdclass={"build_py": BuildWithConfigurations},
    package_dir={"": "projects/NPLP"},
    packages=find_packages("projects/NPLP"),
    package_data={
        "nplp": ["py.typed", "export/templates/*.j2", "report/templates/*.j2", "search/templates/*.j2"],
        "nplp_experiments": ["py.typed", "*.yml"],
        "nplp_commands": ["py.typed"],
        "nplp_synthetic": ["py.typed"],
    },
    install_requires=[line for line in REQUIRED if line not in CPU_ONLY],
    # faiss-cpu and faiss-gpu must never share an environment, so each is an extra.
    extras_require={
        "cpu": CPU_ONLY,
        "gpu": ["faiss-gpu>=1.9"],
        "deploy": read_requirements("requirements-deploy.txt"),
        "timm": ["timm>=1.0.21"],
        "docs": read_requirements("requirements-docs.txt"),
        "hub": ["huggingface_hub>=0.34"],
        "hdbscan": ["fast_hdbscan>=0.3.4"],
        "infomap": ["infomap>=2.16"],
    },
    entry_points={"console_scripts": ["nplp = nplp_commands.main:command_line"]},
)
