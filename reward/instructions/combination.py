"""The family `combination`: two responses in one, and the request before its answer."""


def two_responses(response: str) -> bool:
    """Two different texts with ****** between them; it may also stand before the first and after the second."""
    parts = [part.strip() for part in response.split("******")]
    if not all(parts[1:-1]):
        return False
    texts = [part for part in parts if part]
    return len(texts) == 2 and texts[0] != texts[1]


def repeat_prompt(response: str, *, prompt_to_repeat: str) -> bool:
    """The response begins with the request; case does not count."""
    return response.strip().lower().startswith(prompt_to_repeat.lower())
