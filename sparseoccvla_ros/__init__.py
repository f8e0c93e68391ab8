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
