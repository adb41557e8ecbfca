"""A small sandbox, and most of what gilmsg offers on it, where each warning that gilmsg itself causes is an error."""

import contextlib
import importlib
import pathlib
import pkgutil
import sys
import warnings

from ..inside import wait_for

# Those of others, fedmsg's and moksha's, are not ours to mend; a warning is laid to the module that is told by stacklevel.
warnings.filterwarnings("error", module=r"gilmsg(\.|$)|pytest_gilmsg$|__main__$")


def compiled():
    """Compile each module of ours anew: what the compiler has to say is told only then."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in pathlib.Path(importlib.import_module("gilmsg").__file__).parent.rglob("*.py"):
            compile(path.read_text(encoding="utf-8"), str(path), "exec")


def imported():
    """Import each module of ours."""
    package = importlib.import_module("gilmsg")
    for one in pkgutil.walk_packages(package.__path__, "gilmsg."):
        importlib.import_module(one.name)


def on_a_bus(folder):
    """Publish in all ways, consume, check, and deliver from an outbox; return who has confirmed."""
    import gilmsg
    from gilmsg.sandbox import Sandbox

    with Sandbox(["r1"], directory=folder, on_wait=lambda: None) as bus:
        config = {**bus.config, "gilmsg.head_start": 20.0}
        named = {"topic": "t", "msg": {}, "recipients": ["r1"]}
        gilmsg.init(**config)
        found = [*gilmsg.publish(**named, ack_timeout=20).acks, *gilmsg.publish_async(**named, ack_timeout=20).result(60).acks]
        gilmsg.tail_messages().close()
        assert gilmsg.check(["r1"])
        with contextlib.closing(gilmsg.outbox.Outbox(f"{folder}/outbox.sqlite")) as box:
            msg_id = box.put(**named)
            box.start()
            wait_for(lambda: box.get(msg_id).state == "delivered", "it is delivered")
            box.stop()
        gilmsg.destroy()
    return found


if __name__ == "__main__":
    compiled()
    imported()
    print(sys.version_info[:2] >= (3, 9), *on_a_bus(sys.argv[1]))
