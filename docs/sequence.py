"""Draw docs/publish.seq: ``python docs/sequence.py`` writes publish.svg and prints the text form for
docs/explanation/promise.rst.

A test asserts that both are what this makes of the source.
"""

import pathlib
import re
import xml.sax.saxutils

HERE = pathlib.Path(__file__).resolve().parent

#: Text form: characters from one lane to the next.
STEP = 34

#: SVG, in pixels: from one lane to the next, the height of a line, the margin.
WIDE, HIGH, MARGIN = 260, 26, 70

STYLE = """
text { font: 13px sans-serif; fill: #222 } .lane, .title { font-weight: bold } .what { text-anchor: middle }
line { stroke: #3c6eb4; stroke-width: 1.5 } .life { stroke: #bbb; stroke-dasharray: 4 4 }
.lost { stroke: #c0392b } .lost-text { fill: #c0392b; text-anchor: middle } .title { fill: #294172 }
.note { fill: #555; font-style: italic } rect { fill: #fff } .dot { fill: #555 }
"""


def parsed(text):
    """Return the lanes, and of each scene its title and events: (sign, from, to or None, label)."""
    lanes, scenes = [], []
    for line in text.splitlines():
        if line.startswith("lanes:"):
            lanes = [one.strip() for one in line[6:].split("|")]
        elif line.startswith("== "):
            scenes.append((line[3:], []))
        elif line and not line.startswith("#"):
            scenes[-1][1].append(_event(line, lanes))
    return lanes, scenes


def _event(line, lanes):
    names = "|".join(lanes)
    found = re.match(rf"({names}) (?:([>x]) ({names}): (.+)|\. (.+))$", line)
    if not found:
        raise ValueError(f"not understood: {line!r}")
    place, sign, target, label, note = found.groups()
    if note:
        return ".", lanes.index(place), None, note
    return sign, lanes.index(place), lanes.index(target), label


def as_text(lanes, scenes):
    """Return the text form."""
    head = "".join(lane.ljust(STEP) for lane in lanes).rstrip()
    lines = []
    for title, events in scenes:
        lines += [title, "", "  " + head] + [_text_line(len(lanes), *event) for event in events] + [""]
    return "\n".join(lines)


def _text_line(count, sign, start, end, label):
    line = list(("|" + " " * (STEP - 1)) * count)
    if end is None:
        line = line[: start * STEP + 1] + list(" * " + label) + line[start * STEP + 4 + len(label):]
    else:
        shaft = (f" {label} ").center(STEP - 3, "-")
        if sign == "x":
            arrow = f"{shaft[:-1]}-x " if end > start else f" x-{shaft[:-1]}"
        else:
            arrow = f"-{shaft}>" if end > start else f"<{shaft}-"
        first = min(start, end) * STEP + 1
        line[first:first + STEP - 1] = list(arrow)
    return ("    " + "".join(line)).rstrip()


def as_svg(lanes, scenes):
    """Return the picture."""
    body, y = [], 10
    for title, events in scenes:
        y += HIGH
        body.append(_words(14, y, "title", title))
        y += HIGH
        bottom = y + HIGH * (len(events) + 0.6)
        for number, lane in enumerate(lanes):
            x = MARGIN + number * WIDE
            body.append(_line(x, y + 6, x, bottom, "life"))
            body.append(f'<text x="{int(x)}" y="{int(y)}" class="lane what">{lane}</text>')
        for event in events:
            y += HIGH
            body += _drawn(y, *event)
        y = bottom
    wide, high = 2 * MARGIN + (len(lanes) - 1) * WIDE + 60, y + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {int(high)}" width="{wide}" height="{int(high)}">\n'
        f"<title>What passes between who in a publish</title>\n<style>{STYLE}</style>\n"
        '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        '<path d="M0,0 L9,4 L0,8 z" fill="#3c6eb4"/></marker></defs>\n'
        '<rect width="100%" height="100%"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _drawn(y, sign, start, end, label):
    x = MARGIN + start * WIDE
    if end is None:
        return [f'<circle cx="{int(x)}" cy="{int(y - 4)}" r="3" class="dot"/>', _words(x + 9, y, "note", label)]
    target = MARGIN + end * WIDE
    if sign == ">":
        middle = (x + target) / 2
        return [_words(middle, y - 6, "what", label), _line(x, y, target, y, "", ' marker-end="url(#head)"')]
    target = x + (target - x) * 0.6
    cross = [_line(target - 5, y - 5 * way, target + 5, y + 5 * way, "lost") for way in (1, -1)]
    return [_words((x + target) / 2, y - 6, "lost-text", label), _line(x, y, target, y, "lost")] + cross


def _words(x, y, kind, text):
    return f'<text x="{int(x)}" y="{int(y)}" class="{kind}">{xml.sax.saxutils.escape(text)}</text>'


def _line(x, y, to_x, to_y, kind, more=""):
    return f'<line x1="{int(x)}" y1="{int(y)}" x2="{int(to_x)}" y2="{int(to_y)}" class="{kind}"{more}/>'


def main():
    lanes, scenes = parsed((HERE / "publish.seq").read_text(encoding="utf-8"))
    (HERE / "publish.svg").write_text(as_svg(lanes, scenes), encoding="utf-8")
    print(as_text(lanes, scenes))


if __name__ == "__main__":
    main()
