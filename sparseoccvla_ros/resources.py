"""Where the files lie that come with the package: configs, message definitions, the shipped weights."""

import os
from pathlib import Path

PACKAGE = 'sparseoccvla_ros'


def share_directory() -> Path:
    """Folder that holds the package's shared files.

    Modules of a source tree read its files, so that an edit counts without a rebuild. Else it is
    ``share/sparseoccvla_ros`` under the prefix whose ``lib/python3.x/site-packages`` holds this module: so do ``pip
    install``, ``make build`` and colcon lay it out, and one installation never reads the files of another.
    """
    module = Path(__file__)
    source_tree = module.resolve().parents[1]
    if (source_tree / 'package.xml').is_file():
        return source_tree
    return module.parents[4] / 'share' / PACKAGE


def share_path(relative: str | os.PathLike[str]) -> Path:
    """Absolute path of a file or folder that comes with the package.

    Args:
        relative: path as in the source tree, for example ``config/model/tiny.yaml``, ``weights/tiny`` or
            ``msg/OccupancyQueries.msg``.

    Raises:
        ValueError: the path is absolute or climbs out of the package.
        FileNotFoundError: it does not exist; the message says where it was looked for.
    """
    path = Path(relative)
    if path.is_absolute() or '..' in path.parts:
        raise ValueError(f'share_path takes a path inside the package, got {str(relative)!r}')
    found = share_directory() / path
    if not found.exists():
        raise FileNotFoundError(f'{path} does not come with {PACKAGE}; there is no {found}')
    return found
