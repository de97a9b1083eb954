"""What a broker says in its own words may repeat what it was told: the password goes into no log and no error (C10)."""

from hawk.connecting import Credentials

_MASK = "***"


def without_password(text: str, credentials: Credentials) -> str:
    """`text`, with three asterisks wherever the password stands in it."""
    password = credentials.password
    if isinstance(password, bytes):
        password = password.decode(errors="ignore")
    return text.replace(password, _MASK) if password else text
