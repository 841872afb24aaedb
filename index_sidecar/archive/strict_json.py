"""JSON as RFC 8259 has it: Python's own parser also takes NaN, and the second of two members of one name."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from .errors import InvalidInput

INT64 = range(-(1 << 63), 1 << 63)


def read_json(text: str | bytes, name: str) -> Any:
    """The value that `text` is. Raises InvalidInput, with the code invalid_`name`.

    Whole numbers stay exact. Refused are NaN, Infinity, what is beyond a double or, whole, beyond 64 bit; a name twice
    in one object; and what is nested so deep that reading it is an attack.
    """

    def wrong(why: str) -> InvalidInput:
        return InvalidInput(f"{name} {why}", f"invalid_{name}")

    def no_constant(constant: str) -> NoReturn:
        raise wrong(f"holds {constant}, which is no JSON")

    def whole(digits: str) -> int:
        if len(digits) > 20 or int(digits) not in INT64:
            raise wrong(f"holds {digits[:24]}, which is beyond 64 bit")
        return int(digits)

    def real(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise wrong(f"holds {digits[:24]}, which no double can be")
        return number

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise wrong("holds an object with one name twice")
        return found

    try:
        return json.loads(
            text, parse_constant=no_constant, parse_int=whole, parse_float=real, object_pairs_hook=members
        )
    except UnicodeDecodeError:
        raise wrong("must be UTF-8") from None
    except json.JSONDecodeError as error:
        raise wrong(f"must be JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise wrong("is nested too deep") from None
