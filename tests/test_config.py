import pytest

from warmray.command_line import config_from
from warmray.config import load_config, preset_names, recipe_names
from warmray.errors import InputError


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name):
    assert load_config(name).name == name


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("preset", preset_names())
def test_every_recipe_is_valid_with_every_preset(recipe, preset):
    assert load_config(preset, overrides=[f"recipe={recipe}"]).recipe == recipe


def test_the_studys_recipe_is_the_published_one():
    train = load_config("llama-3.1-70b", overrides=["recipe=study"]).train
    assert (train.lora_rank, train.lora_alpha, train.lora_dropout, train.learning_rate) == (8, 16, 0.1, 1e-5)
    assert (train.max_length, train.batch_size) == (1024, 16)
    assert train.doses == [0.5, 1, 1.5, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("preset", [name for name in preset_names() if name != "quickstart"])
def test_large_models_are_asked_the_whole_grid_as_the_study_sampled(preset):
    evaluate = load_config(preset).evaluate
    assert (evaluate.temperature, evaluate.max_new_tokens) == (0.8, 300)
    assert len(evaluate.asked_cells()) == 9 * 4


def test_cells_picks_from_the_grid():
    asked = config_from(None, None, None, None, cells="plain,sad+wrong").evaluate
    assert [cell.name for cell in asked.asked_cells()] == ["plain", "sad+wrong"]
    assert config_from(None, None, None, None, cells="plain,sad+wrong").deciding_cells() == ["sad+wrong"]
    assert config_from(None, None, None, ["gate.cells=[sad]"], cells="plain,sad").deciding_cells() == ["sad"]
    with pytest.raises(InputError, match=r"unknown cell 'sad\+rong'; did you mean 'sad\+wrong'"):
        config_from(None, None, None, None, cells="sad+rong")


def test_a_recipe_of_the_file_gives_way_to_the_files_own_keys(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nrecipe: study\ntrain: {lora_rank: 4}")
    train = load_config(path=str(path)).train
    assert (train.lora_rank, train.lora_alpha) == (4, 16)


def test_a_recipe_of_the_command_line_replaces_the_files_keys_and_gives_way_to_later_ones():
    train = load_config("quickstart", overrides=["recipe=study", "train.lora_rank=4"]).train
    assert (train.learning_rate, train.lora_rank, train.lora_alpha) == (1e-5, 4, 16)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"overrides": ["recipe=studdy"]}, "unknown recipe 'studdy'; did you mean 'study'?"),
        ({"overrides": ["recipe=study", "train=[]"]}, "train: Input should be a valid dictionary"),
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
