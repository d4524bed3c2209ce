"""The family `startend`: how a response ends, and quotation marks around it."""


def end_checker(response: str, *, end_phrase: str) -> bool:
    """The last words, perhaps within quotation marks; case does not count."""
    return response.strip().strip('"').lower().endswith(end_phrase.lower())


def quotation(response: str) -> bool:
    """Straight double quotation marks around all of it."""
    response = response.strip()
    return len(response) > 1 and response.startswith('"') and response.endswith('"')
