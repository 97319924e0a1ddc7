from typing import Any


def meaning_here(call: Any) -> Any:
    return None
