import io
import random
import zipfile

import pytest
import torch

from compass.errors import InputError
from compass.training.checkpoints import BrokenWeights, Checkpoints, Progressed, read_checkpoint
from compass.training.seal import seal, sealed


def saved(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    seal(file)
    return file.getvalue()


def test_a_sealed_file_is_still_one_of_torch():
    data = saved({"w": torch.arange(5.0)})
    assert sealed(data) == (True, True)
    assert torch.equal(torch.load(io.BytesIO(data), weights_only=True)["w"], torch.arange(5.0))
    assert zipfile.ZipFile(io.BytesIO(data)).comment.startswith(b"compass sha256 ")


def test_a_file_without_a_seal_counts_as_whole():
    file = io.BytesIO()
    torch.save({"w": torch.arange(5.0)}, file)
    assert sealed(file.getvalue()) == (False, True)
    assert sealed(b"") == (False, True)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"x" * 99])
def test_only_an_archive_can_be_sealed(data):
    with pytest.raises(ValueError, match="no ZIP archive without a comment"):
        seal(io.BytesIO(data))
    twice = io.BytesIO(saved({}))
    with pytest.raises(ValueError, match="no ZIP archive without a comment"):
        seal(twice)


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    model = {"w": torch.randn(300, generator=torch.Generator().manual_seed(1))}
    checkpoints.write_best(spec, 0.5, model)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    draw = random.Random(3)
    places = {
        *draw.sample(range(8 * len(whole)), 300),
        *range(8 * (len(whole) - 120), 8 * len(whole)),
    }  # all of the end
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="expected an undamaged checkpoint of `compass train`"):
            read_checkpoint(path)


def test_a_mask_may_be_infinite(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, 1, buffers=["mask"])
    checkpoints.write(
        spec, Progressed(n_batches=1), {"w": torch.ones(2), "mask": torch.tensor([0.0, -torch.inf])}, {}, []
    )
    assert Checkpoints(tmp_path, 1).newest() is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_resumed_from(tmp_path, spec, value, caplog, monkeypatch):
    from compass.training import checkpoints as module

    checkpoints = Checkpoints(tmp_path, keep_last=5)
    good, bad = {"w": torch.ones(2), "n": torch.tensor(3)}, {"w": torch.tensor([1.0, value])}
    progressed = module.Progressed
    checkpoints.write(spec, progressed(n_batches=1), good, {}, [])
    for write in (
        lambda: checkpoints.write_best(spec, 0.5, bad),
        lambda: checkpoints.write(spec, progressed(n_batches=2), bad, {}, []),
    ):
        with pytest.raises(BrokenWeights, match="w is no longer finite"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["batch-000000001.ckpt"]
    monkeypatch.setattr(module, "not_finite", lambda _: "")
    checkpoints.write(spec, progressed(n_batches=2), bad, {}, [])  # as an older version did
    monkeypatch.undo()
    assert torch.equal(checkpoints.newest()["model"]["w"], torch.ones(2))
    assert "w is not finite (using the checkpoint before it)" in caplog.text
