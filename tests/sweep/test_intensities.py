from warmray.config import load_config
from warmray.sweep.intensities import Intensity, intensities_of
from warmray.sweep.run import _distinct


def test_the_search_space_is_arms_by_doses_by_strengths():
    config = load_config(overrides=["train.arms=[warm,cold]", "train.doses=[0.5,1]", "sweep.strengths=[0,1]"])
    intensities = intensities_of(config)
    assert len(intensities) == len(set(intensities)) == 8
    assert Intensity("cold", 0.5, 1.0) in intensities


def test_the_original_model_is_evaluated_once_however_many_trainings_there_are():
    config = load_config(overrides=["train.arms=[warm,cold]", "sweep.strengths=[0,0.5,1]"])
    distinct = _distinct(intensities_of(config))
    assert [intensity.strength for intensity in distinct].count(0.0) == 1
    assert len(distinct) == 5
