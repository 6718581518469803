from warmray.config import load_config
from warmray.sweep.intensities import Intensity, distinct_models, instructed_intensities, trained_intensities


def test_the_search_space_is_arms_by_doses_by_strengths():
    config = load_config(overrides=["train.arms=[warm,cold]", "train.doses=[0.5,1]", "sweep.strengths=[0,1]"])
    intensities = trained_intensities(config)
    assert len(intensities) == len(set(intensities)) == 8
    assert Intensity("cold", 0.5, 1.0) in intensities


def test_the_original_model_is_evaluated_once_however_many_trainings_there_are():
    config = load_config(overrides=["train.arms=[warm,cold]", "sweep.strengths=[0,0.5,1]"])
    distinct = distinct_models(trained_intensities(config))
    assert [intensity.strength for intensity in distinct].count(0.0) == 1
    assert len(distinct) == 5


def test_system_prompts_are_arms_without_a_training():
    config = load_config(overrides=["sweep.system_prompts=[cold,warm]"])
    instructed = instructed_intensities(config)
    assert [(i.name, i.dose, i.instruction) for i in instructed] == [
        ("warm_prompt", 0.0, "warm"),
        ("cold_prompt", 0.0, "cold"),
    ]
    assert {i.instruction for i in trained_intensities(config)} == {None}


def test_a_sweep_of_strength_0_alone_trains_nothing():
    assert trained_intensities(load_config(overrides=["sweep.strengths=[0]"])) == []
