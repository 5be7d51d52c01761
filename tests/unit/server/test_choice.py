import pytest

from mlops_server.choice import ChoiceError, choose

ONE, TWO, OLD = "1a" * 32, "2b" * 32, "1a1a1a1b" + "0" * 56


@pytest.fixture
def volume(tmp_path):
    for identity in (ONE, TWO, OLD):
        (tmp_path / "v" / identity).mkdir(parents=True)
    (tmp_path / "digits").symlink_to(f"v/{ONE}")
    (tmp_path / "wine").symlink_to(f"v/{TWO}")
    return tmp_path


def chosen(volume, **environ):
    choice = choose({"MODEL_VOLUME": str(volume), **environ})
    return choice.name, choice.id, choice.path


def refusal(volume, **environ):
    with pytest.raises(ChoiceError) as caught:
        choose({"MODEL_VOLUME": str(volume), **environ})
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_a_name_is_looked_up_on_the_volume(volume):
    assert chosen(volume, MODEL="wine") == ("wine", TWO, volume / "v" / TWO)


def test_a_name_with_the_beginning_of_its_id(volume):
    assert chosen(volume, MODEL="digits@1a1a1a1a1a1a")[1] == ONE


def test_another_content_that_is_there_is_chosen_by_its_id(volume):
    assert chosen(volume, MODEL="digits@1a1a1a1b") == ("digits", OLD, volume / "v" / OLD)


def test_the_version_is_twelve_digits(volume):
    assert choose({"MODEL_VOLUME": str(volume), "MODEL": "wine"}).version == "2b2b2b2b2b2b"


def test_an_unknown_name_gets_a_list_of_what_is_there(volume):
    message = refusal(volume, MODEL="foo")
    assert "`foo`, which is not there" in message
    assert "digits@1a1a1a1a1a1a" in message
    assert "wine@2b2b2b2b2b2b" in message
    assert "(no name)@1a1a1a1b0000" in message


def test_nothing_chosen_gets_the_list_too(volume):
    assert "wine@2b2b2b2b2b2b" in refusal(volume)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("9999", "no content id"),
        ("1a1a1a1", "content ids"),
        ("1A1A", "not the beginning"),
        ("1a", "not the beginning"),
        ("", "not the beginning"),
        ("../../etc", "not the beginning"),
    ],
)
def test_an_id_that_fits_none_or_several_is_refused(volume, prefix, expected):
    (volume / "digits").unlink()
    (volume / "digits").symlink_to(f"v/{TWO}")
    assert expected in refusal(volume, MODEL=f"digits@{prefix}")


def test_an_exact_path_with_a_name(volume):
    path = volume / "v" / ONE
    assert chosen(volume, MODEL_PATH=str(path), MODEL_NAME="other") == ("other", ONE, path)


def test_an_exact_path_takes_the_name_of_its_one_link(volume):
    assert choose({"MODEL_PATH": str(volume / "v" / ONE)}).name == "digits"


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_no_link_or_several_give_no_name(volume, names):
    (volume / "digits").unlink()
    for name in names:
        (volume / name).symlink_to(f"v/{ONE}")
    assert "`MODEL_NAME` is not set" in refusal(volume, MODEL_PATH=str(volume / "v" / ONE))


@pytest.mark.parametrize("link", ["wine", f"v/{'3c' * 32}", "wine/."])
def test_an_exact_path_is_no_link(volume, link):
    (volume / "v" / ("3c" * 32)).symlink_to(TWO)
    message = refusal(volume, MODEL_PATH=f"{volume}/{link}", MODEL_NAME="wine")
    assert f"is a link: give the folder that it points to, `{volume / 'v' / TWO}`" in message


@pytest.mark.parametrize("target", ["/tmp", "/", "../elsewhere", TWO, "3c" * 32, "missing"])  # noqa: S108 - nothing is written
def test_a_link_among_the_contents_is_no_content(volume, target):
    linked = "3c" * 32
    (volume / "v" / linked).symlink_to(target)
    (volume / "named").symlink_to(f"v/{linked}")
    assert "no content id" in refusal(volume, MODEL="digits@3c3c")
    assert "@3c3c" not in refusal(volume)
    assert refusal(volume, MODEL_PATH=str(volume / "v" / linked), MODEL_NAME="digits")
    if target != TWO:
        assert "`named`, which is not there" in refusal(volume, MODEL="named")


def test_contents_that_are_elsewhere_are_not_on_the_volume(volume, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "v").symlink_to(volume / "v")
    (tmp_path / "other" / "digits").symlink_to(f"v/{ONE}")
    for model in ("digits", "digits@1a1a1a1a"):
        assert "which is not there" in refusal(tmp_path / "other", MODEL=model)


def test_a_link_that_leads_in_a_circle_hides_nothing_else(volume):
    (volume / "loop").symlink_to("loop")
    (volume / "v" / ("3c" * 32)).symlink_to("3c" * 32)
    assert chosen(volume, MODEL="digits")[1] == ONE
    assert choose({"MODEL_PATH": str(volume / "v" / ONE)}).name == "digits"
    assert "wine@2b2b2b2b2b2b" in refusal(volume, MODEL="loop")
    assert "Too many levels" in refusal(volume, MODEL_PATH=str(volume / "loop"))


def test_a_folder_that_is_not_named_by_an_id_is_refused(tmp_path):
    (tmp_path / "models").mkdir()
    assert "64 hex digits" in refusal(tmp_path, MODEL_PATH=str(tmp_path / "models"), MODEL_NAME="digits")


def test_another_expected_id_is_fatal(volume):
    assert "`MODEL_ID` is" in refusal(volume, MODEL="digits", MODEL_ID=TWO)
    assert chosen(volume, MODEL="digits", MODEL_ID=ONE)[1] == ONE


def test_the_expected_id_is_compared_in_full(volume):
    assert "`MODEL_ID` is" in refusal(volume, MODEL="digits", MODEL_ID=ONE[:63] + "0")
    assert "`MODEL_ID` is" in refusal(volume, MODEL="digits", MODEL_ID=ONE[:12])


def test_path_and_name_together_are_refused(volume):
    assert "both set" in refusal(volume, MODEL="digits", MODEL_PATH=str(volume / "v" / ONE))


def test_another_name_than_the_chosen_one_is_refused(volume):
    assert "`MODEL_NAME` is `wine`" in refusal(volume, MODEL="digits", MODEL_NAME="wine")


@pytest.mark.parametrize("name", ["../digits", "A", "a b", "a/b", "-a", "x" * 64])
def test_a_name_that_fits_no_url_is_refused(volume, name):
    assert "cannot name a model" in refusal(volume, MODEL_PATH=str(volume / "v" / ONE), MODEL_NAME=name)


@pytest.mark.parametrize("target", ["/etc", "v/missing", "../elsewhere", "v"])
def test_links_that_lead_elsewhere_are_no_models(volume, target):
    (volume / "evil").symlink_to(target)
    assert "which is not there" in refusal(volume, MODEL="evil")


def test_a_missing_path_and_a_missing_volume(tmp_path):
    assert "No such file" in refusal(tmp_path, MODEL_PATH=str(tmp_path / "v" / ONE))
    assert "there is no folder" in refusal(tmp_path / "none", MODEL="digits")
    assert "there is no model" in refusal(tmp_path, MODEL="digits")


def test_a_file_in_place_of_the_folder(volume):
    file = volume / "v" / ("3c" * 32)
    file.touch()
    assert "is not a folder" in refusal(volume, MODEL_PATH=str(file), MODEL_NAME="digits")


def test_a_file_in_place_of_the_volume(tmp_path):
    (tmp_path / "file").touch()
    assert "there is no folder" in refusal(tmp_path / "file", MODEL="digits")
