"""A compiled backbone: what it needs, and that it gives what it gave."""

import pytest
import torch
from torch import nn

from nplp.errors import UserError
from nplp.modeling import NPLP
from nplp.modeling.compiling import compile_backbone


@pytest.mark.parametrize("chosen", ["", "mycc"])
def test_without_a_compiler_one_line_says_so(tiny_backbone, monkeypatch, chosen):
    monkeypatch.setenv("CXX", chosen)
    monkeypatch.setattr("shutil.which", lambda name: None)
    model = nn.Module()
    model.backbone = tiny_backbone
    with pytest.raises(
        UserError, match=rf"^MODEL\.COMPILE True needs a C\+\+ .*{chosen or 'clang'}.* False$"
    ):
        compile_backbone(model, torch.device("cpu"))


def test_a_gpu_needs_triton(tiny_backbone, monkeypatch):
    monkeypatch.setattr("nplp.modeling.compiling.find_spec", lambda name: None)
    model = nn.Module()
    model.backbone = tiny_backbone
    with pytest.raises(UserError, match=r"^MODEL\.COMPILE True needs Triton"):
        compile_backbone(model, torch.device("cuda"))


def test_the_backbone_alone_is_compiled_and_weights_keep_their_names(make_cfg, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    model = NPLP(make_cfg())
    names = list(model.state_dict())
    compile_backbone(model, torch.device("cpu"))
    assert compiled == [model.backbone]
    assert list(model.state_dict()) == names


@pytest.mark.long
def test_a_compiled_backbone_gives_what_it_gave(make_cfg):
    torch.manual_seed(0)
    model = NPLP(make_cfg()).double()
    images = torch.rand(4, 3, 64, 32, dtype=torch.float64) * 255
    with torch.no_grad():
        before = model.eval()({"images": images})
        compile_backbone(model, torch.device("cpu"))
        torch.testing.assert_close(model({"images": images}), before)
