"""The pixels and the features of each protocol against the tools that it is named after."""

import json

import numpy as np
import pytest
from made import noise

from inception.metrics import protocols
from inception.metrics.protocols import PROTOCOLS

SIZES = [(32, 32), (64, 64), (256, 256), (299, 299), (512, 512), (75, 300), (341, 200)]


def theirs(name, pixels):
    """What a tool gives its network: float32 [299, 299, 3]."""
    torch = pytest.importorskip("torch")
    planes = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    halves = {"size": (299, 299), "mode": "bilinear", "align_corners": False}
    if name in ("ttur", "adm", "torch-fidelity"):
        tool = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
        made = (
            tool.interpolate_bilinear_2d_like_tensorflow1x(planes.float(), size=(299, 299), align_corners=False) - 128
        ) / 128
    elif name == "pytorch-fid":
        made = 2 * torch.nn.functional.interpolate(planes.float() / 255, **halves) - 1
    elif name == "torchmetrics":
        made = (torch.nn.functional.interpolate(planes.float(), antialias=True, **halves) - 128) / 128
    elif name in ("clean", "clean-legacy-pytorch"):
        resize = pytest.importorskip("cleanfid.resize").build_resizer(name.replace("-", "_").removeprefix("clean_"))
        array = resize(pixels)
        return (array - 128) / 128 if name == "clean" else 2 * (array / 255) - 1
    else:  # NVIDIA's detector, in its own words
        height, width = pixels.shape[:2]
        move = [[[1, 0, 1 / width - 1 / 299], [0, 1, 1 / height - 1 / 299]]]
        grid = torch.nn.functional.affine_grid(torch.tensor(move), [1, 3, 299, 299], align_corners=False)
        made = torch.nn.functional.grid_sample(planes.float(), grid, "bilinear", "border", align_corners=False)
        made = (made - 128) / 128
    return made[0].numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_network_is_fed_what_the_tool_feeds_it(name, size):
    pixels = noise(*size, 3)
    ours = PROTOCOLS[name].picture.input(pixels)
    bits = PROTOCOLS[name].picture.resize in ("tensorflow1", "pillow_bicubic")
    np.testing.assert_allclose(ours, theirs(name, pixels), rtol=0, atol=0 if bits else 6e-7)


@pytest.mark.parametrize("name", ["adm", "clean", "edm"])
def test_at_299_pixels_all_but_two_ways_leave_a_picture_alone(name):
    pixels = noise(299, 299, 3)
    change = np.abs(PROTOCOLS[name].picture.resized(pixels) - pixels).max()
    assert (0 < change < 0.1) if name == "edm" else change == 0


def test_ten_protocols_need_five_passes_and_are_json():
    assert len(PROTOCOLS) == 10 and len({each.picture for each in PROTOCOLS.values()}) == 5
    for protocol in PROTOCOLS.values():
        said = json.loads(json.dumps(protocol.json()))
        assert said["ddof"] == protocol.ddof and said["picture"]["resize"] == protocol.picture.resize
    assert not any(each.picture.upright or each.picture.crop != 1 for each in PROTOCOLS.values())
    assert [name for name, each in PROTOCOLS.items() if each.ddof == 0] == ["stylegan"]


def test_protocols_are_named_with_commas():
    assert [each.name for each in protocols.named("all")] == list(PROTOCOLS)
    assert protocols.named("adm, clean") == (PROTOCOLS["adm"], PROTOCOLS["clean"])
    with pytest.raises(ValueError, match="Unknown protocol 'fid'; expected all, or some of ttur, "):
        protocols.named("adm,fid")
