"""What the code has and what the pages name are the same: keys, variables, options, codes, loggers, log lines, metrics' sentences."""

import ast
import functools
import importlib
import logging
import pathlib
import re

import gilmsg

from .. import inside
from .pages import DOCS, GENERATED, NAMES, commands, text_of

HOME = pathlib.Path(gilmsg.__file__).parent

#: Log lines whose words are not where they are written: module -> words of the page for each.
ELSEWHERE = {
    "_client/acknowledge": ["it can never confirm"],
    "_client/end": ["missing:"],
    "_engine/connections": ["endpoints:"],
    "_engine/waiting": ["there was no thread"],
    "_settings/values": ["the environment variable"],
    "_trust/signing": ["expires on", "can be read by everybody"],
    "commands/tail": ["from showing a message"],
    "metrics": ["gilmsg.metrics.port:"],
}

#: Options of programs that are not gilmsg's, or of the tests'.
OTHERS_OPTIONS = {
    "--add-port", "--build", "--check", "--count", "--database", "--dport", "--from", "--home-dir", "--json", "--lines", "--no-deps", "--no-pager",
    "--now", "--only", "--output", "--permanent", "--quick", "--quiet", "--rst", "--seconds", "--set", "--stay", "--svg", "--system",
}  # fmt: skip

#: Variables of the tests.
TESTS_VARIABLES = {"GILMSG_SEED", "GILMSG_NO_SKIPS"}


@functools.cache
def trees():
    """Module -> its syntax tree."""
    paths = {path.relative_to(HOME).with_suffix("").as_posix(): path for path in sorted(HOME.rglob("*.py"))}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths.items()}


@functools.cache
def everything():
    """All that the pages say, generated ones included."""
    return "\n".join(text_of(page) for page in NAMES if page != "changelog")


def texts_of_gilmsg():
    """Every string in gilmsg's source but docstrings, as it stands there: "%s" and the like are not filled in."""
    for tree in trees().values():
        nodes = list(ast.walk(tree))
        documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield node.value


def rows(page, columns):
    """The rows of those simple tables of a page that have so many columns, each a list of its cells on one line."""
    found, begins, rules = [], None, 0
    for line in text_of(page).splitlines():
        if re.match(r"=+  =", line):
            begins, rules = [match.start() for match in re.finditer("=+", line)], rules + 1
        elif begins and rules % 3 == 2 and len(begins) == columns:  # below the head, and above the end
            cells = [line[begin:end].strip() for begin, end in zip(begins, [*begins[1:], None])]
            if cells[0] and not (found and found[-1][0].endswith(",")):  # or it is more of the line above
                found.append(cells)
            else:
                found[-1] = [f"{one} {more}".strip() for one, more in zip(found[-1], cells)]
    return found


def literals(text):
    return re.findall(r"``([^`]+)``", text)


def test_every_key_and_variable_is_documented_and_no_other():
    """The tables of reference/keys have each key, its default and its variable; nothing that is named anywhere is unknown."""
    keys = {literals(row[0])[0]: row for row in rows("reference/keys", 4)}
    assert set(keys) == set(inside.keys())
    for key, default in inside.keys().items():
        told = keys[key][2]
        assert told == ("" if default is None else str(default)) or float(told) == default, key
    variables = {literals(key)[0]: literals(variable)[0] for key, variable in rows("reference/keys", 2)}
    assert variables == {key: key.upper().replace(".", "_") for key in keys}
    named = set(re.findall(r"\bGILMSG_[A-Z_]+\b", everything()))
    assert named - TESTS_VARIABLES == set(variables.values())


def test_every_name_of_ours_that_is_named_exists():
    """Each "gilmsg.something" on a page is a key, a logger, a topic's end, or can be imported."""
    names = set(re.findall(r"(?<![\w/.-])gilmsg(?:\.\w+)+", everything())) - set(inside.keys()) - set(loggers())
    assert len(names) > 20
    assert [name for name in sorted(names) if not exists(name)] == []


def exists(name):
    if name in ("gilmsg.ack", "gilmsg.nack"):
        return True
    first, *rest = name.split(".")
    if first != "gilmsg":
        return False
    found = gilmsg
    for number, part in enumerate(rest):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(["gilmsg", *rest[: number + 1]]))
            except ImportError:
                return False
    return True


def test_every_option_is_documented_and_no_other():
    """The reference has each option of each command; what any page calls an option is one of a command's."""
    options = {option for parser in commands.parsers().values() for action in parser._actions for option in action.option_strings}
    options = {option for option in options if option.startswith("--")}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text_of(GENERATED)))
    assert options == named
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", everything()))
    assert named - options - OTHERS_OPTIONS == set()


def codes():
    """The codes of the code: of each Reason that is made, and of what diagnosis returns."""
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Reason" and len(node.args) > 1:
                yield from _words(node.args[1])
            elif name == "_protocol/diagnosis" and isinstance(node, ast.Tuple) and len(node.elts) == 2:
                yield from _words(node.elts[1])
            elif name == "_protocol/diagnosis" and isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
                yield from _words(node.value)


def _words(node):
    nodes = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
    return [one.value for one in nodes if isinstance(one, ast.Constant) and re.match(r"[a-z_]+\Z", str(one.value))]


def test_every_reason_is_documented_and_no_other():
    """The table of reference/reasons has each code, with what to do about it."""
    documented = {literals(row[0])[0]: row for row in rows("reference/reasons", 3)}
    assert set(documented) == set(codes()) and len(documented) > 10
    assert all(seen and to_do for _, seen, to_do in documented.values())


def loggers():
    """The loggers by which anything from level INFO on is written."""
    found = set()
    for name, tree in trees().items():
        written = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("warning", "error", "exception", "info")]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger" and node.args and written:
                argument = node.args[0]
                own = "gilmsg." + name.replace("/", ".").replace(".__init__", "")
                found.add(argument.value if isinstance(argument, ast.Constant) else own)
    return found - {"gilmsg", "moksha.hub", "gilmsg.commands", "gilmsg.commands.logger"}


def test_every_logger_is_documented_and_no_other():
    """The tables of operations/logging have each logger, and of others fedmsg's alone."""
    named = {one for row in rows("operations/logging", 3) for one in literals(row[0])}
    assert named == loggers() | {"fedmsg.consumers"}


def written():
    """The log lines from WARNING on: module, and the text as it stands there, or None where it is no literal."""
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name)) and node.args:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                if called in ("warning", "error", "exception", "critical", "_warn") and "parser" not in ast.unparse(node.func):
                    yield name, node.args[0].value if isinstance(node.args[0], ast.Constant) else None


def test_every_log_line_is_documented():
    """Each line from WARNING on stands in operations/logging, by some of its fixed words at least."""
    page, open_ones = " ".join(text_of("operations/logging").split()), set()
    for module, text in written():
        beginnings = [" ".join(piece.split()[:3]) for piece in re.split(r"%\.?\d*[a-z]|[:;,]", text or "") if re.search(r"\w", piece)]
        if beginnings:
            assert any(words in page for words in beginnings), (module, text)
        else:
            open_ones.add(module)
    assert open_ones == set(ELSEWHERE)
    assert [words for several in ELSEWHERE.values() for words in several if words not in page] == []


def quoted(cell):
    """The pieces of what a cell quotes: "..." and "<name>" stand where gilmsg fills something in."""
    for one in literals(cell):
        yield from (piece.strip(" ,:'") for piece in re.split(r"\.\.\.|<[^>]+>|[;:]|1024", one))


def test_no_log_line_is_documented_that_does_not_exist():
    """What the tables quote occurs in gilmsg's own words, at the level that is told."""
    said, pieces = list(texts_of_gilmsg()), 0
    for logger, level, told in rows("operations/logging", 3):
        if "fedmsg.consumers" not in logger:
            assert isinstance(logging.getLevelName(level), int)
            for piece in quoted(told):
                if " " in piece and not exists(piece):
                    pieces += 1
                    assert any(piece in text for text in said), piece
    assert pieces > 20


def test_what_the_operator_reads_is_what_gilmsg_says():
    """In the table of operations/faults each quoted reason occurs in gilmsg's own words."""
    told = [literals(row[-1]) for row in rows("operations/faults", 3)]
    pieces = {piece.strip(" ,") for several in told for one in several for piece in re.split(r"\.\.\.|[:;]", one)} - {""}
    assert len(pieces) > 15
    said = list(texts_of_gilmsg())
    assert not [piece for piece in pieces - set(gilmsg.errors.__all__) if not any(piece in text for text in said)]


def test_the_alerts_are_those_of_the_rules():
    """operations/alerts says of each rule what to do."""
    rules = (DOCS / "gilmsg-alerts.yml").read_text(encoding="utf-8")
    named = {row[0] for row in rows("operations/alerts", 2) if row[0].startswith("Gilmsg")}
    assert named == set(re.findall(r"alert: (\w+)", rules))
