"""URLs as they may be told and written down."""

from urllib.parse import urlsplit


def shown_url(url: str) -> str:
    """The URL without what may be a secret: user, password, query and fragment."""
    try:
        found = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}{found.path}"
