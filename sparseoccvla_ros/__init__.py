"""SparseOccVLA for ROS 2: surround cameras to sparse occupancy, answers, forecast and a trajectory.

The generated message modules (``msg``, ``srv``, ``action``) are installed elsewhere under the same
package name; ``extend_path`` joins both trees, so that a source checkout on ``sys.path`` does not
hide them.
"""

import os
from pkgutil import extend_path

__version__ = '0.1.0'
__path__ = extend_path(__path__, __name__)

# Kilted switches field checks off unless this is set before a message module is imported;
# without them Point(x=1) is silently serialized as 5e-324.
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')

# Read when torch starts its threads. By default they spin while they wait, which on a machine whose cores are busy
# (three workers, DDS, other nodes) takes the time from whoever has work: an encoder pass of 120 ms took 900 and more.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
