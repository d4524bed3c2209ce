"""The family `language`: the language of the whole response, by langdetect, as the reference has it.

langdetect draws n-grams at random; here its seed is fixed, so the same text has the same language in every process.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from langdetect import LangDetectException
from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

SEED = 0
# langdetect reads 10,000 characters after it has taken out addresses; what comes later than this it need not search.
MAX_CHARACTERS = 100_000


def response_language(response: str, *, language: str) -> bool:
    """A response without a feature of any language (digits and signs) passes, as in the reference."""
    return detect(response) in (language, None)


def detect(text: str) -> str | None:
    """The ISO 639-1 code of a text, for Chinese zh-cn or zh-tw; None for a text without letters."""
    detector = _factory().create()
    detector.append(text[:MAX_CHARACTERS])
    try:
        return detector.detect()
    except LangDetectException:  # "No features in text", the only one of a loaded factory
        return None


def known_language(value: Any) -> str:
    """The parameter: a code that langdetect can return; of any other, no response would pass."""
    known = sorted(_factory().langlist)
    if value not in known:
        raise ValueError(f"is one of {', '.join(known)}, got {value!r:.60}")
    return value


@lru_cache(maxsize=1)
def _factory() -> DetectorFactory:
    factory = DetectorFactory()
    profiles = sorted(path for path in Path(PROFILES_DIRECTORY).iterdir() if not path.name.startswith("."))
    factory.load_json_profile([path.read_text(encoding="utf-8") for path in profiles])
    factory.set_seed(SEED)
    return factory
