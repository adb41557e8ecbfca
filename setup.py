"""Packaging of gilmsg."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib import metadata

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))


def read(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as stream:
        return stream.read()


def give_an_old_pip_what_it_needs():
    """Install ``wheel`` where the pip that runs us cannot do without it.

    moksha.hub needs txWS, which comes as a source archive with a ``setup_requires``. A pip before
    23.1 (Python 3.9 and 3.10 bring 23.0) builds that in the target environment, and fails there
    for want of bdist_wheel. Such a pip runs this file in that same environment, and before it
    looks at any dependency; a newer one runs it in isolation, where there is no pip to be found.
    """
    try:
        version = tuple(int(part) for part in metadata.version("pip").split(".")[:2])
    except (metadata.PackageNotFoundError, ValueError):
        return
    in_venv = sys.prefix != sys.base_prefix
    if in_venv and version < (23, 1) and "egg_info" in sys.argv and not importlib.util.find_spec("wheel"):
        # wheel 0.46 gave bdist_wheel up to a setuptools that such environments do not have.
        subprocess.call([sys.executable, "-m", "pip", "install", "-q", "wheel<0.46"])


def long_description():
    """Return README for PyPI, which has no files beside it: picture and pages are those of this release."""
    text = read("README.rst").replace(
        ".. image:: docs/", f".. image:: https://raw.githubusercontent.com/fedora-infra/gilmsg/{VERSION}/docs/"
    )
    return re.sub(r"<([\w/]+\.rst)>`_", rf"<https://github.com/fedora-infra/gilmsg/blob/{VERSION}/\1>`_", text)


VERSION = re.search(r'__version__ = "(.+)"', read("gilmsg/_version.py")).group(1)

give_an_old_pip_what_it_needs()

setup(
    name="gilmsg",
    version=VERSION,
    description="fedmsg that knows whether a message arrived",
    long_description=long_description(),
    long_description_content_type="text/x-rst",
    license="LGPL-2.0-or-later",
    license_files=["LICENSE"],
    author="The gilmsg developers",
    url="https://github.com/fedora-infra/gilmsg",
    project_urls={
        "Source": "https://github.com/fedora-infra/gilmsg",
        "Issues": "https://github.com/fedora-infra/gilmsg/issues",
        "Changelog": f"https://github.com/fedora-infra/gilmsg/blob/{VERSION}/CHANGELOG.rst",
    },
    keywords="fedmsg zeromq messaging acknowledgement delivery x509",
    python_requires=">=3.9",
    packages=find_packages(include=["gilmsg", "gilmsg.*"]),
    # Outside the package: pytest loads it in every run, and must not load gilmsg with it.
    py_modules=["pytest_gilmsg"],
    package_data={"gilmsg": ["py.typed"]},
    include_package_data=False,
    zip_safe=False,
    install_requires=[
        "fedmsg[commands,consumers,crypto_ng]==1.1.7",
        "pyzmq>=25",
        "shtab>=1.13",
        "six",
        # moksha.hub needs pkg_resources: gone in 82; before 71 it does not find today's wheels.
        "setuptools>=71,<82",
        "tqdm>=4.60",
    ],
    extras_require={
        "testing": ["pytest>=7.4"],
        "outbox": ["sqlalchemy>=2"],
        "metrics": ["prometheus_client>=0.16"],
        # With what the pages show of gilmsg by its own code.
        "docs": ["furo>=2024.1", "prometheus_client>=0.16", "sphinx>=7.2", "sphinx-copybutton>=0.5", "sqlalchemy>=2"],
        "test": [
            # Below 7.10 it does not follow the processes that the tests start.
            "coverage>=7.10",
            "aiosqlite",
            "asyncpg",
            "alembic",
            "django>=4.2",
            "docutils>=0.20",
            "eventlet>=0.36",
            "flask>=2.3",
            "gevent>=24.10.1",
            "gunicorn>=22",
            "hypothesis>=6.100",
            "interrogate>=1.7",
            "matplotlib",
            "mypy>=1.10",
            "psutil>=6",
            "prometheus_client>=0.16",
            "psycopg[binary]>=3",
            "pytest>=7.4",
            "pytest-xdist>=3",
            "pyyaml>=6",
            "ruff>=0.6",
            "sqlalchemy[asyncio]>=2",
            "types-six",
            "types-tqdm",
            'uvloop>=0.19; implementation_name == "cpython" and sys_platform != "win32"',
        ],
    },
    entry_points={
        "console_scripts": [
            "gilmsg-check = gilmsg.commands.check:main",
            "gilmsg-demo = gilmsg.commands.demo:main",
            "gilmsg-logger = gilmsg.commands.logger:main",
            "gilmsg-outbox = gilmsg.commands.outbox:main",
            "gilmsg-pki = gilmsg.commands.pki:main",
            "gilmsg-sandbox = gilmsg.commands.sandbox:main",
            "gilmsg-tail = gilmsg.commands.tail:main",
        ],
        # The name is the module's: so "pytest -p pytest_gilmsg" and this are one and the same plugin.
        "pytest11": ["pytest_gilmsg = pytest_gilmsg"],
        "fedmsg.meta": ["gilmsg = gilmsg._meta:GilmsgProcessor"],
    },
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Framework :: Pytest",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "License :: OSI Approved :: GNU Lesser General Public License v2 or later (LGPLv2+)",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
)
