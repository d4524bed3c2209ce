"""The family `punctuation`."""


def no_comma(response: str) -> bool:
    """The ASCII comma only, in numbers too."""
    return "," not in response
