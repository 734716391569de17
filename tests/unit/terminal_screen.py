"""What a terminal shows of what was written to it, without end upwards and to the right."""

import re

_PART = re.compile(r"\x1b\[(?P<number>\d*)(?P<what>[A-Za-z])|(?P<char>.)", re.DOTALL)


def screen(written):
    """Its lines, without colours. Raises ValueError for an escape code that is none of ours."""
    lines, row, column = [""], 0, 0
    for part in _PART.finditer(written):
        char, what = part["char"], part["what"]
        if char == "\r":
            column = 0
        elif char == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif char == "\x1b":
            raise ValueError(written[part.start() : part.start() + 10])
        elif char:
            lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
            column += 1
        elif what == "A":
            row = max(0, row - int(part["number"]))
        elif what in "JK":
            lines[row] = lines[row][:column]
            lines = lines[: row + 1] if what == "J" else lines
        elif what != "m":
            raise ValueError(part[0])
    return [line.rstrip() for line in lines]
