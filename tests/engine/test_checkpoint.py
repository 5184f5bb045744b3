"""Checkpoints are whole or absent; weights fit or are refused."""

import pickle

import pytest
import torch
from torch import nn

from nplp.engine.checkpoint import AtomicCheckpointer, load_weights, read_checkpoint
from nplp.errors import UserError


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_last_two_epochs_are_kept(model, tmp_path):
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    for epoch in range(4):
        checkpointer.save_epoch(epoch, iter=10 * epoch)
    last, before = checkpointer.files()
    assert {last, before} == set(tmp_path.glob("*.pth"))
    assert last.name.startswith("epoch_0004_step_000000-")
    assert before.name.startswith("epoch_0003_step_000000-")
    assert (tmp_path / "last_checkpoint").read_text() == last.name
    other = AtomicCheckpointer(nn.Linear(3, 2), str(tmp_path))
    state = other.load(other.get_checkpoint_file())
    assert (state["epoch"], state["step"], state["iter"]) == (4, 0, 30)


def test_what_a_kill_left_half_written_is_removed_by_the_next_save(model, tmp_path):
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    (tmp_path / "epoch_0001_step_000000.pth.part").write_bytes(b"half")
    assert not checkpointer.has_checkpoint()
    checkpointer.save_epoch(0, iter=1)
    assert not list(tmp_path.glob("*.part"))


def test_a_step_lies_between_two_epochs(model, tmp_path):
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    checkpointer.save_epoch(8, iter=1)
    checkpointer.save_step(9, 12, iter=2)
    assert checkpointer.files()[0].name.startswith("epoch_0009_step_000012-")
    checkpointer.save_epoch(9, iter=3)
    assert checkpointer.files()[0].name.startswith("epoch_0010_step_000000-")


def test_a_failed_write_leaves_the_old_checkpoint(model, tmp_path, monkeypatch):
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    checkpointer.save_epoch(0, iter=1)
    [path] = checkpointer.files()
    content = path.read_bytes()

    def torn(data, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(UserError, match="no space left"):
        checkpointer.save_epoch(0, iter=2)
    assert path.read_bytes() == content
    assert checkpointer.get_checkpoint_file() == str(path)
    assert not list(tmp_path.glob("*.part"))


def test_clear_forgets_the_checkpoints_and_nothing_else(model, tmp_path):
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    checkpointer.save_epoch(0)
    (tmp_path / "model_final.pth").touch()
    checkpointer.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["model_final.pth"]
    assert not checkpointer.has_checkpoint()


def test_weights_round_trip_with_and_without_the_model_key(model, tmp_path):
    for name, content in (("a.pth", {"model": model.state_dict()}), ("b.pth", model.state_dict())):
        torch.save(content, tmp_path / name)
        other = nn.Linear(3, 2)
        load_weights(other, str(tmp_path / name))
        torch.testing.assert_close(other.weight, model.weight)


def test_optional_keys_may_be_missing_or_left_over(model, tmp_path):
    weights = {**model.state_dict(), "extra.weight": torch.zeros(7)}
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"'extra\.weight', which the model has not"):
        load_weights(nn.Linear(3, 2), str(tmp_path / "w.pth"))
    load_weights(nn.Linear(3, 2), str(tmp_path / "w.pth"), optional=("extra.",))


class _RunsCode:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, model: None, "do not exist"),
        (lambda path, model: path.write_bytes(b""), "it is empty"),
        (lambda path, model: path.write_bytes(bytes(range(256)) * 8), "cannot be read as weights"),
        (lambda path, model: path.write_text("no weights"), "cannot be read as weights"),
        (lambda path, model: torch.save([1, 2], path), "holds a list"),
        (lambda path, model: torch.save({"weight": model.weight.data}, path), "lacks 'bias'"),
        (
            lambda path, model: torch.save({"weight": torch.zeros(5, 3), "bias": torch.zeros(2)}, path),
            r"'weight' is \(5, 3\) in the file and \(2, 3\) in the model",
        ),
        (lambda path, model: path.write_bytes(pickle.dumps(_RunsCode())), "would run code"),
        (lambda path, model: torch.save({"model": _RunsCode()}, path), "would run code"),
    ],
)
def test_what_does_not_fit_is_one_line(model, tmp_path, make, message):
    path = tmp_path / "weights.pth"
    make(path, model)
    with pytest.raises(UserError, match=message) as caught:
        load_weights(model, str(path))
    assert "\n" not in str(caught.value)


def test_a_truncated_checkpoint_is_noticed(model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="torn"):
        read_checkpoint(str(path))


def test_a_damaged_checkpoint_is_not_one_of_the_two_that_are_kept(model, tmp_path):
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    for epoch in range(2):
        checkpointer.save_epoch(epoch, iter=epoch)
    whole = checkpointer.files()[0]
    damaged = tmp_path / f"epoch_0009_step_000000-{'0' * 16}.pth"
    damaged.write_bytes(b"torn")
    resumed = AtomicCheckpointer(nn.Linear(3, 2), str(tmp_path))
    resumed.load(resumed.get_checkpoint_file())
    resumed.save_epoch(2, iter=2)
    assert [path.name[:10] for path in resumed.files()] == ["epoch_0003", "epoch_0002"]
    assert whole in resumed.files()
    assert not damaged.exists()


def test_nothing_is_removed_before_two_are_known_to_be_whole(model, tmp_path):
    first = AtomicCheckpointer(model, str(tmp_path))
    for epoch in range(2):
        first.save_epoch(epoch, iter=epoch)
    second = AtomicCheckpointer(model, str(tmp_path))
    second.save_epoch(2, iter=2)
    assert len(second.files()) == 3


@pytest.mark.parametrize(
    "other", [nn.Linear(4, 2), nn.Linear(3, 2, bias=False), nn.Sequential(nn.Linear(3, 2))], ids=str
)
def test_a_run_goes_on_with_its_own_weights_alone(model, tmp_path, other):
    AtomicCheckpointer(model, str(tmp_path)).save_epoch(0, iter=1)
    resumed = AtomicCheckpointer(other, str(tmp_path))
    with pytest.raises(UserError, match="does not fit this configuration's model") as caught:
        resumed.load(resumed.get_checkpoint_file())
    assert "\n" not in str(caught.value)


def test_one_altered_bit_of_a_weight_is_noticed(model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    content = bytearray(path.read_bytes())
    content[content.index(model.weight.detach().numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="was altered"):
        load_weights(nn.Linear(3, 2), str(path))
