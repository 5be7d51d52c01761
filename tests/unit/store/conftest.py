"""What tests of the store share."""

import pytest

from mlops_deploy.store.claims import Claims


@pytest.fixture
def claims_end(monkeypatch):
    """Whatever claims a test takes are let go of when it ends."""
    made, real = [], Claims._made
    monkeypatch.setattr(Claims, "_made", lambda self, number: made.append(real(self, number)) or made[-1])
    yield
    for claim in made:
        claim.release()
