"""Libraries of the extra `[batch]`, loaded when they are needed."""

from __future__ import annotations

from typing import Any

from ..errors import AmusedError

ADVICE = "pip install 'amused-image[batch]' brings it."


def pyarrow() -> Any:
    """pyarrow with its Parquet part.

    Raises:
        AmusedError: not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise AmusedError(f"Parquet needs pyarrow ({error}); {ADVICE}") from error
    return pyarrow


def fsspec() -> Any:
    """fsspec.

    Raises:
        AmusedError: not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise AmusedError(f"Batch jobs need fsspec ({error}); {ADVICE}") from error
    return fsspec


def filelock() -> Any:
    """filelock.

    Raises:
        AmusedError: not installed.
    """
    try:
        import filelock
    except ImportError as error:
        raise AmusedError(f"Batch jobs need filelock ({error}); {ADVICE}") from error
    return filelock


def progress_bar(**options: Any) -> Any:
    """A bar of tqdm.

    Raises:
        AmusedError: not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise AmusedError(f"Progress needs tqdm ({error}); {ADVICE}") from error
    return tqdm(**options)


def ray() -> Any:
    """ray with its Data part.

    Raises:
        AmusedError: not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise AmusedError(f"--ray needs Ray ({error}); pip install 'amused-image[ray]' brings it.") from error
    return ray
