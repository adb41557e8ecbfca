"""How ``gilmsg-tail`` chooses and shows messages: fedmsg-tail's options, with their meaning.

Two things differ. Without an option for the format a message is one line for people. And the
text for cowsay goes in by its stdin: fedmsg puts it, from the bus, into a shell command.
"""

import json
import pprint
import re
import subprocess
import time
from typing import Any, Callable, Dict, Set

import fedmsg.encoding  # type: ignore[import-untyped]
import fedmsg.meta  # type: ignore[import-untyped]
import fedmsg.utils  # type: ignore[import-untyped]

from .. import _acks, _meta
from ._streams import printable, printable_line
from ._usage import Unusable

Message = Dict[str, Any]


def wanted(config: Dict[str, Any]) -> Callable[[str, Message], bool]:
    """Return the filter that the options ask for.

    Raises:
        Unusable: a regular expression is none.
    """
    exclude = _pattern(config, "--exclude", "exclusive_regexp")
    include = _pattern(config, "--include", "inclusive_regexp")
    users, packages = _names(config["users"]), _names(config["packages"])
    if users or packages or config["terse"] or config["cowsay"]:
        fedmsg.meta.make_processors(**config)

    def check(topic: str, message: Message) -> bool:
        if exclude.search(topic) or not include.search(topic):
            return False
        if users and not users & set(fedmsg.meta.msg2usernames(message, **config)):
            return False
        return not packages or bool(packages & set(fedmsg.meta.msg2packages(message, **config)))

    return check


def formatter(config: Dict[str, Any]) -> Callable[[Message], str]:
    """Return what makes text of a message, which it may change; the last option wins, as in fedmsg."""

    def text(message: Message) -> str:
        shown = one_line(message)
        if config["pretty"]:
            message["timestamp"] = time.ctime(message["timestamp"])
            message = _bare(message)
            shown = "\n" + pprint.pformat(message)
        if config["really_pretty"]:
            message = _bare(message)
            shown = "\n" + _coloured(fedmsg.encoding.pretty_dumps(message))
        if config["query"]:
            found = dict(fedmsg.utils.dict_query(message, config["query"]))
            shown = printable(", ".join(str(value) for value in found.values()))
        if config["terse"]:
            shown = "\n" + printable(fedmsg.meta.msg2repr(message, **config))
        if config["cowsay"]:
            shown = "\n" + _cowsay(printable(fedmsg.meta.msg2subtitle(message, **config)))
        return shown

    return text


def one_line(message: Message) -> str:
    """Return time, topic, id, who signed, for whom, and the body: one line."""
    body: Any = message.get("msg")
    who = _meta.who(message)
    fields = [_when(message.get("timestamp")), message.get("topic"), message.get("msg_id"), "from", who]
    if _meta.is_ack(message):
        return printable_line(" ".join(map(str, fields[:3])) + " " + _meta.sentence(who, message))
    marker = body.get(_acks.MARKER) if isinstance(body, dict) else None
    if isinstance(marker, dict) and isinstance(marker.get("recipients"), list):
        fields += ["for", " ".join(map(str, marker["recipients"]))]
        body = _acks.unmarked(body)
    return printable_line("%s: %s" % (" ".join(map(str, fields)), json.dumps(body, default=str)))


def _when(timestamp: Any) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))
    except (TypeError, ValueError, OverflowError, OSError):
        return "(no time)"


def _bare(message: Message) -> Message:
    return {key: value for key, value in message.items() if key not in ("signature", "certificate")}


def _coloured(text: str) -> str:
    from pygments import formatters, highlight, lexers  # type: ignore[import-untyped]

    coloured: str = highlight(text, lexers.JavascriptLexer(), formatters.TerminalFormatter())
    return coloured.strip()


def _cowsay(text: str) -> str:
    try:
        done = subprocess.run(["cowsay"], input=text, universal_newlines=True, stdout=subprocess.PIPE)
    except OSError as error:
        return "cowsay cannot be run: %s" % error
    return done.stdout


def _pattern(config: Dict[str, Any], option: str, key: str) -> "re.Pattern[str]":
    try:
        return re.compile(config[key])
    except re.error as error:
        raise Unusable("%s: %r is no regular expression: %s" % (option, config[key], error)) from None


def _names(value: Any) -> Set[str]:
    return {name.strip() for name in value.split(",")} if value else set()
