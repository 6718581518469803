import copy
import re
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())


def _validate(cluster) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_ray_accepts_the_cluster_file_offline():
    _validate(CLUSTER)


def test_that_validation_can_fail():
    with pytest.raises(Exception, match="head_node_type"):
        _validate(CLUSTER | {"head_node_type": "nobody"})


def test_the_image_has_the_ray_that_is_pinned():
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned
    assert CLUSTER["docker"]["image"].startswith(f"rayproject/ray:{pinned[1]}-py311")


def test_only_the_head_runs_drivers_and_it_has_no_gpu():
    head = CLUSTER["available_node_types"]["head"]["resources"]
    gpu = CLUSTER["available_node_types"]["gpu"]["resources"]
    assert (head["GPU"], head["TRAIN_DRIVER_RESOURCE"]) == (0, 1)
    assert gpu["GPU"] > 0
    assert "TRAIN_DRIVER_RESOURCE" not in gpu
