"""Stock fedmsg commands as processes in which gilmsg cannot be imported, their crypto on."""

import shutil

from .helpers import write_config
from .processes import REPOSITORY, Program, script


class Stock(Program):
    """The command *function* (``module:name``), run in *folder* under *config* until the end; log in "log"."""

    def __init__(self, folder, config, function):
        write_config(folder, config)
        super().__init__(script(function), folder, environment(folder), log=folder / "log")


def environment(folder):
    """That of a process which imports what is not installed from *folder*, and these tests, but not gilmsg."""
    shutil.copy(str(REPOSITORY / "tests/programs/without_gilmsg.py"), str(folder / "sitecustomize.py"))
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}", "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
