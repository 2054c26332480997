"""A local server that speaks the protocol of Google Cloud Storage, for `test_cloud_storage`.

The emulator's own server says nothing of generations, by which TensorStore knows whether what it has read is still
what is there, and on which it makes its writes depend.

    python storage_emulator.py PORT
"""

import sys
from http import HTTPStatus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

BUCKET = "bucket"
MISSING = "0"  # the generation of what is not there

download, insert = objects.download, objects.insert


def generation(storage, bucket: str, name: str) -> str:
    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return MISSING


def download_with_generation(request, response, storage, *rest, **more) -> None:
    current = generation(storage, request.params["bucket_name"], request.params["object_id"])
    response["x-goog-generation"] = current
    if current != MISSING and [current] == request.query.get("ifGenerationNotMatch"):
        response.status = HTTPStatus.NOT_MODIFIED
    else:
        download(request, response, storage, *rest, **more)


def insert_if_unchanged(request, response, storage, *rest, **more) -> None:
    expected = request.query.get("ifGenerationMatch")
    if expected and [generation(storage, request.params["bucket_name"], request.query["name"][0])] != expected:
        response.status = HTTPStatus.PRECONDITION_FAILED
    else:
        insert(request, response, storage, *rest, **more)


if __name__ == "__main__":
    objects.download, objects.insert = download_with_generation, insert_if_unchanged
    from gcp_storage_emulator.server import create_server  # now, for it takes the functions when it is imported

    create_server("localhost", int(sys.argv[1]), in_memory=True, default_bucket=BUCKET).run()
