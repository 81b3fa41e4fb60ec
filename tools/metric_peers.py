"""Other people's tools for `metrics_parity.py`: the features and the metrics of each protocol, by the tool's own code.

A tool that no package has is its definition here (marked with a star): TTUR and ADM behind TensorFlow's own run of the
graph of 2015; NVIDIA's, which clean-fid takes too, behind its detector's resize and pytorch-fid's network.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ |= {"TQDM_DISABLE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import torch  # before TensorFlow, beside which torchvision crashes as it loads
import torchvision  # noqa: F401
from cleanfid import features as clean_features
from cleanfid import fid as clean_fid
from cleanfid import inception_pytorch as clean_network
from cleanfid import inception_torchscript as clean_script
from PIL import Image
from pytorch_fid import fid_score
from pytorch_fid import inception as torch_network
from scipy import linalg
from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
from torch_fidelity import utils as torch_fidelity
from torchmetrics.image import FrechetInceptionDistance, InceptionScore, KernelInceptionDistance
from torchmetrics.image.fid import NoTrainInceptionV3

from inception.weights import Weights

POOLED, LOGITS, MAPS = "2048", "logits_unbiased", "sFID"
Features = dict[str, np.ndarray]  # POOLED [n, 2048], and what else the tool has
Tool = Callable[[Path], Features]  # of a folder of pictures, in the order of their names
Metric = Callable[[Features, Features], Sequence[float]]  # of generated ones and a reference
CPU = torch.device("cpu")
SUBSETS = 20  # of KID; 100 by themselves

# --- Features ----------------------------------------------------------------------------


def tools(weights: Weights, file: Path) -> dict[str, Tool]:
    """{protocol: the tool's features}; `file` has the weights as pytorch-fid's. Some protocols share a tool."""
    for module in (torch_network, clean_network):
        module.load_state_dict_from_url = module.load_url = lambda *_, **__: torch.load(file)
    clean_script.check_download_inception = lambda **_: None
    clean_script.torch.jit.load = lambda _: Detector()
    graph, detector = graph_of_2015(weights), with_logits(clean("legacy_tensorflow"), file)
    return {
        "ttur*": graph,
        "pytorch-fid": pytorch_fid(),
        "clean": clean("clean"),
        "clean-legacy-tensorflow": detector,
        "clean-legacy-pytorch": clean("legacy_pytorch"),
        "torch-fidelity": of_torch_fidelity(file),
        "torchmetrics": of_torchmetrics(file),
        "adm*": graph,
        "stylegan*": detector,
        "edm*": detector,
    }


class Detector(torch.nn.Module):  # type: ignore[misc]
    """NVIDIA's TorchScript: its resize and scaling, and pytorch-fid's network as its layers."""

    def __init__(self) -> None:
        super().__init__()
        network = torch_network.InceptionV3([3], resize_input=False, normalize_input=False).eval()
        self.layers = torch.nn.Sequential(network, First())

    def forward(self, x: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        height, width = x.shape[2:]
        move = torch.tensor([[[1, 0, 1 / width - 1 / 299], [0, 1, 1 / height - 1 / 299]]])
        grid = torch.nn.functional.affine_grid(move, [1, 3, 299, 299], align_corners=False)
        x = torch.nn.functional.grid_sample(x.float(), grid, "bilinear", "border", align_corners=False)
        return self.layers((x - 128) / 128)


class First(torch.nn.Module):  # type: ignore[misc]
    """Of a list of outputs."""

    def forward(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        return outputs[0]


def graph_of_2015(weights: Weights) -> Tool:
    import tensorflow as tf
    from frozen import Graph2015

    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(Graph2015(weights).graph, name="")
    names = {POOLED: "pool_3/_reshape:0", LOGITS: "softmax/logits/MatMul:0", MAPS: "mixed_6/conv:0"}

    def run(folder: Path) -> Features:
        with tf.compat.v1.Session(graph=graph) as session:
            each = [session.run(names, {"ExpandDims:0": x[None].astype(np.float32)}) for x in pixels(folder)]
        made = {name: np.concatenate([one[name] for one in each]) for name in names}
        return made | {MAPS: made[MAPS][..., :7].reshape(len(each), -1)}

    return run


def pytorch_fid() -> Tool:
    model = torch_network.InceptionV3([3])
    return lambda folder: {POOLED: fid_score.get_activations(listed(folder), model, 1, num_workers=0)}


def clean(mode: str) -> Tool:
    model = clean_features.build_feature_extractor(mode, CPU, use_dataparallel=False)
    options = {"num_workers": 0, "batch_size": 1, "device": CPU, "mode": mode, "verbose": False}
    return lambda folder: {POOLED: clean_fid.get_folder_features(str(folder), model, **options)}


def with_logits(tool: Tool, file: Path) -> Tool:
    """NVIDIA's output without its bias."""
    kernel = torch.load(file)["fc.weight"].numpy().T

    def run(folder: Path) -> Features:
        features = tool(folder)
        return features | {LOGITS: features[POOLED] @ kernel}

    return run


def of_torch_fidelity(file: Path) -> Tool:
    options = {"feature_extractor_weights_path": str(file), "cuda": False, "verbose": False, "batch_size": 1}
    network = torch_fidelity.create_feature_extractor("inception-v3-compat", [POOLED, LOGITS], **options)
    read = torch_fidelity.extract_featuresdict_from_input_id_cached
    return lambda folder: {name: x.numpy() for name, x in read(1, network, input1=str(folder), **options).items()}


def of_torchmetrics(file: Path) -> Tool:
    network = NoTrainInceptionV3("inception-v3-compat", [POOLED, LOGITS], str(file))

    def run(folder: Path) -> Features:
        planes = (torch.from_numpy(x.transpose(2, 0, 1).copy())[None] for x in pixels(folder))
        with torch.no_grad():
            each = [network._torch_fidelity_forward(x) for x in planes]
        return {name: torch.cat([one[i] for one in each]).numpy() for i, name in enumerate((POOLED, LOGITS))}

    return run


def listed(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def pixels(folder: Path) -> Iterator[np.ndarray]:
    return (np.asarray(Image.open(path)) for path in listed(folder))


# --- Metrics -----------------------------------------------------------------------------

_roots: dict[bytes, Any] = {}
_sqrtm = linalg.sqrtm


def root(matrix: np.ndarray, **options: Any) -> Any:
    """SciPy's own `sqrtm`, which takes half a minute; several tools ask for the same one."""
    key = hashlib.sha256(np.ascontiguousarray(matrix).tobytes()).digest()
    if key not in _roots:
        _roots[key] = _sqrtm(matrix)
    return (_roots[key], 0) if options else _roots[key]


linalg.sqrtm = root


def own(size: int) -> dict[str, dict[str, Metric]]:
    """{protocol: {metric: the tool's own}}; `size`: of KID's subsets."""
    clean = {"FID": clean_distance, "KID": clean_kid(size)}
    means = [[f"{name}_{m}" for m in ("mean", "std")] for name in ("kernel_inception_distance", "inception_score")]
    return {
        "ttur*": {"FID": formula(1)},
        "pytorch-fid": {"FID": pytorch_fid_distance},
        "clean": clean,
        "clean-legacy-tensorflow": clean,
        "clean-legacy-pytorch": clean,
        "torch-fidelity": {
            "FID": torch_fidelity_distance,
            "KID": of_dictionary(
                metric_kid.kid_features_to_metric, means[0], verbose=False, kid_subset_size=size, kid_subsets=SUBSETS
            ),
            "IS": of_dictionary(metric_isc.isc_features_to_metric, means[1], LOGITS, 1),
            "precision, recall": of_dictionary(
                metric_prc.prc_features_to_metric, ["precision", "recall"], verbose=False
            ),
        },
        "torchmetrics": {
            "FID": of_class(FrechetInceptionDistance),
            "KID": of_class(lambda network: KernelInceptionDistance(network, SUBSETS, size)),
            "IS": of_class(InceptionScore, LOGITS, 1),
        },
        "adm*": {
            "FID": formula(1, kind=np.float32),
            "sFID": formula(1, MAPS, np.float32),
            "IS": score(lambda n: [*range(0, n, 5000), n]),
            "precision, recall": balls,
        },
        "stylegan*": {
            "FID": formula(0),
            "KID": clean_kid(size),
            "IS": score(lambda n: [i * n // 10 for i in range(11)]),
        },
        "edm*": {"FID": formula(1)},
    }


def formula(ddof: int, part: str = POOLED, kind: type = np.float64) -> Metric:
    """FID with SciPy's root; the means are taken in `kind`."""

    def run(x: Features, y: Features) -> Sequence[float]:
        means = [z[part].astype(kind).mean(axis=0).astype(np.float64) for z in (x, y)]
        a, b = (np.cov(z[part], rowvar=False, ddof=ddof) for z in (x, y))
        return [np.sum((means[0] - means[1]) ** 2) + np.trace(a) + np.trace(b) - 2 * np.trace(root(a @ b).real)]

    return run


def pytorch_fid_distance(x: Features, y: Features) -> Sequence[float]:
    moments = ((np.mean(z[POOLED], axis=0), np.cov(z[POOLED], rowvar=False)) for z in (x, y))
    return [fid_score.calculate_frechet_distance(*next(moments), *next(moments))]


def clean_distance(x: Features, y: Features) -> Sequence[float]:
    return [clean_fid.fid_from_feats(x[POOLED], y[POOLED])]


def torch_fidelity_distance(x: Features, y: Features) -> Sequence[float]:
    moments = (metric_fid.fid_features_to_statistics(torch.from_numpy(z[POOLED])) for z in (x, y))
    return [*metric_fid.fid_statistics_to_metric(*moments, False).values()]


def clean_kid(size: int) -> Metric:
    def run(x: Features, y: Features) -> Sequence[float]:
        np.random.seed(0)
        return [clean_fid.kernel_distance(y[POOLED], x[POOLED], num_subsets=SUBSETS, max_subset_size=size)]

    return run


def of_dictionary(
    function: Callable[..., dict[str, float]], names: Sequence[str], part: str = POOLED, sets: int = 2, **options: Any
) -> Metric:
    def run(*sides: Features) -> Sequence[float]:
        values = function(*(torch.from_numpy(side[part]) for side in sides[:sets]), **options)
        return [values[name] for name in names]

    return run


def of_class(make: Callable[[torch.nn.Module], Any], part: str = POOLED, sets: int = 2) -> Metric:
    """A class of torchmetrics that is fed features. Its unseeded draws come from NumPy's generator, as our record's."""

    def run(*sides: Features) -> Sequence[float]:
        state = np.random.RandomState(0)
        torch.randperm = lambda n: torch.from_numpy(state.permutation(n))
        network = torch.nn.Identity()
        network.num_features = sides[0][part].shape[1]
        metric = make(network)
        for side, real in zip(sides[:sets], (False, True), strict=False):
            metric.update(torch.from_numpy(side[part]), **({"real": real} if sets == 2 else {}))
        return [*map(float, np.ravel(metric.compute()))]

    return run


def score(edges: Callable[[int], Sequence[int]]) -> Metric:
    """The Inception Score's definition."""

    def run(x: Features, _: Features) -> Sequence[float]:
        p = torch.from_numpy(x[LOGITS]).double().softmax(dim=1).numpy()
        parts = [p[start:stop] for start, stop in pairwise(edges(len(p)))]
        scores = [np.exp(np.mean(np.sum(q * np.log(q / q.mean(axis=0)), axis=1))) for q in parts]
        return [float(np.mean(scores)), float(np.std(scores))]

    return run


def balls(x: Features, y: Features) -> Sequence[float]:
    """Precision and recall's definition, k = 3, from differences in float64. (ADM itself rounds to float16.)"""
    a, b = (torch.from_numpy(z[POOLED].astype(float)) for z in (x, y))
    far = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    radii, distances = [far(z, z).kthvalue(4).values for z in (a, b)], far(a, b)
    found, recalled = (distances <= radii[1]).any(1), (distances <= radii[0][:, None]).any(0)
    return [float(inside.double().mean()) for inside in (found, recalled)]
