"""Packaging of the NPLP plugin; the library lives in projects/NPLP/nplp."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


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
    python_requires=">=3.10,<3.13",
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
        "timm": ["timm>=1"],
        "docs": read_requirements("requirements-docs.txt"),
    },
    entry_points={"console_scripts": ["nplp = nplp_commands.main:command_line"]},
)
