"""How a server that speaks OpenAI's API is reached."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from mer_jax.runtime.settings import setting


def wrong_address(address: str) -> str:
    """What is wrong with a server's address, which is kept with the settings; empty if nothing is."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        return str(error)
    if address and parts.scheme not in ("http", "https"):
        return "expected an address that begins with http:// or https://"
    secret = "@" in parts.netloc or parts.query or parts.fragment
    return "holds a name, password or key, which would be kept: put the key into $OPENAI_API_KEY" if secret else ""


@dataclass(frozen=True)
class ServerSettings:
    """What the settings of every such server have. Its key comes from $OPENAI_API_KEY alone."""

    base_url: str = setting("", wrong=wrong_address, private=True)  # empty: $OPENAI_BASE_URL, or OpenAI
    timeout_s: float = setting(60.0, above=0)
    attempts: int = setting(6, least=1)  # of a request that the server fails
