"""Read one object from any store that Airflow knows, with our errors."""

from __future__ import annotations

from airflow.sdk import ObjectStoragePath

from include.soar.vendor.errors import Unauthorized, Unavailable, Unexpected, WrongConnection


def read_object(vendor: str, operation: str, location: str, *, largest_bytes: int) -> bytes:
    """
    The object's bytes.

    :param location: ``file:///lists/team.txt``, ``s3://conn_id@bucket/team.txt``
    :raises Unavailable: it is not there, or the store does not answer
    :raises Unauthorized: the store refuses; WrongConnection where this Airflow has no file system of that kind
    :raises Unexpected: it is longer than ``largest_bytes``; it is then not read to its end
    """
    try:
        with ObjectStoragePath(location).open("rb") as file:
            content: bytes = file.read(largest_bytes + 1)
    except FileNotFoundError:
        raise Unavailable(vendor, operation, "there is no such object") from None
    except PermissionError:
        raise Unauthorized(vendor, operation, "the store refuses to give the object") from None
    except ValueError:
        scheme = location.partition("://")[0]
        problem = f"no file system for {scheme}:// (is that store's Airflow provider installed?)"
        raise WrongConnection(vendor, operation, problem) from None
    except Exception as error:
        # Every store's client has errors of its own; their texts may hold anything.
        raise Unavailable(vendor, operation, f"the store gave {type(error).__name__}") from None
    if len(content) > largest_bytes:
        raise Unexpected(vendor, operation, f"object is longer than {largest_bytes:,} bytes")
    return content
