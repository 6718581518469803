import pytest

from warmray.config import load_config, preset_names
from warmray.errors import InputError


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name):
    assert load_config(name).name == name


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"preset": "quickstat"}, "unknown preset 'quickstat'; did you mean 'quickstart'?"),
        ({"overrides": ["train.lerning_rate=1"]}, "unknown key 'train.lerning_rate'; did you mean 'learning_rate'?"),
        ({"overrides": ["sweeps.strengths=[1]"]}, "unknown key 'sweeps'; did you mean 'sweep'?"),
        ({"overrides": ["sweep.strengths=[warm]"]}, "sweep.strengths.0: Input should be a valid number"),
        ({"overrides": ["train.doses=[0]"]}, "train.doses.0: Input should be greater than 0"),
        ({"overrides": ["nothing"]}, "write it as section.key=value"),
        ({"overrides": ["name.x=1"]}, "'name' is a value, not a section"),
        ({"path": "/no/such.yaml"}, "cannot read the configuration /no/such.yaml"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line_that_says_where_and_how_to_mend(arguments, hint):
    with pytest.raises(InputError) as caught:
        load_config(**arguments)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("train: [1,")
    with pytest.raises(InputError, match=r"broken\.yaml is not YAML"):
        load_config(path=str(path))


def test_the_original_model_is_always_swept_and_strengths_are_sorted_once():
    assert load_config(overrides=["sweep.strengths=[1, 0.5, 1]"]).sweep.strengths == [0.0, 0.5, 1.0]
