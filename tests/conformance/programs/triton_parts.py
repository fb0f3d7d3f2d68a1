"""What tritonclient's programs over REST and over gRPC share: its clients differ only in the modules they come from."""

import numpy as np
from tritonclient.utils import InferenceServerException

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
TEXTS = np.array([[b"a", b""], ["ü".encode(), b"\x00"]], object)


def tensor_of(kind, name, array, datatype, **options):
    made = kind.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **options)
    return made


def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error
    raise AssertionError("it was not refused")


def check_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("twice")
    assert client.is_model_ready("twice", "1")
    assert not client.is_model_ready("twice", "7")
    assert not client.is_model_ready("nothing")
