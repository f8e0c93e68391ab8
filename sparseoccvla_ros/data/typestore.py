"""Message definitions for reading and writing bags without a ROS installation."""

from __future__ import annotations

import functools

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from sparseoccvla_ros.resources import PACKAGE, share_path


@functools.cache
def package_typestore() -> Typestore:
    """Standard messages (Kilted's) and this package's own (``msg/*.msg``): the ones used here are the same in Jazzy."""
    store = get_typestore(Stores.ROS2_KILTED)
    own = {}
    for path in sorted(share_path('msg').glob('*.msg')):
        own.update(get_types_from_msg(path.read_text(encoding='utf-8'), f'{PACKAGE}/msg/{path.stem}'))
    store.register(own)
    return store
