import pytest

from mlops_server.hook import Hook, HookError, load_hook


def hook(tmp_path, text, name="hook.py"):
    path = tmp_path / name
    path.write_text(text)
    return load_hook(str(path))


def refusal(tmp_path, text, name="hook.py"):
    with pytest.raises(HookError) as caught:
        hook(tmp_path, text, name)
    assert caught.value.exit_code == 78
    return str(caught.value)


@pytest.mark.parametrize("path", [None, ""])
def test_no_file_no_steps(path):
    assert load_hook(path) == Hook()


def test_the_steps_that_are_defined_are_taken(tmp_path):
    steps = hook(tmp_path, "def predict(model, inputs):\n    return [model, inputs]\n")
    assert steps.steps == ["predict"]
    assert steps.predict(1, 2) == [1, 2]


def test_a_file_without_steps(tmp_path):
    assert "defines none of" in refusal(tmp_path, "def preproces(r, h): pass")


def test_a_file_that_fails(tmp_path):
    assert "ModuleNotFoundError" in refusal(tmp_path, "import there_is_no_such_module")
    assert "SyntaxError" in refusal(tmp_path, "def predict(:")


def test_a_missing_file_and_one_that_is_not_python(tmp_path):
    with pytest.raises(HookError, match="FileNotFoundError"):
        load_hook(str(tmp_path / "none.py"))
    assert "`.py`" in refusal(tmp_path, "x", name="hook.txt")


@pytest.mark.parametrize("text", ["predict = 5", "async def predict(m, i): pass"])
def test_a_step_must_be_a_plain_function(tmp_path, text):
    assert "plain function" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["def predict(model): pass", "def postprocess(a, b, c): pass"])
def test_a_step_must_take_two_arguments(tmp_path, text):
    assert "2 arguments" in refusal(tmp_path, text)
