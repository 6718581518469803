"""A cluster of several Rays on this machine, whose nodes come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

PROGRAMS = Path(sys.executable).parent


class Nodes:
    """A head for the driver and nodes for one worker each."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "dashboard_host": "127.0.0.1"})
        self.workers = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def lose(self) -> None:
        """Kill the newest node with everything on it, without a word."""
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)

    def come(self) -> None:
        self.workers.append(self.cluster.add_node(num_cpus=1))

    def announce_loss(self, seconds: int) -> None:
        """Tell the newest node that it will be taken away, as a cloud does with a spot instance."""
        command = [PROGRAMS / "ray", "drain-node", "--address", self.cluster.address]
        command += ["--node-id", self.workers[-1].node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message", "drill", "--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, check=True, capture_output=True)
