import doctest
import re

from sparseoccvla_ros.data.topics import preset_names


def test_worked_example_of_the_conventions(project_root):
    result = doctest.testfile(str(project_root / 'docs' / 'conventions.md'), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0


def test_data_page_names_every_preset(project_root):
    page = (project_root / 'docs' / 'data.md').read_text()
    named = set(re.findall(r'`([a-z0-9_]+)`', page))
    assert set(preset_names()) <= named
