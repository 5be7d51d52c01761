"""Who we are towards a registry."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from mlops_deploy.spec.secret import Secret

_TOKEN_USER: Final = "<token>"  # noqa: S105 - a mark, not a password: the secret beside it is an identity token


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user and a password, or an identity token, which only a token server takes."""

    user: str
    secret: Secret
    is_token: bool = False
    source: str

    def basic(self) -> Secret:
        """The value of the header `Authorization` for user and password."""
        pair = f"{self.user}:{self.secret.reveal()}".encode()
        return Secret(f"Basic {b64encode(pair).decode()}")


def identity_of(user: str, secret: str, source: str) -> Identity:
    """A user and a secret as helpers and files give them; `source` says for people where they are from."""
    return Identity(user=user, secret=Secret(secret), is_token=user == _TOKEN_USER, source=source)
