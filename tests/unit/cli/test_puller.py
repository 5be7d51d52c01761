"""What a bootstrap that pulls ends with: the numbers of deploy.sh, which targets explain."""

import pytest

from mlops_deploy.adapters.faults import bootstrap_ended
from mlops_deploy.cli.puller import exit_code, main
from mlops_deploy.errors import ContentMismatchError, UnreachableError, UnusableInputError
from mlops_deploy.store.volume import InTheWayError, VolumeError

REF = f"registry.example.com/digits@sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        (ContentMismatchError("x"), 65),
        (VolumeError("x", code=73), 73),
        (VolumeError("x", code=74), 74),
        (OSError(5, "Input/output error"), 74),
        (UnreachableError("x"), 75),
        (InTheWayError("x"), 77),
        (UnusableInputError("x"), 78),
    ],
)
def test_every_failure_has_its_number_and_every_number_its_words(failed, code):
    assert exit_code(failed) == code
    assert "did not come to its end" not in bootstrap_ended(code).message


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "MODEL_REF is not set"),
        ({"MODEL_REF": "digits:1"}, "MODEL_REF is `digits:1`"),
        ({"MODEL_REF": REF}, "MODEL_VOLUME is not set"),
        ({"MODEL_REF": REF, "MODEL_VOLUME": "model"}, "must be an absolute path, not `model`"),
        ({"MODEL_REF": REF, "MODEL_VOLUME": "/model", "MODEL_ID": "no"}, "`no` is not a content id"),
    ],
)
def test_wrong_settings_are_told(monkeypatch, capsys, environ, says):
    for name in ("MODEL_REF", "MODEL_VOLUME", "MODEL_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main() == 78
    assert says in capsys.readouterr().err
