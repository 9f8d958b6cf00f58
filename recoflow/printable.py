"""Foreign text as it may be printed: on a terminal, in a log, in an error message.

File names, events and cells come from outside. A control character in them would move the cursor, hide text or reach
the terminal's own commands.
"""

from __future__ import annotations

import re
from typing import Final

# Controls (C0, DEL, C1), bidirectional and invisible characters, line separators, lone surrogates. The joiners
# U+200C and U+200D are part of ordinary words and emoji.
_UNPRINTABLE: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb"
    "\\ud800-\\udfff\\U000e0000-\\U000e0fff]"
)


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with each such character as an escape, e.g. `\x1b`; all other text as it is.

    Args:
        text: of any origin.
        keep: characters that stay, e.g. line ends of a text of our own.
    """
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
