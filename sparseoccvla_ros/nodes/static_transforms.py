"""Static transforms from /tf_static: where each camera sits on the vehicle.

tf2_ros is not on PyPI, and a fixed tree needs no interpolation: a chain of parents is all there is to look up.
"""

from __future__ import annotations

import numpy as np
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.nodes.conversions.basic import matrix_from_transform


class StaticTransforms:
    """The static part of the TF tree."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}

    def add(self, message: TFMessage) -> None:
        """Take in the transforms of a message; a later one for the same child replaces the earlier.

        Raises:
            ValueError: a transform is not finite or has a quaternion of zero length.
        """
        for transform in message.transforms:
            parent, child = transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/')
            self._parents[child] = (parent, matrix_from_transform(transform.transform))

    def lookup(self, target: str, source: str) -> np.ndarray | None:
        """``target_from_source`` [4, 4], metres; None if the two frames are not connected."""
        target_chain, source_chain = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in source_chain if frame in target_chain), None)
        if common is None:
            return None
        return inverse(target_chain[common]) @ source_chain[common]

    def _ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """Every ancestor of ``frame``, itself first, with ``ancestor_from_frame``."""
        frame = frame.lstrip('/')
        chain = {frame: np.eye(4)}
        ancestor_from_frame = np.eye(4)
        while frame in self._parents:
            frame, parent_from_child = self._parents[frame]
            if frame in chain:  # a loop in the tree: its frames are connected all the same
                break
            ancestor_from_frame = parent_from_child @ ancestor_from_frame
            chain[frame] = ancestor_from_frame
        return chain
