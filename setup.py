"""Packaging of gilmsg."""

import os
import re

from setuptools import setup

HERE = os.path.dirname(os.path.abspath(__file__))


def read(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as stream:
        return stream.read()


setup(
    name="gilmsg",
    version=re.search(r'__version__ = "(.+)"', read("gilmsg/_version.py")).group(1),
    description="fedmsg that knows whether a message arrived",
    long_description=read("README.rst"),
    long_description_content_type="text/x-rst",
    license="LGPL-2.0-or-later",
    license_files=["LICENSE"],
    author="The gilmsg developers",
    python_requires=">=3.9",
    packages=["gilmsg", "gilmsg.commands"],
    package_data={"gilmsg": ["py.typed"]},
    include_package_data=False,
    zip_safe=False,
    install_requires=[
        "fedmsg[commands,consumers,crypto_ng]==1.1.7",
        "pyzmq>=25",
        "six",
        # moksha.hub needs pkg_resources: gone in 82; before 71 it does not find today's wheels.
        "setuptools>=71,<82",
    ],
    extras_require={
        "test": [
            "pytest>=7.4",
            "pytest-xdist>=3",
            "mypy>=1.10",
            "ruff>=0.6",
            "types-six",
        ],
    },
    entry_points={
        "console_scripts": [
            "gilmsg-demo = gilmsg.commands.demo:main",
            "gilmsg-logger = gilmsg.commands.logger:main",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Networking",
    ],
)
