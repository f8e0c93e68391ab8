"""The ``sparseoccvla`` command as a whole."""

import subprocess
import sys


def test_no_command_waits_for_torch_that_does_not_need_it():
    """A fresh process: this one has it already."""
    code = (
        'import sys; import sparseoccvla_ros.cli.main; '
        "print(sorted({'torch', 'transformers', 'rclpy'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout == '[]\n'
