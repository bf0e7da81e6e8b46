"""Whatever a part leaves in its log becomes a sentence that a person can act on."""

import json

import pytest

from services.supervisor.domain.last_words import SILENCE, sentence_of

REFUSED = "sqlalchemy.exc.OperationalError: (psycopg.OperationalError) connection refused"
TRACEBACK = f"""Traceback (most recent call last):
  File "services/registry/__main__.py", line 12, in main
    run()
{REFUSED}
\tIs the server running on that host and accepting TCP/IP connections?
(Background on this error at: https://sqlalche.me/e/21/e3q8)
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", SILENCE),
        ("\n  \n", SILENCE),
        ("starting\nport 8080 is taken\n\n", "port 8080 is taken"),
        (TRACEBACK, REFUSED),
        (f"ValueError: an older one\n{TRACEBACK}", REFUSED),
        ("Traceback (most recent call last):\n  deep\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("Traceback (most recent call last):\n  File cut off", "File cut off"),
        (json.dumps({"event": "refused", "error": "no database", "level": "error"}), "refused: no database"),
        (json.dumps({"event": "died", "exception": TRACEBACK}), REFUSED),
        (f"{TRACEBACK}{json.dumps({'event': 'stopped'})}\n", "stopped"),
        ("[1, 2]", "[1, 2]"),
        (json.dumps({"level": "error"}), '{"level": "error"}'),
    ],
)
def test_the_last_error_is_found(log: str, words: str) -> None:
    assert sentence_of(log) == words


def test_it_stays_a_sentence() -> None:
    assert len(sentence_of("x" * 10_000)) == 500
